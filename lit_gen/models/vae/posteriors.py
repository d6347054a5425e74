"""Flow posteriors: a diagonal Gaussian bent by layers that the encoder steers. Each begins as that Gaussian."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gen.core.options import at_least
from lit_gen.models.likelihoods.numerics import soften
from lit_gen.models.vae.latents import DiagonalGaussian, Normal, Posterior, StandardNormal
from lit_gen.models.vae.transforms import Bijection, Kind, check_layers

__all__ = ["IAFPosterior", "Planar", "SplinePosterior"]


@dataclass(frozen=True, eq=False)
class FlowDistribution:
    """Z = mean + sigma * T(noise | context).

    Attributes:
        base: mean and sigma, each (B, latent_dim).
        bijection: T.
        context: (B, context), or None.
    """

    base: Normal
    bijection: Bijection
    context: Tensor | None
    mean: None = None
    log_variance: None = None

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Z of noise (B, latent_dim), and log q(z|x) in nats, (B,): one pass."""
        bent, log_det = self.bijection(noise, self.context)
        return self.base.sample(bent), self._log_prob(noise, log_det)

    def sample(self, noise: Tensor) -> Tensor:
        """Z of noise, both (B, latent_dim)."""
        return self.draw(noise)[0]

    def log_prob(self, z: Tensor) -> Tensor:
        """Nats (B,) of any z (B, latent_dim), through the inverse: latent_dim passes of each layer."""
        bent = (z - self.base.mean) * torch.exp(-self.base.log_variance / 2)
        noise = self.bijection.inverse(bent, self.context)
        return self._log_prob(noise, self.bijection(noise, self.context)[1])

    def _log_prob(self, noise: Tensor, log_det: Tensor) -> Tensor:
        return StandardNormal().log_prob(noise) - log_det - self.base.log_variance.sum(1) / 2


class _Flow(Posterior):
    """What posteriors of autoregressive layers share: the encoder gives means, log-variances and the context."""

    kind: Kind
    layers: int
    width: int
    depth: int
    context: int
    bins: int = 8
    bijection: Bijection

    def build(self, latent_dim: int) -> None:
        """See `Posterior`."""
        option, sizes = f"model.bottleneck.posterior: {type(self).__name__}", (self.layers, self.width, self.depth)
        self.bijection = Bijection(self.kind, option, latent_dim, self.context, *sizes, self.bins)

    def features(self, latent_dim: int) -> int:
        """Two for each latent, then the context."""
        return 2 * latent_dim + self.context

    def forward(self, features: Tensor) -> FlowDistribution:
        """See `Posterior`."""
        gaussian, context = features.split([features.shape[1] - self.context, self.context], 1)
        return FlowDistribution(DiagonalGaussian()(gaussian), self.bijection, context if self.context else None)


class IAFPosterior(_Flow):
    """Inverse autoregressive flow: each noise is scaled and shifted by networks of the noises before it.

    Kingma et al., 2016, https://arxiv.org/abs/1606.04934. Drawing and scoring what was drawn take one pass; scoring any
    other z takes latent_dim of them. The diagonal Gaussian, the first step there, is the last one here, which makes the
    same family. One layer of depth 0 and context 0 adds one covariance for all images.

    Args:
        layers: in alternating order.
        width: units of each hidden layer.
        depth: number of hidden layers of each network; 0 for a linear map.
        context: numbers that the encoder gives to all networks beside the noise; 0 for none.

    Raises:
        UserError: for an option out of range; `build` raises one without zuko.
    """

    kind = "maf"

    def __init__(self, layers: int = 2, width: int = 64, depth: int = 1, context: int = 16) -> None:
        super().__init__()
        check_layers("model.bottleneck.posterior.", layers, width, depth)
        at_least(0, "model.bottleneck.posterior.", context=context)
        self.layers, self.width, self.depth, self.context = layers, width, depth, context


