"""Distributions of the latents: posteriors q(z|x), which an encoder's features parameterise, and priors p(z)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from lit_gen.models.likelihoods.numerics import soften

__all__ = ["DiagonalGaussian", "LatentDistribution", "Normal", "Posterior", "Prior", "StandardNormal"]

LOG_VARIANCE = (-20.0, 10.0)
"""Within these a log-variance is unchanged, beyond them it grows like a logarithm; see `soften`."""


class LatentDistribution(Protocol):
    """A distribution over z, (B, latent_dim).

    One that can score only its own draws, such as a flow without an inverse, has ``draw(noise) -> (z, log_prob)``
    instead of `sample` and `log_prob`; see `draw`.
    """

    @property
    def mean(self) -> Tensor | None:
        """(B, latent_dim), None if it is not known."""
        ...

    @property
    def log_variance(self) -> Tensor | None:
        """(B, latent_dim), None if it is not known."""
        ...

    def sample(self, noise: Tensor) -> Tensor:
        """Z of standard normal noise, both (B, latent_dim), with the gradient of the reparameterisation."""
        ...

    def log_prob(self, z: Tensor) -> Tensor:
        """Nats (B,)."""
        ...


def draw(distribution: LatentDistribution, noise: Tensor) -> tuple[Tensor, Tensor | None]:
    """Z (B, latent_dim) of standard normal noise of that shape; and its nats (B,) if it has no `log_prob`."""
    own: Callable[[Tensor], tuple[Tensor, Tensor]] | None = getattr(distribution, "draw", None)
    return (distribution.sample(noise), None) if own is None else own(noise)


@dataclass(frozen=True, eq=False)
class Normal:
    """N(mean, diag(exp(log_variance))).

    Attributes:
        mean: (B, latent_dim).
        log_variance: (B, latent_dim).
    """

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Mean + sigma * noise."""
        return self.mean + torch.exp(self.log_variance / 2) * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """-1/2 sum_j (z_j - mean_j)^2 / sigma_j^2 + log(2 pi sigma_j^2)."""
        squares = (z - self.mean).square() * torch.exp(-self.log_variance)
        return -0.5 * (squares + self.log_variance + math.log(2 * math.pi)).sum(1)


class Posterior(nn.Module):
    """Base of the posteriors: an encoder's features (B, F) to a `LatentDistribution`, q(z|x)."""

    def build(self, latent_dim: int) -> None:
        """Make the layers that depend on the number of latents; the bottleneck calls it, before `features`."""

    def features(self, latent_dim: int) -> int:
        """F, for that many latents."""
        raise NotImplementedError

    def forward(self, features: Tensor) -> LatentDistribution:
        """Features (B, F), in float32, to q."""
        raise NotImplementedError


class Prior(nn.Module):
    """Base of the priors p(z); a learned one has parameters."""

    def build(self, latent_dim: int) -> None:
        """Make the layers that depend on the number of latents; the bottleneck calls it."""

    def attach(self, encoder: nn.Module, posterior: Posterior) -> None:
        """Get to know q(z|x), for a prior that is made of it; `lit_gen.models.vae.layers.connect` calls it.

        Neither may become a submodule: their parameters are trained and saved where they belong.
        """

    def log_prob(self, z: Tensor) -> Tensor:
        """Nats (B,) of z (B, latent_dim)."""
        raise NotImplementedError

    def sample(self, noise: Tensor) -> Tensor:
        """Standard normal noise (B, latent_dim) to z (B, latent_dim)."""
        raise NotImplementedError

    def kl(self, posterior: LatentDistribution) -> Tensor | None:
        """KL(q || p) by dimension, (B, latent_dim), if it is known in closed form; else None."""
        return None


class DiagonalGaussian(Posterior):
    """N(mean, diag(variance)); the features are latent_dim means, then latent_dim log-variances."""

    def features(self, latent_dim: int) -> int:
        """Two for each latent."""
        return 2 * latent_dim

    def forward(self, features: Tensor) -> Normal:
        """See `Posterior`."""
        mean, log_variance = features.chunk(2, 1)
        return Normal(mean, soften(log_variance, *LOG_VARIANCE))


class StandardNormal(Prior):
    """N(0, I)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """See `Prior`."""
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)

    def sample(self, noise: Tensor) -> Tensor:
        """The noise itself."""
        return noise

    def kl(self, posterior: LatentDistribution) -> Tensor | None:
        """1/2 (sigma^2 + mean^2 - 1 - log sigma^2) of a `Normal`."""
        if not isinstance(posterior, Normal):
            return None
        log_variance = posterior.log_variance
        return 0.5 * (
            torch.expm1(log_variance) - log_variance + posterior.mean.square()
        )  # expm1: exact near variance 1
