"""The path of DDPM, whose times are whole steps."""

import functools

import numpy as np
import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least, one_of
from lit_gen.models.diffusion.base import Path

__all__ = ["DDPM"]


class DDPM(Path):
    """Discrete steps t = 1, ..., T with alpha(t)^2 = (1 - b_1) ... (1 - b_t); alpha^2 + sigma^2 = 1.

    Ho et al., 2020, https://arxiv.org/abs/2006.11239 (linear); Nichol and Dhariwal, 2021,
    https://arxiv.org/abs/2102.09672 (cosine). Code that counts steps from 0 has t - 1 for our t. Between two steps log
    alpha^2 is linear in t, which is the continuous process with a constant rate of noise that has these steps.

    Args:
        steps: T.
        schedule: "linear" from ``beta_start`` to ``beta_end``, or "cosine".
        beta_start: b_1 of the linear schedule; null: 1e-4 1000 / T, the published one for T = 1,000, so that about the
            same is left of the data at the end.
        beta_end: b_T of the linear schedule; null: 0.02 1000 / T, likewise.

    Raises:
        UserError: for an unknown schedule, fewer than two steps, or b outside (0, 1).
    """

    steps: int

    def __init__(
        self,
        steps: int = 1000,
        schedule: str = "linear",
        beta_start: float | None = None,
        beta_end: float | None = None,
    ) -> None:
        at_least(2, "model.path.", steps=steps)
        one_of(("linear", "cosine"), "model.path.", schedule=schedule)
        first, last = _ends(steps, beta_start, beta_end)
        if schedule == "linear" and not 0 < first <= last < 1:
            found = f"{first:g} and beta_end {last:g} were found with {steps} steps"
            raise UserError(f"model.path.beta_start: {found}, 0 < beta_start <= beta_end < 1 is expected")
        self.steps, self.schedule, self.beta_start, self.beta_end = steps, schedule, beta_start, beta_end
        self.start, self.end = 1.0, float(steps)

    def betas(self) -> Tensor:
        """The variances b_1 to b_T, float64 (T,) on the CPU."""
        return torch.from_numpy(_betas(self.steps, self.schedule, *self._ends()))

    def _ends(self) -> tuple[float, float]:
        return _ends(self.steps, self.beta_start, self.beta_end)

    def _tables(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return _tables(self.steps, self.schedule, *self._ends(), like.device, like.dtype)

    def _logs(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Log alpha^2 at times (B,), and its slope in the step that ends at or after t."""
        table, slopes = self._tables(t)
        after = t.ceil().clamp(1, self.steps).long()
        slope = slopes[after]
        return table[after] - (after - t) * slope, slope

    def alpha(self, t: Tensor) -> Tensor:
        """See `DDPM`."""
        return (0.5 * self._logs(t)[0]).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """The root of 1 - alpha^2."""
        return (-torch.expm1(self._logs(t)[0])).sqrt()

    def alpha_rate(self, t: Tensor) -> Tensor:
        """Half the slope of log alpha^2, times alpha."""
        log, slope = self._logs(t)
        return 0.5 * slope * (0.5 * log).exp()

    def sigma_rate(self, t: Tensor) -> Tensor:
        """See `alpha_rate`: sigma^2 = 1 - alpha^2."""
        log, slope = self._logs(t)
        return -0.5 * slope * log.exp() / (-torch.expm1(log)).sqrt()

    def time_of(self, ratio: Tensor) -> Tensor:
        """See `Path`; beyond the last step, as if its rate of noise went on."""
        table, slopes = self._tables(ratio)
        wanted = -torch.log1p(ratio.square())
        after = torch.searchsorted(-table, -wanted).clamp(1, self.steps)
        return after + (wanted - table[after]) / slopes[after]

    def at_share(self, share: Tensor) -> Tensor:
        """One of the steps 1 to T."""
        return 1 + (share * self.steps).floor().clamp(max=self.steps - 1)

    def grid(self, first: float, steps: int, last: float = 0.0) -> Tensor:
        """Whole steps from ``first`` down to ``last`` ("trailing", https://arxiv.org/abs/2305.08891).

        Raises:
            UserError: for more steps than there are.
        """
        if steps > abs(first - last):
            told = f"{steps} was found, the path DDPM has {abs(first - last):g} steps from {first:g} to {last:g}"
            raise UserError(f"model.solver.steps: {told}; at most {int(abs(first - last))} is expected")
        return super().grid(first, steps, last).round()


def _ends(steps: int, first: float | None, last: float | None) -> tuple[float, float]:
    """b_1 and b_T of the linear schedule."""
    return 1e-4 * 1000 / steps if first is None else first, 0.02 * 1000 / steps if last is None else last


def _betas(steps: int, schedule: str, first: float, last: float) -> np.ndarray:
    """The variances of all steps, float64 (T,); of "cosine" none is above 0.999."""
    if schedule == "linear":
        return np.linspace(first, last, steps)
    kept = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    betas: np.ndarray = np.minimum(1 - kept[1:] / kept[:-1], 0.999)
    return betas


@functools.lru_cache(maxsize=16)
def _tables(
    steps: int, schedule: str, first: float, last: float, where: torch.device, kind: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Log alpha^2 at 0 to T, and its slope in the step that ends there, (T + 1,) each; at 0 that of the first step.

    Kept for each device, so that a training step copies nothing; and outside of the path, which is saved with a run.
    """
    slopes = np.log1p(-_betas(steps, schedule, first, last))
    with torch.inference_mode(False):  # the first call may be in an evaluation, and training needs them too
        table = torch.from_numpy(np.append(0.0, slopes.cumsum())).to(kind).to(where)
        return table, torch.from_numpy(np.append(slopes[0], slopes)).to(kind).to(where)