class SplinePosterior(_Flow):
    """As `IAFPosterior`, each noise bent by a rational-quadratic spline: also skewed and with several peaks.

    Durkan et al., 2019, https://arxiv.org/abs/1906.04032. Noise outside [-5, 5] stays as it is.

    Args:
        layers: in alternating order.
        width: units of each hidden layer.
        depth: number of hidden layers of each network; 0 for a linear map.
        context: numbers that the encoder gives to all networks beside the noise; 0 for none.
        bins: of each spline, at least 2.

    Raises:
        UserError: for an option out of range; `build` raises one without zuko.
    """

    kind = "nsf"

    def __init__(self, layers: int = 1, width: int = 64, depth: int = 1, context: int = 16, bins: int = 8) -> None:
        super().__init__()
        check_layers("model.bottleneck.posterior.", layers, width, depth, bins)
        at_least(0, "model.bottleneck.posterior.", context=context)
        self.layers, self.width, self.depth, self.context, self.bins = layers, width, depth, context, bins


@dataclass(frozen=True, eq=False)
class PlanarDistribution:
    """Z of a diagonal Gaussian through planar layers; it can score only its own draws.

    Attributes:
        base: the Gaussian of (B, latent_dim).
        u: (B, layers, latent_dim), before the constraint.
        w: (B, layers, latent_dim).
        b: (B, layers).
    """

    base: Normal
    u: Tensor
    w: Tensor
    b: Tensor
    mean: None = None
    log_variance: None = None

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Z of noise (B, latent_dim), and log q(z|x) in nats, (B,)."""
        z = self.base.sample(noise)
        log_q = self.base.log_prob(z)
        for u, w, b in zip(self.u.unbind(1), self.w.unbind(1), self.b.unbind(1), strict=True):
            u, slope = constrained(u, w)
            bent = torch.tanh((w * z).sum(1) + b)
            z = z + u * bent[:, None]
            flat = bent.square()
            log_q = log_q - torch.log(flat + (1 - flat) * slope)  # 1 + (1 - tanh^2) w u
        return z, log_q


def constrained(u: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """The u of a planar layer that keeps it one to one, w u > -1, for any u and w (B, latent_dim); and 1 + w u, (B,).

    The component of u along w moves: w u becomes log(1 + (e - 1) e^(w u)) - 1. The paper has log(1 + e^(w u)) - 1,
    which is not 0 where u is 0. Rezende and Mohamed, 2015, https://arxiv.org/abs/1505.05770, A.1.
    """
    along = (w * u).sum(1)
    bounded = soften(along, -20, 1e30)  # beyond -20 the slope would become 0 in float32
    slope = F.softplus(bounded + math.log(math.e - 1))
    change = torch.log1p(torch.expm1(-bounded) / math.e) + (bounded - along)  # slope - 1 - along, exact near 0
    moved = change / w.square().sum(1).clamp(min=1e-30)
    return u + moved[:, None] * w, slope


class Planar(Posterior):
    """Planar layers, z + u tanh(w z + b), whose u, w and b the encoder gives for each image.

    Rezende and Mohamed, 2015, https://arxiv.org/abs/1505.05770. Without an inverse: it scores its own draws, which is
    enough for every bound, but neither for a `VampPrior` nor for `IWAE` with ``dreg``. A learned factor of every u
    begins at 0.

    Args:
        layers: how many.

    Raises:
        UserError: for fewer than 1.
    """

    def __init__(self, layers: int = 4) -> None:
        super().__init__()
        at_least(1, "model.bottleneck.posterior.", layers=layers)
        self.layers, self.gain = layers, nn.Parameter(torch.zeros(layers, 1))

    def features(self, latent_dim: int) -> int:
        """Two for each latent, and of each layer u, w and b."""
        return 2 * latent_dim + self.layers * (2 * latent_dim + 1)

    def forward(self, features: Tensor) -> Any:
        """See `Posterior`; a `PlanarDistribution`, which has no `log_prob`."""
        dim = (features.shape[1] - self.layers) // (2 + 2 * self.layers)
        gaussian, u, w, b = features.split([2 * dim, self.layers * dim, self.layers * dim, self.layers], 1)
        u, w = (x.unflatten(1, (self.layers, dim)) for x in (u, w))
        return PlanarDistribution(DiagonalGaussian()(gaussian), self.gain * u, w, b)
