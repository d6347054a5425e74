"""Schedules: numbers that change over a run, as functions of the step alone, so that a resumed run needs no state.

In a config, by the dotted name of what they set::

    schedules:
      generator_optimizer.lr: {class_path: lit_gen.schedules.Linear, init_args: {start: 2.0e-4, end: 0, steps: 100000}}
      regularizers.R1.gamma: {class_path: lit_gen.schedules.Cosine, init_args: {start: 0.05, end: 0.005, steps: 50000}}
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lit_gen.errors import UserError, nearest
from lit_gen.hparams import constructor_arguments

__all__ = ["Cosine", "Linear", "Schedule", "setter"]


class Schedule:
    """Base of the schedules: from ``start`` at step 0 to ``end`` at step ``steps``, and ``end`` from then on.

    Args:
        start: first value.
        end: last value.
        steps: how many steps the change takes, not counting the warm-up.
        warmup: steps in which the value first rises from 0 to ``start``, in a straight line; step 0 has the first rung.

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
        """The value at ``step``, which counts from 0."""
        if step < self.warmup:
            return self.start * (step + 1) / self.warmup
        return self.at(min((step - self.warmup) / self.steps, 1.0))

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


def setter(name: str, targets: dict[str, Any]) -> Callable[[float], None]:
    """A function that sets what ``name`` says to a value.

    Args:
        name: ``generator_optimizer.lr``, ``discriminator_optimizer.beta2``, ``regularizers.R1.gamma``, ``augment.p``,
            ``ema_half_life``: first one of ``targets``, then attributes, keys or, of an optimizer, the entry of every
            parameter group.
        targets: what may be named first.

    Raises:
        UserError: if there is no such number; says the nearest name.
    """
    first, *inner, last = name.split(".") if "." in name else ["", name]
    owner = _child(targets, first, name) if first else targets[""]
    for part in inner:
        owner = _child(owner, part, name)
    if isinstance(owner, torch.optim.Optimizer):
        return lambda value: _put_in_groups(owner, last, value, name)
    known = [k for k, p in constructor_arguments(type(owner)).items() if p.annotation in (float, float | None)]
    before = owner._buffers.get(last) if isinstance(owner, nn.Module) else None
    if before is None and (last not in known or getattr(owner, last, None) is None):
        raise UserError(f"model.schedules: {name} is no number that can be set{nearest(last, known)}")
    if before is None:
        return lambda value: setattr(owner, last, value)

    def fill(value: float) -> None:
        owner._buffers[last].fill_(value)  # asked for anew: a move to another device replaces it

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
            group[last] = value
        else:
            known = [k for k, v in group.items() if isinstance(v, int | float)] + ["beta1", "beta2"]
            raise UserError(f"model.schedules: {name}: the optimizer has no number {last!r}{nearest(last, known)}")
