"""How likely held-out images are, by importance weights: a bound of log p(x), its precision, and how far to trust it.

With z_1 .. z_k drawn from q(z|x) and w_i = p(x, z_i) / q(z_i|x), Burda et al., 2016, https://arxiv.org/abs/1509.00519:

    log p(x) >= E[L_k],    L_k = log (1/k sum_i w_i) = logsumexp(log w) - log k

The bound rises with k and is log p(x) itself for every k where q is the true posterior: then all weights are equal. The
effective sample size (sum w)^2 / sum w^2, from 1 to k, says how far from that the weights are (Kong, 1992; Owen, Monte
Carlo theory, section 9.3, https://artowen.su.domains/mc/): near 1 a single sample decides, and L_k is loose.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lit_gen.core.errors import UserError

__all__ = ["ImportanceWeights", "Likelihood", "summarize"]


class ImportanceWeights(NamedTuple):
    """The sums of k importance weights for each of N images; any k in constant memory, one chunk after another."""

    log_sum: Tensor
    """float64 (N,), log sum_i w_i."""
    log_sum_squares: Tensor
    """float64 (N,), log sum_i w_i^2."""
    k: int
    """Samples of each image."""

    @classmethod
    def of(cls, log_weights: Tensor) -> "ImportanceWeights":
        """The sums of log-weights (N, k), nats; minus infinity is a weight of 0.

        Raises:
            UserError: for another shape, or no sample.
        """
        if log_weights.ndim != 2 or not log_weights.shape[1]:
            raise UserError(f"log_weights: shape {tuple(log_weights.shape)} was found, (N, k), k >= 1, is expected")
        log_weights = log_weights.cpu().double()
        return cls(torch.logsumexp(log_weights, 1), torch.logsumexp(2 * log_weights, 1), log_weights.shape[1])

    def joined(self, other: "ImportanceWeights") -> "ImportanceWeights":
        """The sums of both: further samples of the same images."""
        return ImportanceWeights(
            torch.logaddexp(self.log_sum, other.log_sum),
            torch.logaddexp(self.log_sum_squares, other.log_sum_squares),
            self.k + other.k,
        )

    @property
    def bound(self) -> Tensor:
        """L_k in nats, (N,): logsumexp(log w) - log k."""
        return self.log_sum - math.log(self.k)

    @property
    def effective_samples(self) -> Tensor:
        """(sum w)^2 / sum w^2, (N,), from 1 to k; 0 if all weights are 0."""
        size = torch.exp(2 * self.log_sum - self.log_sum_squares)
        return torch.where(self.log_sum == -math.inf, 0.0, size)


class Likelihood(NamedTuple):
    """The likelihood of a set of images."""

    nll: float
    """Mean of -L_k in nats per image: an upper bound of the negative log-likelihood."""
    standard_error: float
    """Of that mean, over the choice of the images: their standard deviation (n - 1) / sqrt(n). NaN for one image."""
    effective_samples: float
    """Mean effective sample size, from 1 to k."""
    least_effective_samples: float
    """The smallest of them."""


def summarize(bounds: Sequence[float], effective_samples: Sequence[float]) -> Likelihood:
    """The summary of N images, with the same bits in any order.

    Args:
        bounds: L_k of each image, nats.
        effective_samples: of each image.

    Raises:
        UserError: for no images, or bounds that are NaN or infinite, whose mean has no meaning: minus infinity belongs
            to an image whose weights are all 0.
    """
    n = len(bounds)
    if not n:
        raise UserError("bounds: no images were found, at least 1 is expected")
    bad = sum(math.isnan(bound) or bound == math.inf for bound in bounds)
    if bad:
        raise UserError(f"the importance weights of {bad} of {n} images are NaN or infinite")
    if zero := sum(bound == -math.inf for bound in bounds):
        raise UserError(f"the importance weights of {zero} of {n} images are all 0, so that no NLL can be told")
    mean = math.fsum(bounds) / n
    squares = math.fsum((bound - mean) ** 2 for bound in bounds)
    error = math.sqrt(squares / (n - 1) / n) if n > 1 else math.nan
    return Likelihood(-mean, error, math.fsum(effective_samples) / n, min(effective_samples))
