"""How far a convolutional network sees, by arithmetic along one side of an image.

A *reach* (2, N) holds, for each of N positions of some maps, the first and the last source pixel that they depend on:
the first with its sign turned, so that the union of intervals is their maximum. A network's reach follows its layers
one by one, with the maximum in place of each sum.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["convolved", "radius_of", "repeated", "transposed"]


def _padded(reach: Tensor, before: int, after: int) -> Tensor:
    return F.pad(reach, (before, after), value=-math.inf)  # zeros depend on nothing


def convolved(reach: Tensor, kernel: int, stride: int = 1, padding: int | None = None, reflect: bool = False) -> Tensor:
    """What a convolution makes of a reach.

    Args:
        reach: (2, N).
        kernel: its size.
        stride: its stride.
        padding: on both sides; None for (kernel - 1) / 2.
        reflect: the padding is a reflection, else zeros.
    """
    by = kernel // 2 if padding is None else padding
    wide = F.pad(reach[None], (by, by), mode="reflect")[0] if reflect else _padded(reach, by, by)
    return F.max_pool1d(wide[None], kernel, stride)[0]


def transposed(reach: Tensor, kernel: int) -> Tensor:
    """What a transposed convolution that doubles the side makes of a reach: stride 2, padding 1, kernel 3 or 4."""
    apart = torch.full((2, 2 * reach.shape[1] - 1), -math.inf, device="cpu")
    apart[:, ::2] = reach
    return F.max_pool1d(_padded(apart, kernel - 2, 2)[None], kernel, 1)[0]


def repeated(reach: Tensor, factor: int) -> Tensor:
    """What nearest upsampling makes of a reach, or a shuffle of channels into pixels."""
    return reach.repeat_interleave(factor, 1)


def radius_of(through: Callable[[Tensor], Tensor], multiple: int, scale: int = 1) -> int:
    """The most source pixels that an output pixel depends on to one side of itself, or of the pixel that it lies in.

    Pixels at the borders count, where a reflection may look further back than the middle of the image does.

    Args:
        through: the reach (2, N) of N source pixels to that of the network's output, (2, scale * N).
        multiple: the network takes sides that are multiples of it.
        scale: the output's side over the source's.
    """
    size = 8 * multiple
    while True:
        at = torch.arange(size, dtype=torch.float32, device="cpu")  # exact up to 2^24
        first, last = through(torch.stack([-at, at]))
        here = at.repeat_interleave(scale)
        found = int(torch.maximum(here + first, last - here).max())
        if size > 2 * (found + multiple):
            return found
        size *= 2  # the image may have cut it off
