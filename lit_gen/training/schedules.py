"""Schedules: numbers that change over a run, as functions of the step only, so that a resumed run needs no state.

In a config, by the dotted name of what they set::

    schedules:
      generator_optimizer.lr:
        class_path: lit_gen.training.schedules.Linear
        init_args: {start: 2.0e-4, end: 0, steps: 100000}
      regularizers.R1.gamma:
        class_path: lit_gen.training.schedules.Cosine
        init_args: {start: 0.05, end: 0.005, steps: 50000}
"""

import math
from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import nn

from lit_gen.core.blame import named, shown
from lit_gen.core.errors import UserError, nearest
from lit_gen.core.options import RENAMED
from lit_gen.training.hparams import constructor_arguments
from lit_gen.training.optimizers import FACTOR

__all__ = ["Cosine", "Cyclical", "Linear", "Schedule", "WarmupStableDecay", "setter"]


class Schedule:
    """Base of the schedules: from ``start`` at step 0 to ``end`` at step ``steps``, and ``end`` from then on.

    Args:
        start: first value.
        end: last value.
        steps: how many steps the change takes, not counting the warm-up.
        warmup: steps in which the value first rises from 0 to ``start``, in a straight line, beginning at step 0.

    Raises:
        UserError: for ``steps`` below 1, a negative ``warmup``, or an end that is negative or not finite.
    """

    def __init__(self, start: float, end: float, steps: int, warmup: int = 0) -> None:
        if steps < 1 or warmup < 0:
            raise UserError(
                f"model.schedules: {type(self).__name__} with steps {steps} and warmup {warmup} was found, at least 1 "
                f"and 0 are expected"
            )
        if not (0 <= start < math.inf and 0 <= end < math.inf):
            found = f"{type(self).__name__} from {start} to {end}"
            raise UserError(f"model.schedules: {found} was found, numbers of at least 0 are expected")
        self.start, self.end, self.steps, self.warmup = start, end, steps, warmup

    def __call__(self, step: int) -> float:
        """The value at ``step``, which counts from 0.

        Raises:
            UserError: if a subclass's `at` returns no number.
        """
        if step < self.warmup:
            return self.start * (step + 1) / self.warmup
        value: object = self.at(min((step - self.warmup) / self.steps, 1.0))
        if not isinstance(value, float | int):
            raise UserError(f"model.schedules: at of {named(self)} returned {shown(value)}, a number is expected")
        return value

    def at(self, progress: float) -> float:
        """The value at a share of the way, in [0, 1]."""
        raise NotImplementedError


class Linear(Schedule):
    """A straight line: start + (end - start) * t."""

    def at(self, progress: float) -> float:
        """See `Schedule`."""
        return self.start + (self.end - self.start) * progress


class Cosine(Schedule):
    """Half a cosine: end + (start - end) * (1 + cos(pi * t)) / 2.

    R3GAN (Huang et al., 2024, https://arxiv.org/abs/2501.05441) lets the learning rate, Adam's beta2, gamma, the
    augmentation's probability and the moving average's half-life all follow it.
    """

    def at(self, progress: float) -> float:
        """See `Schedule`."""
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * progress)) / 2


class Cyclical(Schedule):
    """Cycles of a straight line from ``start`` to ``end``, each followed by a constant part at ``end``.

    Fu et al., 2019, https://arxiv.org/abs/1903.10145: there beta goes from 0 to 1 in 4 cycles, half of each rising.

    Args:
        start: value at the beginning of each cycle.
        end: value that each cycle reaches, and the last one.
        steps: how many steps all cycles take, not counting the warm-up.
        warmup: steps in which the value first rises to ``start``.
        cycles: their number, at least 1.
        ratio: share of each cycle that the line takes, in (0, 1].

    Raises:
        UserError: for ``cycles`` or ``ratio`` out of range, and as `Schedule`.
    """

    def __init__(
        self, start: float, end: float, steps: int, warmup: int = 0, cycles: int = 4, ratio: float = 0.5
    ) -> None:
        super().__init__(start, end, steps, warmup)
        if cycles < 1 or not 0 < ratio <= 1:
            raise UserError(
                f"model.schedules: Cyclical with cycles {cycles} and ratio {ratio} was found, at least 1 and a number "
                f"in (0, 1] are expected"
            )
        self.cycles, self.ratio = cycles, ratio

    def at(self, progress: float) -> float:
        """See `Schedule`."""
        if progress == 1:
            return self.end
        of_cycle = round(progress * self.cycles, 9) % 1  # 1 / 49 * 49 is less than 1: that cycle would begin at its end
        return self.start + (self.end - self.start) * min(of_cycle / self.ratio, 1.0)


