"""The laws that every loss, regularizer and network keeps, ours and a user's own alike.

The test suite puts all of ours through them, ``lit-gen check my_file.MyPenalty`` whatever a user wrote. Those of losses
stand here; `lit_gen.gan.verdicts` says what a law is.
"""

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lit_gen.errors import UserError
from lit_gen.gan import network_laws, regularizer_laws
from lit_gen.gan.losses import AdversarialLoss
from lit_gen.gan.verdicts import (
    BATCHES,
    CPU,
    Kind,
    Law,
    LawBroken,
    Maker,
    Noted,
    Setting,
    finite,
    mean_of_parts,
    rebuilt,
    seeded,
)
from lit_gen.randomness import Rows

__all__ = ["LAWS", "Setting", "Verdict", "examine"]


def _logits(n: int) -> list[Tensor]:
    """Real and fake logits (n,)."""
    draw = Rows(CPU, 0, "law", 0)
    return [draw.normal(n).requires_grad_() for _ in range(2)]


def loss_is_two_scalars(make: Maker, setting: Setting) -> None:
    """An AdversarialLoss of two scalars for batches of 1, 4 and 64."""
    for n in BATCHES:
        found = make()(*_logits(n))
        if not isinstance(found, AdversarialLoss):
            raise LawBroken(f"a {type(found).__name__} was returned, an AdversarialLoss is expected")
        for name, value in found._asdict().items():
            if not isinstance(value, Tensor) or value.ndim:
                shape = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
                raise LawBroken(f"{name} is {shape} for {n} logits, a scalar tensor is expected (take its mean)")


def loss_is_finite(make: Maker, setting: Setting) -> None:
    """Finite values and gradients, for logits of 10,000 too."""
    far = torch.tensor([-1e4, 1e4])
    for real, fake in (*(_logits(n) for n in BATCHES), (far.clone(), far.flip(0)), (far.clone(), far.clone())):
        logits = [real.requires_grad_(), fake.requires_grad_()]
        for value in make()(*logits):
            gradients = torch.autograd.grad(value, logits, allow_unused=True, retain_graph=True)
            largest = real.abs().max().item()
            finite(value, [g for g in gradients if g is not None], f"at logits up to {largest:.0f}")


def loss_pulls_the_right_way(make: Maker, setting: Setting) -> None:
    """The discriminator raises real logits and lowers fake ones; the generator raises fake ones."""
    real, fake = _logits(64)
    losses = make()(real, fake)
    for side, logits, name, sign in (
        ("discriminator", real, "real", -1),
        ("discriminator", fake, "fake", 1),
        ("generator", fake, "fake", -1),
    ):
        (gradient,) = torch.autograd.grad(getattr(losses, side), logits, retain_graph=True, allow_unused=True)
        slope = 0.0 if gradient is None else gradient.sum().item()
        if slope * sign <= 0:
            moves = "leaves" if slope == 0 else "raises" if slope < 0 else "lowers"
            raise LawBroken(
                f"the {side}'s loss {moves} {name} logits, {'raising' if sign < 0 else 'lowering'} expected"
            )


def loss_is_a_mean(make: Maker, setting: Setting) -> None:
    """A mean over the batch, so that micro-batches and ranks average to the whole."""
    loss, (real, fake) = make(), _logits(64)
    whole, twice = loss(real, fake), loss(real.repeat(2), fake.repeat(2))
    halves = [loss(r, f) for r, f in zip(real.chunk(2), fake.chunk(2), strict=True)]
    for i in range(2):
        mean_of_parts(whole[i], twice[i], [half[i] for half in halves])


def loss_is_a_function(make: Maker, setting: Setting) -> None:
    """Equal logits give equal losses, without a random draw or a change of the logits."""
    loss, (real, fake) = make(), [x.detach() for x in _logits(64)]
    before, given = torch.get_rng_state(), [real.clone(), fake.clone()]
    first, second = loss(real, fake), loss(*[x.clone() for x in given])
    if not torch.equal(torch.get_rng_state(), before):
        raise LawBroken("it draws from the global random state, which depends on the number of ranks")
    if any(not torch.equal(a, b) for a, b in zip((*first, real, fake), (*second, *given), strict=True)):
        raise LawBroken("a second call with the same logits gives another loss")


def loss_can_be_saved(make: Maker, setting: Setting) -> None:
    """A checkpoint can name it, and rebuild it with the same value."""
    loss, logits = make(), _logits(4)
    if any(not torch.equal(a, b) for a, b in zip(loss(*logits), rebuilt(loss)(*logits), strict=True)):
        raise LawBroken("rebuilt from its description it gives another value")


_OF_BOTH: list[Law] = [network_laws.output, network_laws.gradients, network_laws.evaluation, network_laws.rows]
_OF_BOTH += [network_laws.rebuilding, network_laws.copying, network_laws.labels_matter]

LAWS: dict[Kind, list[Law]] = {
    "loss": [
        loss_is_two_scalars,
        loss_is_finite,
        loss_pulls_the_right_way,
        loss_is_a_mean,
        loss_is_a_function,
        loss_can_be_saved,
    ],
    "regularizer": [
        regularizer_laws.place,
        regularizer_laws.scalar,
        regularizer_laws.finite_values,
        regularizer_laws.finite_at_zero,
        regularizer_laws.mean,
        regularizer_laws.function,
        regularizer_laws.networks_alone,
        regularizer_laws.saving,
    ],
    "generator": _OF_BOTH,
    "discriminator": [*_OF_BOTH, network_laws.second_derivatives],
}


@dataclass(frozen=True)
class Verdict:
    """What became of one law."""

    law: str
    outcome: Literal["ok", "FAIL", "note"]
    found: str = ""


def examine(make: Maker, setting: Setting) -> Iterator[Verdict]:
    """Put what ``make`` builds through the laws of its kind, one verdict each; an exception inside breaks the law.

    Args:
        make: builds the subject anew; called several times for each law.
        setting: its kind, and the images to try it on.
    """
    for law in LAWS[setting.kind]:
        name = (law.__doc__ or law.__name__).splitlines()[0].rstrip(".")
        try:
            with seeded():
                law(make, setting)
        except Noted as note:
            yield Verdict(name, "note", str(note))
        except Exception as error:
            yield Verdict(name, "FAIL", _told(error))
        else:
            yield Verdict(name, "ok")


def _told(error: Exception) -> str:
    if isinstance(error, LawBroken | UserError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = str(Path(__file__).parents[1])
    own = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith(ours)]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{where}"
