"""The likelihood of real values around the decoder's output."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lit_gen.core.batches import Batches
from lit_gen.core.distributed import mean_over_ranks
from lit_gen.core.errors import UserError, nearest
from lit_gen.core.options import above, expect
from lit_gen.models.likelihoods.base import Likelihood
from lit_gen.models.likelihoods.distributions import EPS, Distribution, same_shape, summed
from lit_gen.models.likelihoods.numerics import soften, wide

__all__ = ["Gaussian"]

LEAST_SIGMA = 1e-18  # its square and that square's inverse are ordinary numbers of float32


@dataclass(frozen=True, eq=False)
class GaussianDistribution:
    """N(mean, variance), independent pixels: with its 1/2 log(2 pi variance), without which it is not a density.

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
class OptimalGaussianDistribution(GaussianDistribution):
    """N(mean, variance) whose variance is the squared error of the batch given to `log_prob`.

    The variance is held constant in the gradient: it is at its optimum, where its gradient is 0.

    Attributes:
        track: called with the variance of each batch, the mean over all ranks.
    """

    track: Callable[[Tensor], Tensor]

    def log_prob(self, x: Tensor) -> Tensor:
        """See `Distribution`."""
        same_shape(x, self.mean.shape)
        variance = self.track(mean_over_ranks((x - self.mean).detach().square().mean()))
        return GaussianDistribution(self.mean, variance).log_prob(x)


class Gaussian(Likelihood):
    """Real values around the decoder's output, N(output, sigma^2), one sigma for all pixels.

    Args:
        sigma: a number above 0; "learned": a parameter, which starts at 1; "optimal": the sigma-VAE of Rybkin et al.,
            2021, https://arxiv.org/abs/2006.13202: in training sigma^2 is the mean squared error of the batch over all
            ranks, the most likely value. Evaluation uses a running mean of those, saved with the model, so
            that its numbers do not depend on how images are batched: at first of all batches so far, later of about the
            last 100.

    Raises:
        UserError: for another sigma.
    """

    variance: Tensor
    batches: Tensor

    def __init__(self, sigma: float | Literal["learned", "optimal"] = "optimal") -> None:
        super().__init__()
        if isinstance(sigma, str):
            known = ("learned", "optimal")
            expected, hint = "a number above 0, learned or optimal", nearest(sigma, known)
            expect(sigma in known, "model.likelihood.sigma", sigma, expected, hint)
        else:
            above(0, "model.likelihood.", finite=True, sigma=sigma)
            if not LEAST_SIGMA <= sigma <= 1 / LEAST_SIGMA:
                raise UserError(
                    f"model.likelihood.sigma: {sigma} was found, whose square is 0 or infinite in float32; "
                    f"{LEAST_SIGMA:g} to {1 / LEAST_SIGMA:g} is expected"
                )
        self.sigma = sigma
        if sigma == "learned":
            self.log_sigma = nn.Parameter(torch.zeros(()))
        elif sigma == "optimal":
            self.register_buffer("variance", torch.ones(()))
            self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def distribution(self, outputs: Tensor) -> Distribution:
        """See `Likelihood`."""
        if self.sigma == "learned":
            return GaussianDistribution(outputs, torch.exp(2 * soften(wide(self.log_sigma), -10, 5)))
        if self.sigma != "optimal":
            return GaussianDistribution(outputs, torch.full_like(outputs[0, 0, 0, 0], float(self.sigma) ** 2))
        if self.training:
            return OptimalGaussianDistribution(outputs, self.variance, self._track)
        return GaussianDistribution(outputs, self.variance)

    def meets(self, batches: Batches) -> str | None:
        """Say that each micro-batch has its own optimal sigma."""
        return "the optimal sigma per micro-batch" if self.sigma == "optimal" and batches.micro_batches > 1 else None

    @torch.no_grad()
    def _track(self, squared_error: Tensor) -> Tensor:
        variance = squared_error.clamp(min=1e-8)  # a perfect batch: its gradient stays finite
        self.batches += 1
        share = torch.clamp(1 / self.batches, min=0.01)
        self.variance.lerp_(variance.to(self.variance.dtype), share.to(self.variance.dtype))
        return variance
