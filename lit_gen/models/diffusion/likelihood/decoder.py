"""The last step of a chain, from x_1 to data: a normal distribution of each number, rounded to the levels if any."""

import math

import torch
from torch import Tensor

from lit_gen.core.images import level_of


def log_density(x: Tensor, mean: Tensor, variance: float) -> Tensor:
    """Nats (B,) of N(mean, variance I) at points (B, ...), float64 on the CPU."""
    squares = (x.cpu().double() - mean.cpu().double()).square() / variance
    return -0.5 * (squares + math.log(2 * math.pi * variance)).flatten(1).sum(1)


def log_mass(images: Tensor, mean: Tensor, variance: float, levels: int) -> Tensor:
    """Nats (B,) of N(mean, variance I) rounded to the levels of images (B, ...), float64 on the CPU.

    Ho et al., 2020, https://arxiv.org/abs/2006.11239, equation 13: a level has what lies within half of the distance to
    the next one, the outermost levels have all that lies beyond. Here the normal integral is exact, also far from the
    mean, where published code approximates it and stops at 1e-12.

    Args:
        images: numbers in [-1, 1], each taken for the nearest level.
        mean: of the shape of ``images``, in their units.
        variance: of every number.
        levels: of a pixel, evenly from -1 to 1.
    """
    numbers, mean = level_of(images.cpu().double(), levels), mean.cpu().double()
    middle = 2 / (levels - 1) * numbers - 1
    half, deviation = 1 / (levels - 1), math.sqrt(variance)
    low = torch.where(numbers == 0, -math.inf, (middle - half - mean) / deviation)
    high = torch.where(numbers == levels - 1, math.inf, (middle + half - mean) / deviation)
    return _log_between(low, high).flatten(1).sum(1)


def _log_between(low: Tensor, high: Tensor) -> Tensor:
    """Log of the standard normal probability of [low, high], low < high; taken in the lower tail, by symmetry."""
    upper = low > 0
    low, high = torch.where(upper, -high, low), torch.where(upper, -low, high)
    log_low: Tensor = torch.special.log_ndtr(low)
    log_high: Tensor = torch.special.log_ndtr(high)
    return log_high + torch.log(-torch.expm1(log_low - log_high))
