"""Contours of images, from which a network paints what lies within: edges to digits."""

from torch import Tensor
from torch.nn import functional as F

from lit_gen.core.images import quantize
from lit_gen.core.options import expect
from lit_gen.data.images.degradations import Degradation, Observed, Rows


class Edges(Degradation):
    """White lines, one pixel wide, around what is bright, on black: of one channel, deterministic.

    A pixel is white if it is dark and one of the eight around it is bright, in any channel: the dilation of the bright
    part by a square of 3x3 pixels, without the bright part itself (its external gradient).

    Args:
        threshold: the level, 1 to 255, from which on a pixel is bright.
    """

    def __init__(self, threshold: int = 128) -> None:
        expect(1 <= threshold <= 255, "data.degradation.threshold", threshold, "a level from 1 to 255")
        self.threshold = threshold
        self.name = f"edges at {threshold}"

    def __call__(self, images: Tensor, rows: Rows) -> Observed:
        """See `Degradation`."""
        bright = (quantize(images) >= self.threshold).to(images.dtype)
        around = F.max_pool2d(bright, 3, stride=1, padding=1) - bright
        return Observed(around.amax(1, keepdim=True) * 2 - 1)
