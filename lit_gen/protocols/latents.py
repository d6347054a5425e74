"""The contracts of models with latents."""

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from lit_gen.protocols.images import Weights


class Code(NamedTuple):
    """What a model makes of a batch of images."""

    z: Tensor
    """float (B, latent_dim)."""
    nats: Tensor
    """float (B,), the rate: what z costs given the prior, KL(q(z|x) || p(z)) or its estimate."""
    info: dict[str, Tensor]
    """What is known of the posterior, by name: ``kl``, ``mean``, ``log_variance``, each (B, latent_dim)."""


class ImageDistribution(Protocol):
    """A distribution over images, of a batch."""

    @property
    def mean(self) -> Tensor:
        """(B, C, H, W) in [-1, 1]."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Nats of images (B, C, H, W), summed over their pixels: (B,)."""
        ...


@runtime_checkable
class LatentVariableModel(Protocol):
    """A module with latents z: p(x|z) p(z), and q(z|x). Callbacks call it in evaluation mode.

    ``weights`` are the moving average, or the raw weights; raw as well where the run keeps no average.
    """

    latent_dim: int
    num_classes: int | None
    """Of a conditional model; None for an unconditional one, which ignores labels."""

    def encode(self, images: Tensor, noise: Tensor, labels: Tensor | None = None, weights: Weights = "ema") -> Code:
        """Images (B, C, H, W) and standard normal noise (B, latent_dim) to a sample of q(z|x)."""
        ...

    def prior(self, noise: Tensor, weights: Weights = "ema") -> Tensor:
        """Standard normal noise (B, latent_dim) to z (B, latent_dim) of p(z)."""
        ...

    def decode(self, z: Tensor, labels: Tensor | None = None, weights: Weights = "ema") -> ImageDistribution:
        """Latents (B, latent_dim) to p(x|z)."""
        ...

    def log_weights(
        self, images: Tensor, noise: Tensor, labels: Tensor | None = None, weights: Weights = "ema"
    ) -> Tensor:
        """Log p(x|z) + log p(z) - log q(z|x), (B, k), for images (B, C, H, W) and noise (B, k, latent_dim).

        Raises:
            UserError: if q has no density.
        """
        ...

    def bits_per_dim(self, nats: float, dimensions: int) -> float:
        """Bits per dimension of 8-bit images of ``nats`` per image, of C * H * W dimensions."""
        ...
