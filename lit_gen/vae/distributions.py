"""Distributions over images, what a likelihood makes of the decoder's output: the formulas alone.

Those of 8-bit images are in `logistics.py`.

Images are x in [-1, 1], (B, C, H, W). `log_prob` is in nats, summed over channels and pixels. `sample` is a function of
its argument: uniform noise u in [0, 1) of the image's shape, pushed through the inverse of the distribution function.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_gen.errors import UserError
from lit_gen.parallel import mean_over_ranks

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
    """Refuse images of another shape than the decoder's: they would be broadcast, and scored without a word.

    Raises:
        UserError: if the shapes differ.
    """
    if x.shape != own:
        raise UserError(
            f"model.decoder: outputs for images {tuple(own)} were found, {tuple(x.shape)} is expected, as the data has"
        )


@dataclass(frozen=True, eq=False)
class Bernoulli:
    """P(x = 1) = sigmoid(logit), P(x = -1) = sigmoid(-logit).

    Attributes:
        logits: (B, C, H, W).
    """

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """2 sigmoid(logit) - 1."""
        return torch.tanh(self.logits / 2)

    def log_prob(self, x: Tensor) -> Tensor:
        """See `Distribution`; x is -1 or 1."""
        same_shape(x, self.logits.shape)
        return summed(F.logsigmoid(x * self.logits))

    def sample(self, uniform: Tensor) -> Tensor:
        """See `Distribution`."""
        return torch.where(uniform < torch.sigmoid(self.logits), 1.0, -1.0).to(self.logits.dtype)


@dataclass(frozen=True, eq=False)
class ContinuousBernoulli:
    """p(x) = e^(h x) h / (2 sinh h) on [-1, 1] with h = logit / 2.

    That is the continuous Bernoulli lambda^y (1 - lambda)^(1 - y) C(lambda) of Loaiza-Ganem and Cunningham, 2019,
    https://arxiv.org/abs/1907.06845, for y = (x + 1) / 2 in [0, 1], lambda = sigmoid(logit), whose density dx = 2 dy
    halves. Written in h the normaliser has no 0 / 0 at lambda = 1/2 but that of sinh(h) / h, where a series takes over.

    Attributes:
        logits: (B, C, H, W).
    """

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """coth(h) - 1 / h, Langevin's function."""
        h = self.logits / 2
        small = h.abs() < 0.3
        safe = torch.where(small, 1.0, h)
        series = h / 3 - h**3 / 45 + 2 * h**5 / 945 - h**7 / 4725
        return torch.where(small, series, 1 / torch.tanh(safe) - 1 / safe)

    def log_prob(self, x: Tensor) -> Tensor:
        """See `Distribution`."""
        same_shape(x, self.logits.shape)
        h = self.logits / 2
        return summed(h * x - math.log(2) - _log_sinhc(h))

    def sample(self, uniform: Tensor) -> Tensor:
        """See `Distribution`; x = log(u e^h + (1 - u) e^-h) / h."""
        h = self.logits / 2
        v = 2 * uniform - 1
        size = h.abs()
        safe = torch.where(size < 1e-3, 1.0, size)
        mirrored = torch.where(h < 0, 1 - uniform, uniform)  # x of -h and 1 - u is -x
        x = 1 + torch.log(mirrored + (1 - mirrored) * torch.exp(-2 * safe)).clamp(min=-2 * safe) / safe
        return torch.where(size < 1e-3, v + h * (1 - v * v) / 2, x * h.sign())


def _log_sinhc(h: Tensor) -> Tensor:
    """log(sinh(h) / h) of any h: a series to h^6 near 0, |h| + log((1 - e^(-2 |h|)) / (2 |h|)) elsewhere."""
    small = h.abs() < 0.3
    size = torch.where(small, 1.0, h.abs())  # the branch that is not taken must not give its gradient a nan
    return torch.where(
        small, h**2 / 6 - h**4 / 180 + h**6 / 2835, size + torch.log(-torch.expm1(-2 * size)) - torch.log(2 * size)
    )


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(mean, variance), independent pixels: with its 1/2 log(2 pi variance), without which it is no density.

    Attributes:
        mean: (B, C, H, W); need not lie in [-1, 1].
        variance: one number for all pixels, ().
    """

    mean: Tensor
    variance: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """See `Distribution`; any x."""
        same_shape(x, self.mean.shape)
        return summed(-0.5 * ((x - self.mean).square() / self.variance + torch.log(2 * math.pi * self.variance)))

    def sample(self, uniform: Tensor) -> Tensor:
        """See `Distribution`; not confined to [-1, 1]."""
        v = (2 * uniform - 1).clamp(EPS - 1, 1 - EPS)
        return self.mean + self.variance.sqrt() * math.sqrt(2) * torch.erfinv(v)


@dataclass(frozen=True, eq=False)
class OptimalGaussian(Gaussian):
    """N(mean, variance) whose variance is the squared error of the batch that `log_prob` is asked for.

    The variance is held constant in the gradient: at the optimum, which it is at, its own gradient is 0.

    Attributes:
        track: is told the variance of each batch, the mean over all ranks.
    """

    track: Callable[[Tensor], Tensor]

    def log_prob(self, x: Tensor) -> Tensor:
        """See `Distribution`."""
        same_shape(x, self.mean.shape)
        variance = self.track(mean_over_ranks((x - self.mean).detach().square().mean()))
        return Gaussian(self.mean, variance).log_prob(x)
