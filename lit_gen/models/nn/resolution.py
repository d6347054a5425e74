"""Resolutions of convolutional networks."""

from collections.abc import Sequence

from lit_gen.core.errors import UserError
from lit_gen.core.options import whole_number

_DOUBLINGS = {28: 2, 32: 3, 64: 4}  # image side -> doublings, from 7x7 for 28 and from 4x4 for the others


def doublings(network: str, shape: Sequence[int], width: int, sides: Sequence[int] = tuple(_DOUBLINGS)) -> int:
    """How often the resolution doubles between the innermost maps and the image.

    Args:
        network: the network's name, for the message.
        shape: image shape (C, H, W).
        width: the network's width.
        sides: image sides that the network takes, of 28, 32 and 64.

    Raises:
        UserError: for a width below 1 or a shape whose sides are not one of ``sides``.
    """
    if width < 1:
        raise UserError(f"{network}: width {width} was found, {whole_number(1)} is expected")
    _, height, breadth = shape
    if height != breadth or height not in sides:
        raise UserError(
            f"{network}: images of {height}x{breadth} were found, but sizes {', '.join(map(str, sides))} (square) are "
            f"expected; data.resize sets the shorter side and data.crop cuts a square, or choose another network"
        )
    return _DOUBLINGS[height]
