"""The contracts of images: batches, models that draw, and the networks whose features metrics use.

Images are float (B, C, H, W) in [-1, 1] inside the package, uint8 at rest, at the metric boundary and in files.
Labels are int64 (B,). Points of two-dimensional toy sets are "images" of shape (B, 2, 1, 1), in their own units.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

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
    micro_batches: int = 1
    """In training: the number of equal parts into which the rows of an update are divided, one after the other."""


class ImagePair(NamedTuple):
    """What a loader of pairs yields: row i of each entry belongs to pair i."""

    source: Tensor
    """float (B, C, h, w) in [-1, 1], or beyond where noise was added: what a network changes."""
    target: Tensor
    """float (B, C', H, W) in [-1, 1]: what it should become; H and W are ``factor`` times h and w."""
    labels: Tensor | None
    """int64 (B,), or None where the data set has no labels."""
    indices: Tensor
    """int64 (B,), each row's index within its split."""
    mask: Tensor | None = None
    """float (B, 1, h, w), 1 where nothing is left of the source; None where the data have no holes."""
    micro_batches: int = 1
    """See `ImageBatch`."""


class Condition(NamedTuple):
    """What samples are conditioned on: row i of each entry belongs to sample i; None for an entry that is not given."""

    labels: Tensor | None = None
    """int64 (B,), classes."""
    tokens: Tensor | None = None
    """int64 (B, T), a text."""
    images: Tensor | None = None
    """float (B, C, H, W) in [-1, 1], to be changed."""
    mask: Tensor | None = None
    """(B, 1, H, W), 1 where ``images`` are to be filled in."""


class IndexedDraws(Protocol):
    """Noise within a sampler that iterates, for one block of 64 samples."""

    def normal(self, purpose: str, step: int, *shape: int) -> Tensor:
        """Standard normal (64, *shape); row i depends on ``(seed, index of sample i, purpose, step)`` only."""
        ...


class Drawer(NamedTuple):
    """How a model draws, with one choice of weights: standard normal noise to images."""

    draw: Callable[[Tensor, Condition, IndexedDraws], Tensor]
    """Noise (64, latent_dim), what is asked for, and further noise, to images (64, C, H, W) in [-1, 1]. Its rows must
    not depend on each other."""
    latent_dim: int
    """The number of noise values that a sample begins with; C * H * W if noise has the shape of the image."""
    num_classes: int | None = None
    """Classes that can be asked for; None for an unconditional model."""
    settings: Mapping[str, Any] = {}
    """Solver, steps, guidance: what else the images depend on. It is part of every record."""
    edits: tuple[int, int, int] | None = None
    """(C, H, W) of the ``images`` of a `Condition` that it makes use of, and of their ``mask``; None if it does not."""


@runtime_checkable
class ImageGenerator(Protocol):
    """A module that draws images by global index; `lit_gen.core.sampling.Sampler` does so with a `Drawer`."""

    @property
    def averaged(self) -> bool:
        """Whether there is a moving average of the weights, so that "ema" and "raw" differ."""
        ...

    def sample(self, indices: Tensor, *, labels: Tensor | None = None, weights: Weights = "ema") -> Tensor:
        """Draw images (len(indices), C, H, W); row i depends on ``(seed, indices[i], label, weights)`` only.

        A model may have further keyword options, steps of a solver or a guidance scale; `drawing_record` then has them
        too.
        """
        ...

    def drawing_record(self) -> dict[str, Any]:
        """What a record of numbers says of the images: seed, labels, the drawer's settings."""
        ...


@runtime_checkable
class ImageTranslator(Protocol):
    """A module that changes images: translation, super-resolution, inpainting, denoising."""

    @property
    def averaged(self) -> bool:
        """Whether there is a moving average of the weights, so that "ema" and "raw" differ."""
        ...

    def translate(
        self,
        images: Tensor,
        *,
        mask: Tensor | None = None,
        weights: Weights = "ema",
        tile: int | None = None,
        border: int | None = None,
    ) -> Tensor:
        """Change images.

        Args:
            images: float (n, C, h, w) in [-1, 1], as the sources that the model was trained on; any h and w.
            mask: float (n, 1, h, w), 1 where ``images`` are to be filled in; of a model of data with holes only.
            weights: the moving average, or the raw weights.
            tile: run the network on squares of that many source pixels, with their borders; None for whole images.
            border: source pixels around each tile; None for the network's receptive field, which makes tiles equal to
                the whole.

        Returns:
            float (n, C', H, W) on the model's device.

        Raises:
            UserError: for images that the model does not take.
        """
        ...


@runtime_checkable
class LatentInterpolator(Protocol):
    """A module whose samples can be morphed into each other."""

    def interpolate(
        self, start: Tensor, end: Tensor, length: int, *, labels: Tensor | None = None, weights: Weights = "ema"
    ) -> Tensor:
        """Draw (len(start), length, C, H, W): paths from the latents of indices ``start`` to those of ``end``."""
        ...


class Features(NamedTuple):
    """What a feature extractor makes of a batch of images."""

    features: Tensor
    """float32 (B, d)."""
    logits: Tensor | None = None
    """float32 (B, K), one unnormalized log-probability per class; None if the network is not a classifier."""


@runtime_checkable
class FeatureExtractor(Protocol):
    """A fixed network whose features metrics use: uint8 images to features."""

    name: str
    """What it is called in metric names: ``lenet-mnist``."""
    weights: str
    """SHA-256 of its weights, in hexadecimal."""
    preprocessing: str
    """What happens to an image before the network, mainly resizing, in words."""
    channels: int | None
    """Channels of the images that it takes; None for any."""
    size: tuple[int, int] | None
    """(H, W) of the images that it takes; None for any."""

    def __call__(self, images: Tensor) -> Features:
        """Features of uint8 images (B, C, H, W), on their device, in evaluation mode, without gradients."""
        ...
