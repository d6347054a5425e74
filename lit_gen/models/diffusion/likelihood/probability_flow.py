"""The density of the probability-flow ODE: data are taken along it to the noise, whose density is known."""

import math
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from lit_gen.core.blame import named
from lit_gen.core.errors import UserError
from lit_gen.core.images import level_of
from lit_gen.core.options import at_least, one_of
from lit_gen.core.randomness import latents, uniforms
from lit_gen.models.diffusion.base import Path, exactly
from lit_gen.models.diffusion.denoiser import Denoiser
from lit_gen.models.diffusion.likelihood.base import Likelihood
from lit_gen.models.diffusion.sources import Normal, Source
from lit_gen.models.likelihoods.numerics import wide

__all__ = ["ProbabilityFlow"]

Trace = Literal["auto", "exact", "rademacher", "normal"]
STAGES = {  # each: how far into the step, and its weight; a stage begins from the one before it
    "heun": ((0.0, 0.5), (1.0, 0.5)),
    "rk4": ((0.0, 1 / 6), (0.5, 1 / 3), (0.5, 1 / 3), (1.0, 1 / 6)),
}
EXACT = 16
"""The most dimensions whose trace is exact unless it is asked for: it costs a backward pass for each of them."""
NEAR = 0.01
"""Of the path's end: on paths whose sigma / alpha is 0 or infinite somewhere, steps grow with t + this."""


class ProbabilityFlow(Likelihood):
    """log p(x) = log p_end(x_end) + the integral of div(v) from start to end along dx/dt = v(x, t) + D ln alpha(start).

    Song et al., 2021, https://arxiv.org/abs/2011.13456, section 4.3 and appendix D.2; Grathwohl et al., 2019 (FFJORD),
    https://arxiv.org/abs/1810.01367; p_end is that of sigma(end) times the source, N(0, I) by default. Data are put in
    as x_start = alpha(start) x, and the density is that of x_0 + (sigma / alpha)(start) e, in the units of the data.

    Steps are even in ln(sigma / alpha): of x / alpha the ODE is dx / d ln(sigma) = x - x_0(x), as smooth at the lowest
    level as at the highest, while even steps in t, from 0.002 to 80 on the path EDM, would leap over all levels of the
    data. Where sigma / alpha is 0 or infinite at an end, as on straight lines, dx/dt is finite, and steps are even in
    ln(t + end / 100). What is integrated is x / sqrt(alpha^2 + sigma^2), which stays of one size.

    Levels are dequantized uniformly by index: numbers are spread evenly over the interval that rounds to them, so that
    the mean of the nats is at most the log of the probability of the rounded image. A network that was trained with
    undequantized levels knows nothing of what lies between them, so that their density is nearly 0 unless the noise at
    ``start`` is about as wide as levels are apart.

    Args:
        levels: of a pixel; null for points, whose density is of what they are. Taken from the data set by the command
            line.
        steps: of the ODE solver.
        solver: "heun", of second order with two calls for each step, or "rk4", of fourth order with four.
        trace: "exact"; or the mean over ``probes`` of e' J e (Hutchinson), e from "rademacher" or "normal" noise by
            index, the same at all times; "auto": exact for at most 16 dimensions, else "rademacher".
        probes: of a trace that is not exact.
        start: time at which the data are put in; null: the path's.

    Raises:
        UserError: for unknown names, or numbers out of range.
    """

    name = "probability flow"

    def __init__(
        self,
        levels: int | None = None,
        steps: int = 25,
        solver: Literal["heun", "rk4"] = "rk4",
        trace: Trace = "auto",
        probes: int = 1,
        start: float | None = None,
    ) -> None:
        super().__init__(levels)
        at_least(1, "model.likelihood.", steps=steps, probes=probes)
        one_of(tuple(STAGES), "model.likelihood.", solver=solver)
        one_of(get_args(Trace), "model.likelihood.", trace=trace)
        self.steps, self.solver, self.trace, self.probes, self.start = steps, solver, trace, probes, start

    def settings(self, denoiser: Denoiser) -> dict[str, Any]:
        """See `Likelihood`."""
        trace = self._trace(denoiser)
        probes = {} if trace == "exact" else {"probes": self.probes}
        own = {"levels": self.levels, "solver": self.solver, "steps": self.steps, "start": self._start(denoiser)}
        return {"likelihood": self.name, **own, "trace": trace, **probes}

    def calls(self, denoiser: Denoiser) -> int:
        """See `Likelihood`; each has a backward pass for every probe, or every dimension."""
        return self.steps * len(STAGES[self.solver])

    def check(self, denoiser: Denoiser) -> None:
        """See `Likelihood`: the start lies on the path, and the field is finite there."""
        path, start = denoiser.path, self._start(denoiser)
        if not path.start <= start < path.end:
            found = f"{start:g} was found, {path.start:g} to less than {path.end:g} is expected"
            raise UserError(f"model.likelihood.start: {found}, the times of {type(path).__name__}")
        t = exactly(start, path.end)
        if not all(bool(factor.isfinite().all()) for factor in denoiser.parametrization.velocity(path, t)):
            where = f"on the path {type(path).__name__} from t = {start:g} to {path.end:g}"
            found = f"{named(denoiser.parametrization)} has no finite velocity {where}"
            raise UserError(
                f"model.likelihood.start: {found}; a later start, or the parametrization Velocity, is expected"
            )

    def _start(self, denoiser: Denoiser) -> float:
        return denoiser.path.start if self.start is None else self.start

    def _trace(self, denoiser: Denoiser) -> Trace:
        few = math.prod(denoiser.shape) <= EXACT
        return ("exact" if few else "rademacher") if self.trace == "auto" else self.trace

    def log_prob(
        self,
        denoiser: Denoiser,
        images: Tensor,
        indices: Tensor,
        seed: int,
        labels: Tensor | None = None,
        source: Source | None = None,
    ) -> Tensor:
        """See `Likelihood`."""
        self.check(denoiser)
        # an evaluation may be in inference mode, whose tensors no gradient can be taken of: these are copies
        with torch.inference_mode(False), torch.no_grad():
            labels = None if labels is None else labels.clone()
            x, log_width = self._numbers(wide(images.clone()), indices, seed)
            alpha = float(denoiser.path.alpha(exactly(self._start(denoiser))))
            log_volume = math.prod(x.shape[1:]) * (log_width + math.log(alpha))
            probes = self._probes(denoiser, x, indices, seed)
            points = _points(denoiser.path, self._start(denoiser), 2 * self.steps)
            y, nats = x * (alpha / points[0].scale), x.new_full((len(x),), log_volume)
            for step in range(self.steps):
                first, slope, grown, growth = y, torch.zeros_like(y), torch.zeros_like(y), torch.zeros_like(nats)
                for into, weight in STAGES[self.solver]:
                    point = points[2 * step + round(2 * into)]
                    slope, divergence = _slope(denoiser, first + into / self.steps * slope, point, probes, labels)
                    grown, growth = grown + weight * slope, growth + weight * divergence
                y, nats = first + grown / self.steps, nats + growth / self.steps
            return nats + _end(source or Normal(), denoiser.path, points[-1].scale * y)

    def _numbers(self, x: Tensor, indices: Tensor, seed: int) -> tuple[Tensor, float]:
        """Data as real numbers, and the log of the width of a level, 1 for points."""
        if self.levels is None:
            return x, 0.0
        size = math.prod(x.shape[1:])
        u = uniforms(seed, indices, size, "likelihood: dequantization").view(x.shape).to(x)
        width = 2 / (self.levels - 1)
        return (level_of(x, self.levels) + u - 0.5) * width - 1, math.log(width)

    def _probes(self, denoiser: Denoiser, x: Tensor, indices: Tensor, seed: int) -> Tensor:
        """Vectors (P, B, C, H, W) whose sum of v' J v is the trace of J, or whose mean has it as its expectation."""
        size, trace = math.prod(x.shape[1:]), self._trace(denoiser)
        if trace == "exact":
            return torch.eye(size, dtype=x.dtype, device=x.device).view(size, 1, *x.shape[1:]).expand(size, *x.shape)
        drawn = latents if trace == "normal" else uniforms
        noise = [drawn(seed, indices, size, f"likelihood: probe {i}") for i in range(self.probes)]
        e = torch.stack(noise) if trace == "normal" else torch.where(torch.stack(noise) < 0.5, -1.0, 1.0)
        return e.view(self.probes, *x.shape).to(x) / math.sqrt(self.probes)