class WarmupStableDecay(Schedule):
    """``start`` all the way, then a straight line to ``end`` over the last ``decay`` share of the steps.

    Hu et al., 2024 (MiniCPM), https://arxiv.org/abs/2404.06395.

    Args:
        start: value after the warm-up.
        end: last value.
        steps: how many steps until ``end``, not counting the warm-up.
        warmup: steps in which the value first rises to ``start``.
        decay: share of ``steps``, in (0, 1].

    Raises:
        UserError: for ``decay`` out of range, and as `Schedule`.
    """

    def __init__(self, start: float, end: float, steps: int, warmup: int = 0, decay: float = 0.2) -> None:
        super().__init__(start, end, steps, warmup)
        if not 0 < decay <= 1:
            raise UserError(f"model.schedule: WarmupStableDecay with decay {decay} was found, in (0, 1] is expected")
        self.decay = decay

    def at(self, progress: float) -> float:
        """See `Schedule`."""
        return self.start + (self.end - self.start) * max(0.0, progress - (1 - self.decay)) / self.decay


def setter(name: str, targets: dict[str, Any]) -> Callable[[float], None]:
    """A function that sets the number ``name`` to a value.

    Args:
        name: ``generator_optimizer.lr``, ``discriminator_optimizer.beta2``, ``regularizers.R1.gamma``, ``augment.p``,
            ``ema.half_life``: first one of ``targets``, then attributes, keys or, of an optimizer, the entry of every
            parameter group.
        targets: what may be named first.

    Raises:
        UserError: if there is no such number, with the nearest name, or if it has a schedule already.
    """
    first, *inner, last = name.split(".") if "." in name else ["", name]
    owner = _child(targets, first, name) if first else targets[""]
    for part in inner:
        owner = _child(owner, part, name)
    if isinstance(owner, torch.optim.Optimizer):
        return lambda value: _put_in_groups(owner, last, value, name)
    arguments = constructor_arguments(type(owner)).items()
    known = [k for k, p in arguments if float in (p.annotation, *get_args(p.annotation))]
    if isinstance(getattr(owner, last, None), Schedule):
        raise UserError(f"model.schedules: {name} has a schedule already, model.{name}; one is expected")
    before = owner._buffers.get(last) if isinstance(owner, nn.Module) else None
    if before is None and (last not in known or getattr(owner, last, None) is None):
        hint = f"; it is {RENAMED[name]} now" if name in RENAMED else nearest(last, known)
        raise UserError(f"model.schedules: {name} is no number that can be set{hint}")
    if before is None:
        return lambda value: setattr(owner, last, value)

    def fill(value: float) -> None:
        owner._buffers[last].fill_(value)  # looked up each time: a move to another device replaces it

    return fill


def _child(owner: Any, part: str, name: str) -> Any:
    known = owner if isinstance(owner, dict) else {**getattr(owner, "_modules", {}), **vars(owner)}
    if known.get(part) is None:
        there = [str(k) for k, v in known.items() if k and v is not None and not str(k).startswith("_")]
        raise UserError(
            f"model.schedules: {name} names no {part!r}{nearest(part, there)} (there are {', '.join(there)})"
        )
    return known[part]


def _put_in_groups(optimizer: torch.optim.Optimizer, last: str, value: float, name: str) -> None:
    for group in optimizer.param_groups:  # a resume replaces them
        if last in ("beta1", "beta2") and "betas" in group:
            betas = list(group["betas"])
            betas[int(last[-1]) - 1] = value
            group["betas"] = tuple(betas)
        elif last in group and isinstance(group[last], int | float):
            group[last] = value * group.get(FACTOR, 1.0) if last == "lr" else value
        else:
            known = [k for k, v in group.items() if isinstance(v, int | float)] + ["beta1", "beta2"]
            raise UserError(f"model.schedules: {name}: the optimizer has no number {last!r}{nearest(last, known)}")
