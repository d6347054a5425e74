"""Solvers that add noise in their steps, so that samples forget the errors of the steps before."""

import math
from typing import Self

from torch import Tensor

from lit_gen.core.options import not_negative, one_of, within
from lit_gen.models.diffusion.solvers.base import Asked, Stepwise, noise_like
from lit_gen.models.diffusion.solvers.ode import Heun
from lit_gen.protocols.images import IndexedDraws

__all__ = ["DDIM", "Ancestral", "Stochastic"]


def _fresh(field: Asked, now: float, then: float) -> float:
    """The variance of x_now given x_then, for then < now: sigma(now)^2 - (alpha(now) / alpha(then))^2 sigma(then)^2."""
    kept = field.alpha(now) / field.alpha(then)
    return max(0.0, field.sigma(now) ** 2 - (kept * field.sigma(then)) ** 2)


class Ancestral(Stepwise):
    """The sampler of DDPM: x_then from q(x_then | x_now, x_0), with the estimate for x_0, on any path.

    Ho et al., 2020, https://arxiv.org/abs/2006.11239, equations 6 and 7. With k = alpha(now) / alpha(then), the root of
    their 1 - b, and v = sigma(now)^2 - k^2 sigma(then)^2, their b, the mean is
    (k sigma(then)^2 x_now + alpha(then) v x_0) / sigma(now)^2.

    Args:
        steps: of the grid; on a discrete path fewer than it has are steps of several at once.
        spacing: see `Stepwise`.
        variance: of the noise: "small", that of q, v sigma(then)^2 / sigma(now)^2; "large", v.

    Raises:
        UserError: see `Stepwise`; for an unknown variance.
    """

    noisy, upward = True, False

    def __init__(self, steps: int = 1000, spacing: str = "path", variance: str = "small") -> None:
        super().__init__(steps, spacing)
        one_of(("small", "large"), "model.solver.", variance=variance)
        self.variance = variance

    def step(self, field: Asked, x: Tensor, now: float, then: float, index: int, draws: IndexedDraws | None) -> Tensor:
        """See `Stepwise`."""
        kept, fresh, share = field.alpha(now) / field.alpha(then), _fresh(field, now, then), field.sigma(then) ** 2
        share = share / field.sigma(now) ** 2
        mean = kept * share * x + field.alpha(then) * fresh / field.sigma(now) ** 2 * field.denoised(x, now)
        deviation = math.sqrt(fresh * share if self.variance == "small" else fresh)
        return mean + deviation * noise_like(x, draws, "ancestral", index)


class DDIM(Stepwise):
    """x_then = alpha x_0 + sigma e with the estimates of x_0 and e, of which a part may be fresh noise.

    Song et al., 2021, https://arxiv.org/abs/2010.02502, equations 12 and 16. First order, one call for each step.

    Args:
        steps: of the grid.
        spacing: see `Stepwise`.
        eta: the share of the noise of `Ancestral`, in [0, 1]; 0 adds none, so that it solves the probability-flow ODE,
            upward too.

    Raises:
        UserError: see `Stepwise`; for a share outside [0, 1].
    """

    def __init__(self, steps: int = 50, spacing: str = "path", eta: float = 0.0) -> None:
        super().__init__(steps, spacing)
        within("[0, 1]", "model.solver.", eta=eta)
        self.eta = eta
        self.noisy, self.upward = eta > 0, eta == 0

    def step(self, field: Asked, x: Tensor, now: float, then: float, index: int, draws: IndexedDraws | None) -> Tensor:
        """See `Stepwise`."""
        data = field.denoised(x, now)
        noise = (x - field.alpha(now) * data) / field.sigma(now)
        if not self.eta:
            return field.alpha(then) * data + field.sigma(then) * noise
        fresh = self.eta * field.sigma(then) / field.sigma(now) * math.sqrt(_fresh(field, now, then))
        kept = math.sqrt(max(0.0, field.sigma(then) ** 2 - fresh**2))
        return field.alpha(then) * data + kept * noise + fresh * noise_like(x, draws, "ddim", index)


class Stochastic(Heun):
    """Heun's steps, before each of which the level of noise is raised. Karras et al., 2022, algorithm 2.

    https://arxiv.org/abs/2206.00364. With level = sigma / alpha and gamma = min(s_churn / steps, sqrt(2) - 1), fresh
    noise makes the level 1 + gamma times as high, where s_min <= level <= s_max, but never higher than at the path's
    end, above which no network is trained. The defaults, but for the
    number of steps, 256 there, are the paper's for ImageNet, table 5.

    Args:
        steps: of the grid.
        spacing: see `Stepwise`.
        s_churn: how much noise is added; 0 for none.
        s_min: the least level at which it is.
        s_max: the largest; None for any.
        s_noise: the standard deviation of that noise.

    Raises:
        UserError: see `Stepwise`; for a number below 0.
    """

    noisy, upward = True, False

    def __init__(
        self,
        steps: int = 64,
        spacing: str = "path",
        s_churn: float = 40.0,
        s_min: float = 0.05,
        s_max: float | None = 50.0,
        s_noise: float = 1.003,
    ) -> None:
        super().__init__(steps, spacing)
        not_negative("model.solver.", s_churn=s_churn, s_min=s_min, s_max=s_max, s_noise=s_noise)
        self.s_churn, self.s_min, self.s_max, self.s_noise = s_churn, s_min, s_max, s_noise

    def last_steps(self, count: int) -> Self:
        """See `Stepwise`: with as much noise in each step."""
        other = self.with_steps(count)
        other.s_churn = self.s_churn * count / self.steps
        return other

    def move(self, field: Asked, x: Tensor, now: float, then: float, index: int, draws: IndexedDraws | None) -> Tensor:
        """See `Stepwise`."""
        raised = self._raised(field, now)
        if raised > now:
            scale, level = field.alpha(raised), field.sigma(now) / field.alpha(now)
            added = math.sqrt(max(0.0, (field.sigma(raised) / scale) ** 2 - level**2))
            noise = noise_like(x, draws, "churn", index)
            x = scale / field.alpha(now) * x + scale * added * self.s_noise * noise
        return super().move(field, x, raised, then, index, draws)

    def _raised(self, field: Asked, now: float) -> float:
        """The time of the higher level, of a discrete path a whole one; ``now`` for none."""
        alpha = field.alpha(now)
        level = field.sigma(now) / alpha if alpha else math.inf
        gamma = min(self.s_churn / self.steps, math.sqrt(2) - 1)
        if not self.s_min <= level <= (math.inf if self.s_max is None else self.s_max) or level == math.inf:
            return now
        time = field.time_of((1 + gamma) * level)
        return max(now, min(round(time) if field.path.steps is not None else time, field.path.end))
