"""Mistakes in a user's options, networks or data, reported before or at the first step."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from lit_gen.core import distributed
from lit_gen.core.blame import named, tried
from lit_gen.core.errors import UserError, note
from lit_gen.core.options import above, expect, whole_number
from lit_gen.models.adversarial import penalties as of_gradients
from lit_gen.models.adversarial.ada import ADA
from lit_gen.models.adversarial.checks import concatenation, ignores_a_shift
from lit_gen.models.adversarial.context import FunctionRegularizer, judge
from lit_gen.models.adversarial.regularizers import AuxiliaryClassifier
from lit_gen.training.batch_norm import has_batch_norm


def options(**given: Any) -> None:
    """Check the numbers of a module's constructor.

    Raises:
        UserError: for the first that is out of range; names it.
    """
    critics = given["n_critic"]
    expect(isinstance(critics, int) and critics >= 1, "model.n_critic", critics, whole_number(1))
    for name in ("generator_clip", "discriminator_clip", "weight_clip"):
        above(0, "model.", null=True, **{name: given[name]})
    if not isinstance(getattr(given["generator"], "latent_dim", None), int):
        raise UserError(f"model.generator: {named(given['generator'])} has no whole number latent_dim")
    steered = isinstance(given["augment"], ADA) and given["augment"].target is not None
    if steered and ignores_a_shift(given["loss"]):
        raise UserError(
            "model.augment: ADA steers by the sign of real logits, which this loss leaves open; set augment.target to "
            "null and augment.p by a schedule or augment.initial_p"
        )
    if given["concatenate"]:
        concatenation(given["discriminator"])
    if given["weight_clip"] is not None and any(is_parametrized(m) for m in given["discriminator"].modules()):
        raise UserError("model.weight_clip does not bound weights under spectral norm; choose one of the two")
    if steered and "augment.p" in (given["schedules"] or {}):
        raise UserError("model.schedules: augment.p is steered by ADA's target; set augment.target to null or leave it")


@torch.no_grad()
def networks(
    generator: nn.Module,
    discriminator: nn.Module,
    samples: Tensor,
    shape: tuple[int, ...] | None,
    terms: nn.ModuleList,
) -> None:
    """Check that the two networks and the data fit together.

    Args:
        generator: for the message.
        discriminator: images to logits; its mode and batch statistics stay as they were.
        samples: the generator's images for two latents, (2, C, H, W).
        shape: the data's (C, H, W), None if it is not known.
        terms: the model's regularizers; an auxiliary classifier needs one that trains it.

    Raises:
        UserError: if the samples have another shape than the data, or the discriminator fails on them or returns
            anything but logits (2,).
    """
    found = tuple(samples.shape[1:])
    if shape is not None and found != tuple(shape):
        made = f"{named(generator)} makes samples of shape {found}"
        raise UserError(f"model.generator: {made}, but data.shape is {tuple(shape)}")
    was_training = discriminator.training
    discriminator.eval()
    try:
        with tried("model.discriminator", f"images {tuple(samples.shape)}"):
            logits = judge(discriminator, samples, torch.zeros(2, dtype=torch.int64, device=samples.device))
    except RuntimeError as error:
        raise UserError(f"model.discriminator does not take images of shape {found}: {error}") from error
    finally:
        discriminator.train(was_training)
    if logits.adversarial.shape != (2,):
        returned = f"{named(discriminator)} returned {tuple(logits.adversarial.shape)}"
        raise UserError(f"model.discriminator: {returned} for 2 images, logits (2,) are expected")
    penalties = [type(r).__name__ for r in terms if type(r).__module__ == of_gradients.__name__]
    if penalties and has_batch_norm(discriminator) and distributed.rank() == 0:
        note(
            f"model.regularizers: {', '.join(penalties)} cannot separate the gradients of images that the "
            f"discriminator's batch norm mixes; --model.discriminator.batch_norm false is expected"
        )
    trains = [r for r in terms if isinstance(r, AuxiliaryClassifier) or not _is_ours(r)]
    if logits.classes is not None and not trains:
        raise UserError(
            "model.discriminator names classes, but no regularizer trains it to; add "
            "lit_gen.models.adversarial.regularizers.AuxiliaryClassifier to model.regularizers"
        )


def _is_ours(regularizer: nn.Module) -> bool:
    return type(regularizer).__module__.startswith("lit_gen.") and not isinstance(regularizer, FunctionRegularizer)


def conditioning(generator: nn.Module, discriminator: nn.Module, terms: nn.ModuleList) -> None:
    """Check that both networks agree on whether there are classes.

    Raises:
        UserError: for a conditional discriminator of an unconditional generator, or a conditional generator whose
            labels no discriminator uses.
    """
    wants, judges = (getattr(n, "num_classes", None) is not None for n in (generator, discriminator))
    if judges and not wants:
        raise UserError(
            "model.generator is unconditional, but model.discriminator expects images of given classes; set "
            "model.generator.conditioning, or none for the discriminator"
        )
    if wants and not judges and not any(not _is_ours(r) for r in terms):
        raise UserError(
            "model.generator is conditional, but model.discriminator does not look at classes; set "
            "model.discriminator.conditioning, or none for the generator"
        )


def labels(network: str, num_classes: int | None, facts: Mapping[str, Any]) -> None:
    """Check that a conditional network finds its classes in the data.

    Args:
        network: its name, for the message.
        num_classes: how many classes it was built for, None for an unconditional one.
        facts: what the data module answers; without ``num_classes`` nothing is checked.

    Raises:
        UserError: if the data set has no labels, or other classes.
    """
    there = facts.get("num_classes", num_classes)
    if num_classes is None or there == num_classes:
        return
    has = "no labels" if there is None else f"{there} classes"
    raise UserError(f"model.{network} is conditional on {num_classes} classes, but the data set has {has}")
