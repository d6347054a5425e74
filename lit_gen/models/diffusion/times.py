"""Which times are trained: uniform numbers in [0, 1) to times of a path."""

import math

import torch
from torch import Tensor

from lit_gen.core.options import above
from lit_gen.models.diffusion.base import Path

__all__ = ["LogNormal", "LogitNormal", "Times", "Uniform"]

LEAST = 2.0**-24
"""Quantiles of unbounded distributions are taken of no less than this, and of no more than 1 minus it."""


class Times:
    """Base: the quantile function of a distribution of times."""

    def __call__(self, path: Path, share: Tensor) -> Tensor:
        """Shares in [0, 1) to times (B,), which grow with them."""
        raise NotImplementedError


class Uniform(Times):
    """Every time of the path as often as any other; of discrete steps, every step."""

    def __call__(self, path: Path, share: Tensor) -> Tensor:
        """See `Times`."""
        return path.at_share(share)


class LogNormal(Times):
    """Ln(sigma / alpha) is from N(mean, std^2), within the path. Karras et al., 2022, https://arxiv.org/abs/2206.00364.

    Args:
        mean: P_mean.
        std: P_std.

    Raises:
        UserError: for a deviation that is not above 0.
    """

    def __init__(self, mean: float = -1.2, std: float = 1.2) -> None:
        above(0, "model.times.", finite=True, std=std)
        self.mean, self.std = mean, std

    def __call__(self, path: Path, share: Tensor) -> Tensor:
        """See `Times`."""
        ratio = (self.mean + self.std * _normal(share)).exp()
        return path.time_of(ratio).clamp(path.start, path.end)


class LogitNormal(Times):
    """The logit of the path's share is from N(mean, std^2). Esser et al., 2024, https://arxiv.org/abs/2403.03206.

    Args:
        mean: above 0 for more noise.
        std: of the logit.

    Raises:
        UserError: for a deviation that is not above 0.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        above(0, "model.times.", finite=True, std=std)
        self.mean, self.std = mean, std

    def __call__(self, path: Path, share: Tensor) -> Tensor:
        """See `Times`."""
        return path.at_share((self.mean + self.std * _normal(share)).sigmoid())


def _normal(share: Tensor) -> Tensor:
    """Shares to quantiles of N(0, 1)."""
    return math.sqrt(2) * torch.erfinv(2 * share.clamp(LEAST, 1 - LEAST) - 1)
