"""What a law is, and what may be found.

A law is a function of a maker, which builds the subject anew with the same random weights at each call, and of a
`Setting`. It returns nothing where the law is kept, raises `LawBroken` where it is not, and `Noted` where something is
allowed but worth knowing. The first line of its docstring is the law.
"""

import functools
import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.random import fork_rng

from lit_gen.core import randomness
from lit_gen.training.hparams import describe

Kind = Literal["loss", "regularizer", "generator", "discriminator", "transform", "denoiser", "translator"]
CPU = torch.device("cpu")
BATCHES = (1, 4, 64)  # sizes with which everything that takes a batch is tried


class LawBroken(AssertionError):
    """One sentence: what was found and what is expected."""


class Noted(Exception):
    """One sentence on something that is allowed, but has a price."""


class Setting(NamedTuple):
    """What a law tries its subject on."""

    kind: Kind
    shape: tuple[int, int, int] = (1, 28, 28)
    """Of one image (C, H, W)."""


Maker = Callable[[], Any]
Law = Callable[[Maker, Setting], None]


@contextmanager
def seeded() -> Iterator[None]:
    """The same global random state for everybody inside; outside it stays as it was."""
    with fork_rng(devices=[]):
        randomness.seed_global(0, 0, 0, torch.device("cpu"))
        yield


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """A state as it comes back from a checkpoint, which is read without running its code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def rebuilt(value: Any) -> Any:
    """``value`` made anew from what a checkpoint holds of it: its class and constructor arguments.

    Raises:
        UserError: if it cannot be described.
    """
    return _again(value, describe(value, type(value).__name__))


def _again(value: Any, described: Any) -> Any:
    if isinstance(value, functools.partial):
        return value
    if isinstance(described, list):
        return [_again(v, d) for v, d in zip(value, described, strict=True)]
    if isinstance(value, dict):
        return {k: _again(value[k], described[k]) for k in value}
    if isinstance(described, dict):
        return type(value)(**{k: _again(getattr(value, k), d) for k, d in described["init_args"].items()})
    return value  # a plain value, or a function or class that its path leads to


def _close(a: Tensor, b: Tensor) -> bool:
    return math.isclose(a.item(), b.item(), rel_tol=1e-4, abs_tol=1e-5)


def finite(value: Tensor, gradients: list[Tensor], where: str) -> None:
    """Break the law of finite values for a loss (scalar) or one of its gradients; ``where`` ends the sentence."""
    if not torch.isfinite(value):
        raise LawBroken(f"{value.item()} was found {where}, a finite value is expected")
    if not all(torch.isfinite(g).all() for g in gradients):
        raise LawBroken(f"NaN or infinity was found in the gradient {where}")


def mean_of_parts(whole: Tensor, twice: Tensor, halves: list[Tensor]) -> None:
    """Break the law of means, given the values of a batch, of a batch with each sample twice, and of its two halves."""
    if not _close(whole, twice):
        raise LawBroken(
            f"{whole.item():.4g} was found for a batch and {twice.item():.4g} for a batch with each sample twice; "
            f"a mean over the batch of one value (or one norm) for each sample is expected"
        )
    if not _close(whole, sum(halves, torch.zeros(())) / len(halves)):
        raise Noted("takes means of the batch: gather them over ranks with lit_gen.core.distributed.mean_over_ranks")