class _Point(NamedTuple):
    """Of the way from data to noise, which is gone along evenly."""

    t: float
    rate: float
    """Of t over the share of the way."""
    scale: float
    """The root of alpha^2 + sigma^2: what is integrated is y = x / scale."""
    growth: float
    """Of ln(scale) over the share of the way."""


def _points(path: Path, start: float, count: int) -> list[_Point]:
    """Points at count + 1 even shares."""
    share, ends = exactly(*np.linspace(0, 1, count + 1)), exactly(start, path.end)
    alpha, sigma = path.alpha(ends), path.sigma(ends)
    if bool((sigma > 0).all() and (alpha > 0).all()):
        first, last = (sigma / alpha).log()
        t = path.time_of((first + (last - first) * share).exp()).clamp(start, path.end)
        rate = (last - first) / (path.sigma_rate(t) / path.sigma(t) - path.alpha_rate(t) / path.alpha(t))
    else:
        near = NEAR * path.end
        factor = math.log((path.end + near) / (start + near))
        t = ((start + near) * (factor * share).exp() - near).clamp(start, path.end)
        rate = factor * (t + near)
    alpha, sigma = path.alpha(t), path.sigma(t)
    square = alpha.square() + sigma.square()
    growth = rate * (alpha * path.alpha_rate(t) + sigma * path.sigma_rate(t)) / square
    return [_Point(*point) for point in torch.stack([t, rate, square.sqrt(), growth], 1).tolist()]


def _slope(
    denoiser: Denoiser, y: Tensor, point: _Point, probes: Tensor, labels: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Of y, and the divergence of x's, (B,), over the share of the way."""
    with torch.enable_grad():
        x = (point.scale * y).requires_grad_()
        velocity = denoiser.velocity(x, x.new_full((len(x),), point.t), labels)
    trace = x.new_zeros(len(x))
    for i, v in enumerate(probes):
        (product,) = torch.autograd.grad(velocity, x, v, retain_graph=i + 1 < len(probes))
        trace = trace + (v * product).flatten(1).sum(1)
    return point.rate / point.scale * velocity.detach() - point.growth * y, point.rate * trace


def _end(source: Source, path: Path, x: Tensor) -> Tensor:
    """Nats (B,) of sigma(end) times the source's rows."""
    sigma = float(path.sigma(exactly(path.end)))
    return source.log_prob(x / sigma) - math.prod(x.shape[1:]) * math.log(sigma)
