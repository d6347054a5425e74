"""Large images through a network tile by tile, in the memory of one tile, equal to the whole.

A pixel of the output depends on source pixels within the network's radius. A tile is run with at least that many pixels
around it, or up to the image's border, and only its own pixels are kept. Tiles begin at multiples of the network's
multiple, so that its halvings fall on the same pixels as in the whole.
"""

from torch import Tensor, nn

from lit_gen.core.blame import named
from lit_gen.core.errors import UserError, note
from lit_gen.core.options import at_least, not_negative
from lit_gen.models.image_to_image.sizes import applied, multiple_of, padded, radius_of

__all__ = ["tiled"]


def tiled(network: nn.Module, x: Tensor, tile: int, border: int | None = None) -> Tensor:
    """The network's output for images of any size, as `lit_gen.models.image_to_image.sizes.applied` gives it.

    The network is in evaluation mode: batch norm would make every tile another network.

    Args:
        network: from images to images.
        x: images (B, C, h, w).
        tile: side of the squares that are kept, in source pixels; rounded up to a multiple of the network's.
        border: source pixels around each, rounded up too; None for the network's radius. With fewer the result is an
            approximation, which a note says once.

    Returns:
        (B, C', scale h, scale w).

    Raises:
        UserError: for a network whose pixels depend on the whole image, unless a border is given.
    """
    at_least(1, tile=tile)
    not_negative(border=border)
    if max(x.shape[2:]) <= tile:
        return applied(network, x)
    around = _border(network, border)
    multiple, scale = multiple_of(network), 1
    height, breadth = x.shape[2:]
    whole = padded(x, multiple)
    side, around = (n + -n % multiple for n in (tile, around))
    if side + 2 * around >= max(whole.shape[2:]):
        return applied(network, x)  # with its border each tile would be the whole
    rows, columns = (_pieces(n, side, around) for n in whole.shape[2:])
    out: Tensor | None = None
    for top, row, window_top, tall in rows:
        for left, column, window_left, wide in columns:
            made = network(whole[..., window_top : window_top + tall, window_left : window_left + wide])
            if out is None:
                scale = made.shape[3] // wide
                out = made.new_empty(*made.shape[:2], whole.shape[2] * scale, whole.shape[3] * scale)
            y, x0 = (scale * n for n in (top - window_top, left - window_left))
            kept = made[..., y : y + scale * row, x0 : x0 + scale * column]
            out[..., scale * top : scale * (top + row), scale * left : scale * (left + column)] = kept
    assert out is not None
    return out[..., : height * scale, : breadth * scale]


def _pieces(size: int, side: int, around: int) -> list[tuple[int, int, int, int]]:
    """How one side is cut: for each piece its beginning and length, and those of the window that it is run with.

    All windows have the same length: at the image's borders they are moved inward.
    """
    window = min(size, side + 2 * around)
    starts = range(0, size, side)
    return [(at, min(side, size - at), min(max(at - around, 0), size - window), window) for at in starts]


def _border(network: nn.Module, border: int | None) -> int:
    """The border to use.

    Raises:
        UserError: where none would be enough, and none is given.
    """
    radius = radius_of(network)
    if border is None and radius is None:
        raise UserError(
            f"tile: in {named(network)} every output pixel depends on the whole image (instance norm, attention), or "
            f"it has no attribute radius that says on how much; whole images (null) are expected, or a border, which "
            f"makes tiles an approximation"
        )
    if border is None:
        assert radius is not None
        return radius
    if radius is None or border < radius:
        needs = "the whole image" if radius is None else f"{radius} pixels on each side"
        note(
            f"border: {border} pixels were found, {named(network)} sees {needs}; the tiles only come near to the whole"
        )
    return border
