"""The contracts of images: batches, what draws them, and the networks that metrics look through.

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


class Features(NamedTuple):
    """What a feature extractor makes of a batch of images."""

    features: Tensor
    """float32 (B, d)."""
    logits: Tensor | None = None
    """float32 (B, K), one unnormalized log-probability per class; None where the network is no classifier."""


@runtime_checkable
class FeatureExtractor(Protocol):
    """A fixed network that metrics look through: uint8 images to features."""

    name: str
    """What it is called in metric names: ``lenet-mnist``."""
    weights: str
    """SHA-256 of its weights, in hexadecimal."""
    preprocessing: str
    """What happens to an image before the network, resizing above all, in words."""
    channels: int | None
    """Channels of the images that it takes; None for any."""
    size: tuple[int, int] | None
    """(H, W) of the images that it takes; None for any."""

    def __call__(self, images: Tensor) -> Features:
        """Features of uint8 images (B, C, H, W), on their device, in evaluation mode, without gradients."""
        ...
