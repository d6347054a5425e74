"""Mistakes in a user's loss or regularizers, reported before or at the first step."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from lit_gen.core.blame import fault, named, words
from lit_gen.core.errors import UserError
from lit_gen.models.adversarial.context import FunctionRegularizer, Regularizer
from lit_gen.models.adversarial.heads import MinibatchStd
from lit_gen.models.adversarial.losses import AdversarialLoss, Loss
from lit_gen.training.batch_norm import has_batch_norm


def depends_on_real(loss: Loss) -> bool:
    """Whether the generator's loss depends on the real logits: if not, its step saves a forward pass.

    Raises:
        UserError: if the loss fails on a batch of two or does not return two scalars.
    """
    name = getattr(loss, "__name__", type(loss).__name__)
    real, fake = torch.zeros(2, requires_grad=True), torch.ones(2, requires_grad=True)
    try:
        result = loss(real, fake)
    except Exception as error:
        told = fault(error) or words(error)
        raise UserError(f"model.loss: {name} failed on logits of shape (2,): {told}") from error
    if not isinstance(result, AdversarialLoss) or any(not isinstance(t, Tensor) or t.ndim for t in result):
        found = " ".join(repr(result).split())
        expected = "an AdversarialLoss of two scalar tensors is expected"
        raise UserError(f"model.loss: {named(loss)} returned {found}, {expected}")
    if not all(term.requires_grad for term in result):
        raise UserError(f"model.loss: {named(loss)} returned a constant, a loss that depends on the logits is expected")
    gradients = torch.autograd.grad(result.generator, [real, fake], allow_unused=True)
    return gradients[0] is not None


def ignores_a_shift(loss: Loss) -> bool:
    """Whether the discriminator's loss is the same for D and D + c: the sign of a logit then has no meaning."""
    depends_on_real(loss)  # refuses what is not a loss
    real, fake = torch.tensor([-0.7, 0.4]), torch.tensor([0.2, -1.1])
    return torch.allclose(loss(real, fake).discriminator, loss(real + 3, fake + 3).discriminator, atol=1e-5)


def is_mean_of_rows(loss: Loss) -> bool:
    """Whether the loss of a batch is the mean of the losses of its halves."""
    real, fake = torch.tensor([-0.7, 0.4, 1.3, -0.2]), torch.tensor([0.2, -1.1, 0.9, 0.5])
    whole, halves = loss(real, fake), [loss(real[rows], fake[rows]) for rows in (slice(2), slice(2, None))]
    return all(torch.allclose(a, (b + c) / 2, atol=1e-5) for a, b, c in zip(whole, *halves, strict=True))


def regularizers(given: list[Any]) -> list[Regularizer]:
    """The regularizers of a module's constructor, functions as `FunctionRegularizer`.

    Raises:
        UserError: for what is not a regularizer, or does not say whose step it belongs to.
    """
    made = []
    for one in given:
        name = named(one)
        if not isinstance(one, Regularizer):
            if isinstance(one, nn.Module) or not callable(one):
                raise UserError(f"model.regularizers: {name} is no function and no subclass of Regularizer")
            required = [p for p in inspect.signature(one).parameters.values() if p.default is p.empty]
            if len(required) != 1:
                raise UserError(f"model.regularizers: {name} takes {len(required)} arguments, one context is expected")
            one = FunctionRegularizer(one)
        if one.network not in ("discriminator", "generator", "both"):
            raise UserError(
                f"model.regularizers: {name} has network {one.network!r}, one of 'discriminator', 'generator', 'both' "
                f"is expected"
            )
        made.append(one)
    return made


def term(value: Any, regularizer: Regularizer) -> Tensor:
    """What a regularizer returned, if it is a scalar with a gradient.

    Raises:
        UserError: if it is not.
    """
    name = named(regularizer.function if isinstance(regularizer, FunctionRegularizer) else regularizer)
    if not isinstance(value, Tensor) or value.ndim:
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise UserError(f"model.regularizers: {name} returned {found}, a scalar tensor is expected (take its mean)")
    if not value.requires_grad:
        raise UserError(
            f"model.regularizers: {name} returned a value without a gradient for the network it belongs to; the other "
            f"network is frozen in this step (network = 'generator' makes it the generator's)"
        )
    return value


def precision(chosen: str, model: str) -> None:
    """Refuse precisions that a game's steps do not support: loss scaling, and weights that are not float32.

    Args:
        chosen: the trainer's.
        model: what the message calls the model.

    Raises:
        UserError: for any other than 32-true and bf16-mixed.
    """
    if chosen not in ("32-true", "bf16-mixed"):
        raise UserError(f"trainer.precision: {chosen} was found, 32-true or bf16-mixed is expected for {model}")


def concatenation(discriminator: nn.Module) -> None:
    """Refuse a discriminator that cannot judge real and generated images in one pass.

    Raises:
        UserError: if its statistics would mix them.
    """
    if has_batch_norm(discriminator) or any(isinstance(m, MinibatchStd) for m in discriminator.modules()):
        raise UserError(
            "model.concatenate: the discriminator has batch norm or minibatch deviation, whose statistics would mix "
            "real and generated images; leave it false, or choose a discriminator without them"
        )
