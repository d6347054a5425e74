"""The times that a solver goes through."""

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.models.diffusion.base import exactly
from lit_gen.models.diffusion.paths import karras
from lit_gen.protocols.diffusion import Marginal

SPACINGS = ("path", "uniform", "karras", "log_snr")


def check_span(path: Marginal, span: tuple[float, float]) -> None:
    """Refuse a span that is not on the path.

    Raises:
        UserError: for times that are not on it, NaN included, that are equal, or that are between two steps of a
            discrete path.
    """
    if not all(0 <= time <= path.end for time in span):
        raise UserError(f"span: {span} was found, times from 0 to {path.end:g} are expected")
    if span[0] == span[1]:
        raise UserError(f"span: {span} was found, two different times are expected")


def grid(path: Marginal, span: tuple[float, float], steps: int, spacing: str) -> list[float]:
    """The times (steps + 1) from ``span[0]`` to ``span[1]``; those of an upward span are the same in reverse.

    The times of a discrete path are whole steps. Spacings by the level of noise go down to the path's ``start``, and
    then to 0, where that is the end.

    Args:
        path: of the times.
        span: different times on the path; `check_span`.
        steps: how many.
        spacing: one of `SPACINGS`.

    Raises:
        UserError: for a spacing that the path does not have, or more steps than it has.
    """
    first, last = max(span), min(span)
    if spacing == "path":
        times = path.grid(first, steps, last)
    elif spacing == "uniform":
        times = torch.from_numpy(np.linspace(first, last, steps + 1))
    else:
        times = _by_level(path, first, last, steps, spacing)
    if path.steps is not None:
        times = _whole(times, span)
    found = [first, *times.tolist()[1:-1], last]  # without the rounding of a level
    if not all(now > then for now, then in pairwise(found)):
        count = len(set(found)) - 1
        told = (
            f"{steps} was found, but from {first:g} to {last:g} spacing {spacing!r} on the path {type(path).__name__}"
        )
        other = "" if spacing == "path" else ", or model.solver.spacing path"
        raise UserError(f"model.solver.steps: {told} has only {count} different ones; fewer are expected{other}")
    return found if span[0] > span[1] else found[::-1]


def _whole(times: Tensor, span: tuple[float, float]) -> Tensor:
    """Times as whole steps."""
    if any(time != round(time) for time in span):
        raise UserError(f"span: {span} was found, whole numbers are expected, since the path has no other times")
    return times.round()


def _by_level(path: Marginal, first: float, last: float, steps: int, spacing: str) -> Tensor:
    """Times that are evenly spread by a function of sigma / alpha."""
    ends = exactly(first, last or min(path.start, first))
    top, bottom = (path.sigma(ends) / path.alpha(ends)).tolist()
    if not bottom or top == math.inf:
        lacks = f"is nothing but noise at time {first:g}" if bottom else "has no least level of noise"
        raise UserError(
            f"model.solver.spacing: {spacing!r} was found, but the path {type(path).__name__} {lacks}; path or uniform "
            "is expected"
        )
    count = steps if last == 0 else steps + 1
    if spacing == "karras":
        levels = karras(top, bottom, count)[:count]
    else:
        levels = torch.from_numpy(np.geomspace(top, bottom, count))
    times = path.time_of(levels)
    return times if last else torch.cat([times, times.new_zeros(1)])
