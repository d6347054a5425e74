"""The laws of adversarial losses, ours and a user's own; `lit_gen.laws.base` says what a law is."""

import torch
from torch import Tensor

from lit_gen.core.randomness import Rows
from lit_gen.laws.base import BATCHES, CPU, LawBroken, Maker, Setting, finite, mean_of_parts, rebuilt
from lit_gen.models.adversarial.losses import AdversarialLoss


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
    draw = Rows(CPU, 0, "law", 0)  # between the labels 0 and 1 of least squares, where no loss is at its optimum yet
    real, fake = (draw.uniform(64).requires_grad_() for _ in range(2))
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
        raise LawBroken("rebuilt from its arguments it gives another value")
