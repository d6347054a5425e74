"""Solvers of the probability-flow ODE with a fixed number of steps; they add no noise."""

import math
from itertools import pairwise

from torch import Tensor

from lit_gen.models.diffusion.solvers.base import Asked, Stepwise
from lit_gen.protocols.images import IndexedDraws

__all__ = ["DPMSolver", "Euler", "Heun"]


class Euler(Stepwise):
    """x <- x + (then - now) dx/dt: first order, one call for each step.

    Args:
        steps: of the grid.
        spacing: see `Stepwise`.
    """

    def __init__(self, steps: int = 100, spacing: str = "path") -> None:
        super().__init__(steps, spacing)

    def step(self, field: Asked, x: Tensor, now: float, then: float, index: int, draws: IndexedDraws | None) -> Tensor:
        """See `Stepwise`."""
        return x + (then - now) * field.velocity(x, now)


class Heun(Stepwise):
    """Euler's step, then the mean of dx/dt before and after it: second order, two calls for each step but the last.

    Karras et al., 2022, https://arxiv.org/abs/2206.00364, algorithm 1; there is no correction in the step to 0.

    Args:
        steps: of the grid.
        spacing: see `Stepwise`.
    """

    def __init__(self, steps: int = 18, spacing: str = "path") -> None:
        super().__init__(steps, spacing)

    def step(self, field: Asked, x: Tensor, now: float, then: float, index: int, draws: IndexedDraws | None) -> Tensor:
        """See `Stepwise`."""
        before = field.velocity(x, now)
        after = field.velocity(x + (then - now) * before, then)
        return x + (then - now) * (before + after) / 2


class DPMSolver(Stepwise):
    """DPM-Solver++ 2M: second order in log-SNR, one call for each step. Lu et al., 2022, https://arxiv.org/abs/2211.01095.

    With l = log(alpha / sigma), h = l(then) - l(now) and D the estimate of x_0 (algorithm 2):
    x <- sigma(then) / sigma(now) x + alpha(then) (1 - exp(-h)) (D + h / (2 h_before) (D - D_before)).
    The first step, and the one to time 0, where h is infinite, are of first order: without D_before.

    Args:
        steps: of the grid.
        spacing: see `Stepwise`.
    """

    upward = False

    def __init__(self, steps: int = 20, spacing: str = "path") -> None:
        super().__init__(steps, spacing)

    def walk(self, field: Asked, x: Tensor, times: list[float], draws: IndexedDraws | None) -> Tensor:
        """See `Stepwise`."""
        before: tuple[float, Tensor] | None = None
        for now, then in pairwise(times):
            estimate = field.denoised(x, now)
            if not then:
                return estimate
            h, here = field.log_snr(then) - field.log_snr(now), estimate
            if before is not None:
                here = estimate + h / (2 * (field.log_snr(now) - field.log_snr(before[0]))) * (estimate - before[1])
            x = field.sigma(then) / field.sigma(now) * x - field.alpha(then) * math.expm1(-h) * here
            before = now, estimate
        return x
