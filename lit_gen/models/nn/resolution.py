"""Resolutions of convolutional networks."""

from collections.abc import Mapping, Sequence

from lit_gen.core.errors import UserError


def doublings(network: str, shape: Sequence[int], width: int, sizes: Mapping[int, int]) -> int:
    """How often the resolution doubles between the innermost maps and the image.

    Args:
        network: the family's name, for the message.
        shape: image shape (C, H, W).
        width: the network's width.
        sizes: image side to doublings.

    Raises:
        UserError: for a width below 1 or a shape whose sides are not one of ``sizes``.
    """
    if width < 1:
        raise UserError(f"{network}: width {width} was found, a whole number of at least 1 is expected")
    _, height, breadth = shape
    if height != breadth or height not in sizes:
        raise UserError(
            f"{network}: images of {height}x{breadth} were found, but sizes {', '.join(map(str, sizes))} (square) are "
            f"expected; data.resize sets the shorter side and data.crop cuts a square, or choose another network"
        )
    return sizes[height]
