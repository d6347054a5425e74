"""Mistakes in a user's options, networks, data or images, reported before or at the first step."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from lit_gen.core import data as datasets
from lit_gen.core import distributed
from lit_gen.core.blame import named, shown, tried
from lit_gen.core.errors import UserError, note
from lit_gen.core.modes import evaluation_mode
from lit_gen.core.options import above, at_least, not_negative
from lit_gen.models.adversarial.checks import concatenation
from lit_gen.models.adversarial.context import judge
from lit_gen.models.image_to_image.applying import judged
from lit_gen.models.image_to_image.sizes import multiple_of, padded
from lit_gen.protocols.data import DataModule
from lit_gen.protocols.images import ImagePair

if TYPE_CHECKING:
    from lit_gen.models.image_to_image.module import Paired


class TrainedOn(NamedTuple):
    """What a module keeps of its data."""

    channels: int
    """Of a source; 0 before training."""
    height: int
    """Of a source."""
    width: int
    """Of a source."""
    masked: int
    """1 where sources have masks."""
    levels: int
    """Of a pixel of a target."""
    source_levels: int
    """Of a pixel of a source."""


def options(**given: Any) -> None:
    """Check the arguments of a module's constructor.

    Raises:
        UserError: for the first that is out of range or does not fit; names it.
    """
    for name in ("generator_clip", "discriminator_clip"):
        above(0, "model.", null=True, **{name: given[name]})
    not_negative("model.", adversarial_weight=given["adversarial_weight"])
    at_least(0, "model.", adversarial_from=given["adversarial_from"])
    if given["reconstruction"] == [] and (given["discriminator"] is None or given["adversarial_from"]):
        raise UserError("model.reconstruction: no term was found, at least one is expected without a discriminator")
    if given["discriminator"] is None:
        used = [name for name in ("regularizers", "augment", "discriminator_optimizer") if given[name]]
        used += ["adversarial_from"] * bool(given["adversarial_from"])
        used += ["adversarial_weight"] * (given["adversarial_weight"] != 1)
        if used:
            raise UserError(f"model.{used[0]}: it is of a model with a discriminator, but model.discriminator is null")
        return
    asked: object = getattr(given["discriminator"], "conditional", given["conditional"])
    if asked != given["conditional"]:
        raise UserError(
            f"model.conditional: {str(given['conditional']).lower()} was found, but model.discriminator.conditional is "
            f"{str(asked).lower()}; equal ones are expected"
        )
    if given["concatenate"]:
        concatenation(given["discriminator"])


def facts(data: DataModule) -> TrainedOn:
    """What a module keeps of its data.

    Raises:
        UserError: for data without pairs, or masks of another size than the targets'.
    """
    if not datasets.has_pairs(data):
        raise UserError(
            f"data: {datasets.kind_of(data)} has no pairs of images; lit_gen.data.pairs has data modules that do: "
            f"PairedImages, and Degraded for any set of images"
        )
    known = data.facts()
    channels, height, width = known["source_shape"]
    masked = known["source_channels"] > channels
    if masked and known["factor"] != 1:
        raise UserError(f"data: masks and targets {known['factor']} times larger were found; one of both is expected")
    return TrainedOn(channels, height, width, int(masked), known["levels"], known["source_levels"])


@torch.no_grad()
def networks(module: "Paired", known: Mapping[str, Any]) -> None:
    """Check that the networks and the data fit together, on two black images.

    Args:
        module: its modes and batch statistics stay as they were.
        known: the facts of data with pairs.

    Raises:
        UserError: if the outputs have another shape than the targets, or the discriminator fails on them or returns
            anything but logits.
    """
    source, target = (torch.full((2, *known[name]), -1.0, device=module.device) for name in ("source_shape", "shape"))
    mask = torch.zeros(2, 1, *source.shape[2:], device=module.device) if module.masked else None
    where = [module.device] if module.device.type == "cuda" else []
    with torch.random.fork_rng(where):
        with tried("model.generator", f"x (2, {known['source_channels']}, {source.shape[2]}, {source.shape[3]})"):
            made = module.translate(source, mask=mask, weights="raw")
        _note_padding(module.generator, source)
        if made.shape != target.shape:
            found = f"{named(module.generator)} makes images {tuple(made.shape[1:])} of sources {known['source_shape']}"
            raise UserError(f"model.generator: {found}, but the targets are {tuple(target.shape[1:])}")
        if module.discriminator is None:
            return
        x = judged(ImagePair(source, target, None, torch.arange(2), mask), made, module.conditional)
        seen = f"x {tuple(x.shape)}{', source and image together' if module.conditional else ''}"
        try:
            with evaluation_mode(module.discriminator), tried("model.discriminator", seen):
                logits = judge(module.discriminator, x, None).adversarial
        except RuntimeError as error:
            raise UserError(f"model.discriminator does not take {seen}: {error}") from error
    if logits.ndim not in (1, 3) or len(logits) != 2 or not logits.numel():
        returned = f"{named(module.discriminator)} returned {tuple(logits.shape)}"
        raise UserError(
            f"model.discriminator: {returned} for 2 images, logits (2,), or (2, h, w) of patches, are expected"
        )


def _note_padding(generator: nn.Module, source: Tensor) -> None:
    """Say that images are padded to more than twice their pixels."""
    whole = padded(source[:1], multiple_of(generator)).shape[2:]
    if whole.numel() > 2 * source.shape[2:].numel() and distributed.rank() == 0:
        sizes = " to ".join(f"{height}x{width}" for height, width in (source.shape[2:], whole))
        note(f"model.generator: sources are padded from {sizes} pixels, multiples of {multiple_of(generator)}")


def sources(module: "Paired", images: object, mask: object) -> None:
    """Refuse what a module cannot translate.

    Args:
        module: trained, or before training.
        images: float (n, C, h, w) are expected.
        mask: float (n, 1, h, w), or None.

    Raises:
        UserError: for another type or shape, and for a mask that is missing or not expected.
    """
    known = module.data_facts
    shape = f"(n, {known.channels if known else 'C'}, h, w)"
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point() or not images.numel():
        raise UserError(f"images: {shown(images)} was found, floats {shape} in [-1, 1] are expected")
    if known and images.shape[1] != known.channels:
        raise UserError(f"images: {shown(images)} was found, {shape} is expected: the model was trained on such")
    if mask is None:
        if known and known.masked:
            raise UserError("mask: none was found, but the model fills in holes, one is expected: 1 where they are")
        return
    if known and not known.masked:
        raise UserError("mask: it was found, but the model was trained on data without holes")
    expected = (len(images), 1, *images.shape[2:])
    if not isinstance(mask, Tensor) or tuple(mask.shape) != expected or not mask.is_floating_point():
        raise UserError(f"mask: {shown(mask)} was found, floats {expected} are expected, 1 where images are filled in")
