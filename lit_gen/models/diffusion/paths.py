"""Paths from data to noise: x_t = alpha(t) x_0 + sigma(t) e, t = 0 at data, e from N(0, I).

Every path has the same methods, `lit_gen.protocols.diffusion.Marginal`. Formulas are in the precision of t, and no
value is read from the device.
"""

import math

import numpy as np
import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.models.diffusion.base import Path, column
from lit_gen.models.diffusion.discrete import DDPM

__all__ = ["DDPM", "EDM", "Linear", "Path", "VariancePreserving", "column"]


class Linear(Path):
    """x_t = (1 - t) x_0 + t e: flow matching with straight lines, also called rectified flow.

    Lipman et al., 2023, https://arxiv.org/abs/2210.02747; Liu et al., 2023, https://arxiv.org/abs/2209.03003. Both
    have t = 1 at data; here, as on every path, t = 0 is data, so that their velocity is the negative of ours.
    """

    start, end = 0.0, 1.0

    def alpha(self, t: Tensor) -> Tensor:
        """1 - t."""
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """The time itself."""
        return t

    def alpha_rate(self, t: Tensor) -> Tensor:
        """-1."""
        return -torch.ones_like(t)

    def sigma_rate(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def time_of(self, ratio: Tensor) -> Tensor:
        """See `Path`; 1 for an infinite ratio."""
        return 1 / (1 + 1 / ratio)


class EDM(Path):
    """x_t = x_0 + t e: the noise level is the time. Karras et al., 2022, https://arxiv.org/abs/2206.00364.

    Args:
        sigma_min: the lowest level of a sampler, before 0.
        sigma_max: the level that samplers begin with: so high that little of the data is left.

    Raises:
        UserError: unless 0 < sigma_min < sigma_max.
    """

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0) -> None:
        if not 0 < sigma_min < sigma_max < math.inf:
            found = f"{sigma_min:g} and sigma_max {sigma_max:g} were found"
            raise UserError(f"model.path.sigma_min: {found}, 0 < sigma_min < sigma_max is expected")
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.start, self.end = sigma_min, sigma_max

    def alpha(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """The time itself."""
        return t

    def alpha_rate(self, t: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(t)

    def sigma_rate(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def time_of(self, ratio: Tensor) -> Tensor:
        """See `Path`."""
        return ratio

    def level(self, t: Tensor) -> Tensor:
        """Ln(t) / 4, in about [-1.6, 1.1]; table 1."""
        return t.log() / 4

    def scale(self, t: Tensor) -> Tensor:
        """To unit variance, for data of unit variance."""
        return (1 + t.square()).rsqrt()

    def grid(self, first: float, steps: int, last: float = 0.0) -> Tensor:
        """Equation 5 with rho = 7 from ``first`` to ``last``; to ``sigma_min``, then 0, where that is ``last``."""
        return karras(first, last, steps + 1)[:-1] if last else karras(first, min(self.sigma_min, first), steps)


def karras(first: float, last: float, steps: int, rho: float = 7.0) -> Tensor:
    """Noise levels (steps + 1,) from ``first`` to ``last``, then 0: equation 5 of https://arxiv.org/abs/2206.00364."""
    high, low = first ** (1 / rho), last ** (1 / rho)
    levels = (high + np.linspace(0, 1, steps) * (low - high)) ** rho
    return torch.from_numpy(np.append(levels, 0.0))


class VariancePreserving(Path):
    """dx = -b(t) x / 2 dt + sqrt(b(t)) dw with b from beta_min to beta_max, linear in t; alpha^2 + sigma^2 = 1.

    Song et al., 2021, https://arxiv.org/abs/2011.13456, equation 33, the limit of DDPM with many steps:
    log alpha(t) = -t^2 (beta_max - beta_min) / 4 - t beta_min / 2.

    Args:
        beta_min: b at data.
        beta_max: b at the noise, t = 1.
        start: the least time, at which the rate of sigma is finite.

    Raises:
        UserError: unless 0 < beta_min <= beta_max and 0 < start < 1.
    """

    end = 1.0

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, start: float = 1e-3) -> None:
        if not 0 < beta_min <= beta_max < math.inf:
            found = f"{beta_min:g} and beta_max {beta_max:g} were found"
            raise UserError(f"model.path.beta_min: {found}, 0 < beta_min <= beta_max is expected")
        if not 0 < start < 1:
            raise UserError(f"model.path.start: {start:g} was found, a number between 0 and 1 is expected")
        self.beta_min, self.beta_max, self.start = beta_min, beta_max, start

    def _log_alpha(self, t: Tensor) -> Tensor:
        return -0.25 * t.square() * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def _beta(self, t: Tensor) -> Tensor:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def alpha(self, t: Tensor) -> Tensor:
        """See `VariancePreserving`."""
        return self._log_alpha(t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """The root of 1 - alpha^2."""
        return (-torch.expm1(2 * self._log_alpha(t))).sqrt()

    def alpha_rate(self, t: Tensor) -> Tensor:
        """-b alpha / 2."""
        return -0.5 * self._beta(t) * self.alpha(t)

    def sigma_rate(self, t: Tensor) -> Tensor:
        """Equal to b alpha^2 / (2 sigma)."""
        return 0.5 * self._beta(t) * self.alpha(t).square() / self.sigma(t)

    def time_of(self, ratio: Tensor) -> Tensor:
        """See `Path`: the root of a quadratic equation in t."""
        log_alpha = -0.5 * torch.log1p(ratio.clamp(max=1e15).square())  # an infinite ratio is beyond the end
        slope, rise = self.beta_min, self.beta_max - self.beta_min
        return -4 * log_alpha / (slope + (slope**2 - 4 * rise * log_alpha).sqrt())
