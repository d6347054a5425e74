"""Images of any size through a network that takes multiples of some number: padded, and cut back."""

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

__all__ = ["ImageNetwork", "applied", "padded"]


class ImageNetwork(Protocol):
    """A network from images to images: what a generator of this family is."""

    @property
    def multiple(self) -> int:
        """Sides of images are multiples of it."""
        ...

    @property
    def scale(self) -> int:
        """The output's sides over the source's."""
        ...

    @property
    def radius(self) -> int | None:
        """Source pixels on each side that an output pixel depends on, in evaluation; None for all."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """Images (B, C, h, w) to (B, C', scale h, scale w)."""
        ...


def padded(x: Tensor, multiple: int) -> Tensor:
    """Images (B, C, h, w), continued on the right and below to multiples of a number.

    By a reflection; by the last pixel where the image is too small for that.
    """
    for dim in (3, 2):
        side = x.shape[dim]
        by = -side % multiple
        if by:
            mode = "reflect" if by < side else "replicate"
            x = F.pad(x, (0, by, 0, 0) if dim == 3 else (0, 0, 0, by), mode=mode)
    return x


def applied(network: ImageNetwork, x: Tensor) -> Tensor:
    """The network's output (B, C', scale h, scale w) for images (B, C, h, w) of any size."""
    out = network(padded(x, network.multiple))
    return out[..., : x.shape[2] * network.scale, : x.shape[3] * network.scale]
