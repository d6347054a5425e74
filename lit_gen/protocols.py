"""The contracts between rooms: callbacks and data know these, never a family.

Images are float (B, C, H, W) in [-1, 1] inside the package, uint8 at rest, at the metric boundary and in files.
Labels are int64 (B,). Points of two-dimensional toy sets are "images" of shape (B, 2, 1, 1), in their own units.
"""

from typing import Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

Weights = Literal["ema", "raw"]


class ImageBatch(NamedTuple):
    """What an image loader yields."""

    images: Tensor
    """float (B, C, H, W) in [-1, 1]."""
    labels: Tensor | None
    """int64 (B,), or None where the data set has no labels."""
    indices: Tensor
    """int64 (B,), each row's index within its split."""


@runtime_checkable
class ImageGenerator(Protocol):
    """A module that draws images by global index."""

    def sample(self, indices: Tensor, *, labels: Tensor | None = None, weights: Weights = "ema") -> Tensor:
        """Draw images (len(indices), C, H, W); row i depends on ``(seed, indices[i], label, weights)`` alone."""
        ...


@runtime_checkable
class LatentInterpolator(Protocol):
    """A module whose samples can be morphed into each other."""

    def interpolate(
        self, start: Tensor, end: Tensor, steps: int, *, labels: Tensor | None = None, weights: Weights = "ema"
    ) -> Tensor:
        """Draw (len(start), steps, C, H, W): paths from the latents of indices ``start`` to those of ``end``."""
        ...
