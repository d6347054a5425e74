"""From a given image instead of noise: other versions of it, and parts of it filled in, without further training."""

import math

import torch
from torch import Tensor

from lit_gen.core.options import expect
from lit_gen.models.diffusion.base import column
from lit_gen.models.diffusion.solvers.base import Solver, Stepwise
from lit_gen.models.diffusion.solvers.grids import grid
from lit_gen.protocols.diffusion import Field, Marginal, Solved
from lit_gen.protocols.images import IndexedDraws

__all__ = ["Edited", "begin", "edited"]

GRID = 1000
"""Times among which a solver that chooses its steps begins."""


class Edited:
    """A field whose estimate of x_0 is the given image where that is to be kept: a `lit_gen.protocols.diffusion.Field`.

    The velocity follows from the estimate, so that what is kept goes from its noise to the image exactly, and the model
    sees it at every level of noise. Song et al., 2021, https://arxiv.org/abs/2011.13456, appendix I.2, set x_t there;
    to set the estimate is the same with the noise that x_t has.

    Args:
        field: of the model, with or without conditions.
        images: (B, C, H, W).
        mask: (B, 1, H, W), 1 where images are to be filled in, 0 where they are kept; numbers between blend both.
    """

    def __init__(self, field: Field, images: Tensor, mask: Tensor) -> None:
        self._field, self._images, self._mask = field, images, mask.to(images.dtype)

    @property
    def path(self) -> Marginal:
        """See `lit_gen.protocols.diffusion.Field`."""
        return self._field.path

    def denoised(self, x: Tensor, t: Tensor) -> Tensor:
        """See `lit_gen.protocols.diffusion.Field`."""
        return self._mask * self._field.denoised(x, t) + (1 - self._mask) * self._images

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """See `lit_gen.protocols.diffusion.Field`: alpha' x_0 + sigma' e with e = (x - alpha x_0) / sigma."""
        alpha, sigma, alpha_rate, sigma_rate = (
            column(f(t), x) for f in (self.path.alpha, self.path.sigma, self.path.alpha_rate, self.path.sigma_rate)
        )
        kept = alpha_rate * self._images + sigma_rate * (x - alpha * self._images) / sigma
        return self._mask * self._field.velocity(x, t) + (1 - self._mask) * kept

    def calls(self, t: Tensor) -> Tensor:
        """See `lit_gen.protocols.diffusion.Field`."""
        return self._field.calls(t)


def begin(solver: Solver, path: Marginal, strength: float) -> tuple[Solver, float]:
    """Where the last steps of a solver begin, and the solver that makes them.

    Args:
        solver: how samples are drawn.
        path: the model's.
        strength: the share of the solver's steps that are made, rounded down, in (0, 1], as in diffusers. A solver that
            chooses its steps begins where that share of a grid of the path is left. On `EDM`, whose grid is fine at low
            noise, half of many steps begin at 2.5 of 80.

    Returns:
        The solver, and the time.

    Raises:
        UserError: for a number outside (0, 1], and one so small that no step is left.
    """
    expect(0 < strength <= 1, "--strength", strength, "a number above 0, at most 1,")
    if isinstance(solver, Stepwise):
        count = math.floor(solver.steps * strength + 1e-9)
        least = f"at least {1 / solver.steps:.3g}"
        expect(count > 0, "--strength", strength, least, f": one of {solver.steps} steps")
        return solver.last_steps(count), solver.times(path, (path.end, 0.0))[solver.steps - count]
    steps = min(GRID, path.steps or GRID)
    times = grid(path, (path.end, 0.0), steps, "path")
    return solver, times[steps - max(1, math.floor(steps * strength + 1e-9))]


def edited(
    solver: Solver,
    field: Field,
    noise: Tensor,
    images: Tensor,
    mask: Tensor | None = None,
    strength: float = 1.0,
    draws: IndexedDraws | None = None,
) -> Solved:
    """Images as the model would have them: from alpha x_0 + sigma e at a time on the path to data.

    SDEdit, Meng et al., 2022, https://arxiv.org/abs/2108.01073: the more noise, the less is left of the image. With a
    mask, the image is kept where that is 0; at strength 1 nothing is left of it where the mask is 1.

    Args:
        solver: how samples are drawn.
        field: of the model.
        noise: (B, C, H, W), of unit variance.
        images: (B, C, H, W), to begin with.
        mask: (B, 1, H, W), 1 where they are to be filled in; None to change them everywhere.
        strength: see `begin`.
        draws: the noise of a stochastic solver.

    Raises:
        UserError: see `begin`.
    """
    chosen, time = begin(solver, field.path, strength)
    given = images if mask is None or strength < 1 else images * (1 - mask.to(images.dtype))
    t = torch.full((len(images),), time, dtype=torch.promote_types(noise.dtype, torch.float32), device=noise.device)
    x = column(field.path.alpha(t), noise) * given + column(field.path.sigma(t), noise) * noise
    return chosen(field if mask is None else Edited(field, images, mask), x, (time, 0.0), draws)
