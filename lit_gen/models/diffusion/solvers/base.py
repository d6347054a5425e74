"""What solvers share: their settings, the count of network calls, and the walk through a grid of times."""

import copy
import inspect
import math
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least, one_of
from lit_gen.models.diffusion.base import exactly
from lit_gen.models.diffusion.solvers.grids import SPACINGS, check_span, grid
from lit_gen.protocols.diffusion import Field, Marginal, Solved
from lit_gen.protocols.images import IndexedDraws

__all__ = ["Asked", "Solver", "Stepwise", "at", "noise_like"]


class Solver:
    """Base of the solvers; see `lit_gen.protocols.diffusion.Solver`.

    A solver keeps each argument of its constructor as an attribute of that name.
    """

    noisy: bool = False
    """Whether it adds noise, and so needs draws."""
    adaptive: bool = False
    """Whether the number of its calls depends on the sample."""

    @property
    def settings(self) -> dict[str, Any]:
        """See `lit_gen.protocols.diffusion.Solver`."""
        return {"class": type(self).__name__} | {n: getattr(self, n) for n in inspect.signature(type(self)).parameters}

    def check(self, path: Marginal) -> None:
        """See `lit_gen.protocols.diffusion.Solver`."""
        raise NotImplementedError

    def __call__(self, field: Field, x: Tensor, span: tuple[float, float], draws: IndexedDraws | None = None) -> Solved:
        """See `lit_gen.protocols.diffusion.Solver`."""
        raise NotImplementedError


class Asked:
    """A field at one time for all rows, which counts the network calls of each row.

    Attributes:
        calls: float (B,), so far.
    """

    def __init__(self, field: Field, x: Tensor) -> None:
        self._field, self.path = field, field.path
        self.calls = torch.zeros(len(x), device=x.device)

    def denoised(self, x: Tensor, time: float) -> Tensor:
        """E[x_0 | x_t = x]."""
        self.calls += self._field.calls(at(time, x))
        return self._field.denoised(x, at(time, x))

    def velocity(self, x: Tensor, time: float) -> Tensor:
        """dx/dt."""
        self.calls += self._field.calls(at(time, x))
        return self._field.velocity(x, at(time, x))

    def alpha(self, time: float) -> float:
        """What is left of the data."""
        return float(self.path.alpha(exactly(time)))

    def sigma(self, time: float) -> float:
        """The standard deviation of the noise."""
        return float(self.path.sigma(exactly(time)))

    def time_of(self, ratio: float) -> float:
        """The time at which sigma / alpha is ``ratio``."""
        return float(self.path.time_of(exactly(ratio)))

    def log_snr(self, time: float) -> float:
        """Log(alpha / sigma) above time 0; minus infinity where nothing of the data is left."""
        alpha = self.alpha(time)
        return math.log(alpha / self.sigma(time)) if alpha else -math.inf


class Stepwise(Solver):
    """Base: a solver goes through a grid of times; a subclass says how it makes a step, in `step`.

    The step to time 0, where there is no noise, gives E[x_0 | x_t]. The step from time 0 gives alpha x_0, since x_0
    tells nothing of the noise: E[e | x_0] = 0, unless a coupling pairs them, for which that step should be small.

    Args:
        steps: of the grid.
        spacing: of the times: "path", the grid of the path; "uniform" in time; "karras", levels sigma / alpha by
            equation 5 of https://arxiv.org/abs/2206.00364 with rho = 7; "log_snr", uniform in log(alpha / sigma).

    Raises:
        UserError: for no steps, or an unknown spacing.
    """

    upward: bool = True
    """Whether it goes from data to noise, too."""

    def __init__(self, steps: int, spacing: str = "path") -> None:
        at_least(1, "model.solver.", steps=steps)
        one_of(SPACINGS, "model.solver.", spacing=spacing)
        self.steps, self.spacing = steps, spacing

    def check(self, path: Marginal) -> None:
        """See `lit_gen.protocols.diffusion.Solver`."""
        self.times(path, (path.end, 0.0))

    def times(self, path: Marginal, span: tuple[float, float]) -> list[float]:
        """The grid of ``steps + 1`` times; see `lit_gen.models.diffusion.solvers.grids.grid` for what is refused."""
        return grid(path, span, self.steps, self.spacing)

    def with_steps(self, steps: int) -> Self:
        """This solver with another number of steps."""
        at_least(1, steps=steps)
        other = copy.copy(self)
        other.steps = steps
        return other

    def last_steps(self, count: int) -> Self:
        """The solver that makes the last ``count`` steps as this one does."""
        return self.with_steps(count)

    def __call__(self, field: Field, x: Tensor, span: tuple[float, float], draws: IndexedDraws | None = None) -> Solved:
        """See `lit_gen.protocols.diffusion.Solver`.

        Raises:
            UserError: for a span that the path does not have or that goes upward where the solver does not, and for
                draws that are missing.
        """
        check_span(field.path, span)
        if span[0] < span[1] and not self.upward:
            raise UserError(
                f"span: {span} was found, a larger time first is expected, since {type(self).__name__} only goes from "
                "noise to data; Euler, Heun, DDIM and Adaptive go from data to noise"
            )
        if self.noisy and draws is None:
            raise UserError(
                f"draws: None was found, draws by index are expected, since {type(self).__name__} adds noise"
            )
        asked = Asked(field, x)
        return Solved(self.walk(asked, x, self.times(field.path, span), draws), asked.calls.cpu().double())

    def walk(self, field: Asked, x: Tensor, times: list[float], draws: IndexedDraws | None) -> Tensor:
        """X at the last of the times, from x at the first."""
        for index, (now, then) in enumerate(pairwise(times)):
            x = self.move(field, x, now, then, index, draws)
        return x

    def move(self, field: Asked, x: Tensor, now: float, then: float, index: int, draws: IndexedDraws | None) -> Tensor:
        """X at time ``then`` from x at time ``now``, either of which may be 0."""
        if not then:
            return field.denoised(x, now)
        return self.step(field, x, now, then, index, draws) if now else field.alpha(then) * x

    def step(self, field: Asked, x: Tensor, now: float, then: float, index: int, draws: IndexedDraws | None) -> Tensor:
        """X at time ``then`` from x at time ``now``, both above 0; ``index`` counts the steps from 0."""
        raise NotImplementedError


def at(time: float, x: Tensor) -> Tensor:
    """A time for every row of ``x``: (B,), in its precision, in float32 at least."""
    return torch.full((len(x),), time, device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))


def noise_like(x: Tensor, draws: IndexedDraws | None, purpose: str, index: int) -> Tensor:
    """Standard normal noise of the shape of ``x``, named by a purpose and the number of the step."""
    assert draws is not None
    return draws.normal(purpose, index, *x.shape[1:]).to(x)
