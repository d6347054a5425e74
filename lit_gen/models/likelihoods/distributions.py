"""Distributions over images, which a likelihood makes from the decoder's output.

Images are x in [-1, 1], (B, C, H, W). `log_prob` is in nats, summed over channels and pixels. `sample` is a function of
its argument: uniform noise u in [0, 1) of the image's shape, pushed through the inverse of the distribution function.
"""

from typing import Protocol

import torch
from torch import Tensor

from lit_gen.core.errors import UserError

EPS = 2.0**-24  # keeps u away from 0, whose quantile is minus infinity


class Distribution(Protocol):
    """What a likelihood returns."""

    @property
    def mean(self) -> Tensor:
        """(B, C, H, W), the expected image."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Nats (B,) of images (B, C, H, W), summed over channels and pixels.

        Raises:
            UserError: if the decoder's images have another shape.
        """
        ...

    def sample(self, uniform: Tensor) -> Tensor:
        """Images (B, C, H, W) made of uniform noise of that shape in [0, 1); the same noise gives the same images."""
        ...


def summed(nats: Tensor) -> Tensor:
    """Nats (B, ...) of pixels to nats (B,) of images."""
    return nats.flatten(1).sum(1)


def same_shape(x: Tensor, own: torch.Size) -> None:
    """Refuse images of another shape than the decoder's: they would silently be broadcast and scored.

    Raises:
        UserError: if the shapes differ.
    """
    if x.shape != own:
        raise UserError(
            f"model.decoder: outputs for images {tuple(own)} were found, {tuple(x.shape)} is expected, as the data has"
        )
