"""Likelihoods of black and white images, and of grey values as real numbers."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_gen.models.likelihoods.base import Likelihood
from lit_gen.models.likelihoods.distributions import Distribution, same_shape, summed

__all__ = ["Bernoulli", "ContinuousBernoulli"]


@dataclass(frozen=True, eq=False)
class BernoulliDistribution:
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
class ContinuousBernoulliDistribution:
    """p(x) = e^(h x) h / (2 sinh h) on [-1, 1] with h = logit / 2.

    That is the continuous Bernoulli lambda^y (1 - lambda)^(1 - y) C(lambda) of Loaiza-Ganem and Cunningham, 2019,
    https://arxiv.org/abs/1907.06845, for y = (x + 1) / 2 in [0, 1], lambda = sigmoid(logit), whose density dx = 2 dy
    halves. Written in h, the normaliser is 0 / 0 at lambda = 1/2 only in sinh(h) / h, where a series is used.

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


class Bernoulli(Likelihood):
    """Binary images, -1 or 1; the decoder gives the logits of 1. Grey values have no such likelihood: refused."""

    discrete = True

    def distribution(self, outputs: Tensor) -> Distribution:
        """See `Likelihood`."""
        return BernoulliDistribution(outputs)

    def check(self, x: Tensor) -> None:
        """See `Likelihood`."""
        super().check(x)
        grey = x[x.abs() != 1]
        if grey.numel():
            self._refuse(
                f"grey values were found (for example {float(grey[0]):.2f})",
                "binary images (-1 and 1) are expected; choose data.binarize or ContinuousBernoulli",
            )


class ContinuousBernoulli(Likelihood):
    """Grey values in [-1, 1] as real numbers, with the density that a Bernoulli lacks there; the decoder gives logits.

    Loaiza-Ganem and Cunningham, 2019, https://arxiv.org/abs/1907.06845.
    """

    def distribution(self, outputs: Tensor) -> Distribution:
        """See `Likelihood`."""
        return ContinuousBernoulliDistribution(outputs)

    def check(self, x: Tensor) -> None:
        """See `Likelihood`."""
        super().check(x)
        self._check_range(x)
