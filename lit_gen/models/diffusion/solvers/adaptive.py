"""A solver of the probability-flow ODE that chooses its steps, for each row."""

from typing import NamedTuple

import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.core.options import above, at_least
from lit_gen.models.diffusion.base import column
from lit_gen.models.diffusion.solvers.base import Solver, at
from lit_gen.models.diffusion.solvers.grids import check_span
from lit_gen.protocols.diffusion import Field, Marginal, Solved
from lit_gen.protocols.images import IndexedDraws

__all__ = ["Adaptive"]

STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
"""Shares of the velocities so far in the next stage; the last stage is the step itself."""
PLACES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
"""Where in the step a stage is."""
ERRORS = (-71 / 57600, 0.0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40)
"""Shares of the velocities in the difference to the solution of fourth order."""
SAFETY, LEAST, MOST = 0.9, 0.2, 10.0
"""A step is at most so many times as large as the one before it, and as small."""
FLOOR = 1e-4
"""Of the path: the least time asked where the path has none of its own."""


class _Rows(NamedTuple):
    """Where each row is."""

    x: Tensor
    t: Tensor
    velocity: Tensor
    size: Tensor
    """(B,), of the next step, without its sign."""
    rejected: Tensor
    """bool (B,), whether the last step was."""


class Adaptive(Solver):
    """Dormand and Prince's method of order 5(4), whose steps are as large as a tolerance allows.

    https://doi.org/10.1016/0771-050X(80)90013-3, with the control of steps of Hairer, Norsett and Wanner, "Solving
    Ordinary Differential Equations I", II.4, https://doi.org/10.1007/978-3-540-78862-1. Every row has its own steps, so
    that no row depends on another. The error of a step is below atol + rtol |x|, root mean square over a row. Below the
    path's ``start``, 1e-4 of the path where that is 0, the ends of `Stepwise` are used: E[x_0 | x_t] at time 0, alpha
    x_0 from there.
    On a discrete path it asks the network also between two steps.

    Args:
        rtol: relative tolerance.
        atol: absolute tolerance.
        max_calls: of the network, for one row.

    Raises:
        UserError: for tolerances that are not above 0.
    """

    adaptive = True

    def __init__(self, rtol: float = 1e-5, atol: float = 1e-5, max_calls: int = 10_000) -> None:
        above(0, "model.solver.", finite=True, rtol=rtol, atol=atol)
        at_least(1, "model.solver.", max_calls=max_calls)
        self.rtol, self.atol, self.max_calls = rtol, atol, max_calls

    def check(self, path: Marginal) -> None:
        """See `lit_gen.protocols.diffusion.Solver`; it can solve on any path."""

    def __call__(self, field: Field, x: Tensor, span: tuple[float, float], draws: IndexedDraws | None = None) -> Solved:
        """See `lit_gen.protocols.diffusion.Solver`. A row that becomes NaN or infinite ends as NaN.

        Raises:
            UserError: for a span that the path does not have, and if a row needs more than ``max_calls``.
        """
        check_span(field.path, span)
        least = min(field.path.start or FLOOR * field.path.end, max(span))
        first, last = (time or least for time in span)
        calls = torch.zeros(len(x), device=x.device)
        if not span[0]:
            x = column(field.path.alpha(at(first, x)), x) * x
        if first != last:
            x = self._solved(field, x, first, last, calls)
            first = last
        if not span[1]:
            calls += field.calls(at(first, x))
            x = field.denoised(x, at(first, x))
        return Solved(x, calls.cpu().double())

    def _solved(self, field: Field, x: Tensor, first: float, last: float, calls: Tensor) -> Tensor:
        """X at time ``last``; adds to ``calls``."""
        rows = self._begun(field, x, first, last, calls)
        while True:
            active = (rows.t != last) & rows.size.isfinite()
            if not bool(active.any()):
                return torch.where(column(rows.t, x) == last, rows.x, torch.nan)
            self._check_calls(calls, active, rows.t)
            rows = self._stepped(field, rows, last, active, calls)

    def _begun(self, field: Field, x: Tensor, first: float, last: float, calls: Tensor) -> _Rows:
        """The first step: as large as an estimate of the second derivative allows."""
        t, length = at(first, x), abs(last - first)
        velocity = field.velocity(x, t)
        scale = self.atol + self.rtol * x.abs()
        size, speed = _norm(x / scale), _norm(velocity / scale)
        trial = torch.where((size < 1e-5) | (speed < 1e-5), 1e-6, 0.01 * size / speed).clamp(max=length)
        signed = trial if last > first else -trial
        ahead = field.velocity(x + column(signed, x) * velocity, t + signed)
        calls += field.calls(t) + field.calls(t + signed)
        bend = torch.maximum(speed, _norm((ahead - velocity) / scale) / trial)
        chosen = torch.where(bend <= 1e-15, (trial * 1e-3).clamp(min=1e-6), (0.01 / bend) ** 0.2)
        return _Rows(x, t, velocity, torch.minimum(100 * trial, chosen).clamp(max=length), torch.zeros_like(t).bool())

    def _stepped(self, field: Field, rows: _Rows, last: float, active: Tensor, calls: Tensor) -> _Rows:
        """A step of every active row, accepted where its error is within the tolerance."""
        x, t = rows.x, rows.t
        size = torch.where(active, rows.size, 0)
        then = torch.where(last > t, (t + size).clamp(max=last), (t - size).clamp(min=last))
        h = then - t
        velocities, ahead = [rows.velocity], x
        for place, shares in zip(PLACES, STAGES, strict=True):
            ahead = x + column(h, x) * _sum(shares, velocities)
            when = then if place == 1 else t + place * h
            velocities.append(field.velocity(ahead, when))
            calls += field.calls(when) * active
        scale = self.atol + self.rtol * torch.maximum(x.abs(), ahead.abs())
        error = _norm(column(h, x) * _sum(ERRORS, velocities) / scale)
        accepted, factor = active & (error < 1), SAFETY * error**-0.2
        most = torch.where(rows.rejected, 1.0, MOST)
        factor = torch.where(accepted, torch.minimum(factor, most), factor.clamp(min=LEAST))
        took = column(accepted, x) > 0
        return _Rows(
            torch.where(took, ahead, x),
            torch.where(accepted, then, t),
            torch.where(took, velocities[-1], rows.velocity),
            torch.where(active, h.abs() * factor, rows.size),
            active & ~accepted,
        )

    def _check_calls(self, calls: Tensor, active: Tensor, t: Tensor) -> None:
        late = active & (calls >= self.max_calls)
        if bool(late.any()):
            raise UserError(
                f"model.solver.max_calls: after {self.max_calls} calls of the network {int(late.sum())} of {len(t)} "
                f"samples are not at their end, one at time {float(t[late][0]):g}; more, or a larger rtol or atol, is "
                "expected"
            )


def _sum(shares: tuple[float, ...], velocities: list[Tensor]) -> Tensor:
    total = shares[0] * velocities[0]
    for share, velocity in zip(shares[1:], velocities[1:], strict=True):
        total = total + share * velocity
    return total


def _norm(x: Tensor) -> Tensor:
    """Root mean square of every row, (B,)."""
    return x.flatten(1).square().mean(1).sqrt()
