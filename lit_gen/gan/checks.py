"""What is wrong with a user's options, loss, networks or regularizers, said before or at the first step."""

from typing import Any

import torch
from torch import Tensor, nn

from lit_gen.errors import UserError
from lit_gen.gan.ada import ADA
from lit_gen.gan.context import Regularizer, judge
from lit_gen.gan.layers import has_batch_norm
from lit_gen.gan.losses import AdversarialLoss, Loss

__all__ = ["depends_on_real", "ignores_a_shift", "labels", "networks", "options", "term"]


def options(**given: Any) -> None:
    """Check the numbers of a module's constructor.

    Raises:
        UserError: for the first that is out of range; names it.
    """
    decay, half_life = given["ema_decay"], given["ema_half_life"]
    if decay is not None and not 0 <= decay < 1:
        raise UserError(f"model.ema_decay: {decay} was found, a number in [0, 1) or null is expected")
    if decay is None and half_life is not None:
        raise UserError("model.ema_half_life takes the place of a set ema_decay, but ema_decay is null: no average")
    for name in ("n_critic", "accumulate"):
        if given[name] < 1:
            raise UserError(f"model.{name}: {given[name]} was found, a whole number of at least 1 is expected")
    for name in ("ema_half_life", "generator_clip", "discriminator_clip", "weight_clip"):
        if given[name] is not None and not given[name] > 0:
            raise UserError(f"model.{name}: {given[name]} was found, a number above 0 or null is expected")
    if not 0 <= given["ema_ramp"] <= 1:
        raise UserError(f"model.ema_ramp: {given['ema_ramp']} was found, a number in [0, 1] is expected")
    if not isinstance(getattr(given["generator"], "latent_dim", None), int):
        raise UserError(f"model.generator: {type(given['generator']).__name__} has no whole number latent_dim")
    steered = isinstance(given["augment"], ADA) and given["augment"].target is not None
    if steered and ignores_a_shift(given["loss"]):
        raise UserError(
            "model.augment: ADA steers by the sign of real logits, which this loss leaves open; set augment.target to "
            "null and augment.p by a schedule or augment.initial_p"
        )
    if given["concatenate"] and has_batch_norm(given["discriminator"]):
        raise UserError(
            "model.concatenate: the discriminator has batch norm, whose statistics would mix real and generated "
            "images; leave it false, or choose a discriminator without batch norm"
        )


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
        raise UserError(
            f"model.loss: {name} failed on logits of shape (2,): {type(error).__name__}: {error}"
        ) from error
    if not isinstance(result, AdversarialLoss) or any(not isinstance(t, Tensor) or t.ndim for t in result):
        raise UserError(f"model.loss: {name} returned {result!r}, an AdversarialLoss of two scalar tensors is expected")
    gradients = torch.autograd.grad(result.generator, [real, fake], allow_unused=True)
    return gradients[0] is not None


def ignores_a_shift(loss: Loss) -> bool:
    """Whether the discriminator's loss is the same for D and D + c: the sign of a logit then means nothing."""
    depends_on_real(loss)  # refuses what is no loss
    real, fake = torch.tensor([-0.7, 0.4]), torch.tensor([0.2, -1.1])
    return torch.allclose(loss(real, fake).discriminator, loss(real + 3, fake + 3).discriminator, atol=1e-5)


@torch.no_grad()
def networks(
    discriminator: nn.Module, samples: Tensor, shape: tuple[int, ...] | None, regularizers: nn.ModuleList
) -> None:
    """Check that the two networks and the data fit together.

    Args:
        discriminator: images to logits; its mode and batch statistics are left as they were.
        samples: what the generator makes of two latents, (2, C, H, W).
        shape: the data's (C, H, W), None where it is not known.
        regularizers: the model's; an auxiliary classifier without one that trains it is a mistake.

    Raises:
        UserError: if the samples have another shape than the data, or the discriminator fails on them or returns
            anything but logits (2,).
    """
    found = tuple(samples.shape[1:])
    if shape is not None and found != tuple(shape):
        raise UserError(f"model.generator makes samples of shape {found}, but data.shape is {tuple(shape)}")
    was_training = discriminator.training
    discriminator.eval()
    try:
        logits = judge(discriminator, samples, torch.zeros(2, dtype=torch.int64, device=samples.device))
    except RuntimeError as error:
        raise UserError(f"model.discriminator does not take images of shape {found}: {error}") from error
    finally:
        discriminator.train(was_training)
    if logits.adversarial.shape != (2,):
        raise UserError(
            f"model.discriminator returned {tuple(logits.adversarial.shape)} for 2 images, logits (2,) are expected"
        )
    if logits.classes is not None and not regularizers:
        raise UserError(
            "model.discriminator names classes, but no regularizer trains it to; add "
            "lit_gen.gan.regularizers.AuxiliaryClassifier to model.regularizers"
        )


def labels(network: str, num_classes: int | None, data: Any) -> None:
    """Check that a conditional network finds its classes in the data.

    Args:
        network: its name, for the message.
        num_classes: how many classes it was built for, None for an unconditional one.
        data: the data module.

    Raises:
        UserError: if the data set has no labels, or other classes.
    """
    there = getattr(data, "num_classes", num_classes)
    if num_classes is None or there == num_classes:
        return
    has = "no labels" if there is None else f"{there} classes"
    raise UserError(f"model.{network} is conditional on {num_classes} classes, but the data set has {has}")


def term(value: Any, regularizer: Regularizer) -> Tensor:
    """What a regularizer returned, if it is a scalar with a gradient.

    Raises:
        UserError: if it is not.
    """
    name = regularizer.name
    if not isinstance(value, Tensor) or value.ndim:
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise UserError(f"model.regularizers: {name} returned {found}, a scalar tensor is expected (take its mean)")
    if not value.requires_grad:
        raise UserError(
            f"model.regularizers: {name} returned a value without a gradient for the network it belongs to; the other "
            f"network is frozen in this step (network = 'generator' makes it the generator's)"
        )
    return value
