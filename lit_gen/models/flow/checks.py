"""What is compared before the first step: data, dequantization, support and transform."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lit_gen.core.blame import named
from lit_gen.core.errors import UserError
from lit_gen.core.images import to_float
from lit_gen.models.flow.density import Density

CHUNK = 1024


def check_facts(density: Density, facts: Mapping[str, Any]) -> None:
    """Compare a density with what its data are known to be.

    Args:
        density: with its parts.
        facts: of the data module; what it does not know is not compared.

    Raises:
        UserError: for another shape, levels without a dequantization, or the reverse, or standardized rows.
    """
    shape, levels = facts.get("shape"), facts.get("levels")
    if shape is not None and tuple(shape) != density.shape:
        made = f"{named(density.transform)} is of data of shape {density.shape}"
        raise UserError(f"model.transform: {made}, but the data set has {tuple(shape)}")
    if facts.get("standardized"):
        raise UserError(
            "data.standardize: true was found, but a flow's nats are of the data's own units; model.support "
            "Standardize is expected, which counts the scale and keeps it in the checkpoint"
        )
    classes, of_data = density.num_classes, facts.get("num_classes")
    if None not in (classes, of_data) and classes != of_data:
        raise UserError(f"model.transform.num_classes: {classes} was found, the data set has {of_data} classes")
    for name in ("dequantization", "support"):
        own = getattr(getattr(density, name), "shape", density.shape)
        if tuple(own) != density.shape:
            raise UserError(f"model.{name}.shape: {tuple(own)} was found, {density.shape} is expected, the transform's")
    if levels is not None and density.dequantization is None:
        raise UserError(
            f"model.dequantization: null was found, but the data have {levels} levels, and a density can be as high as "
            f"it likes at {levels} points: the likelihood would have no bound; Uniform or Variational is expected"
        )
    if "levels" in facts and levels is None and density.dequantization is not None:
        of = named(density.dequantization)
        raise UserError(f"model.dequantization: {of} was found, but the data are real numbers; null is expected")
    if levels is not None and density.levels != levels:
        raise UserError(f"model.dequantization.levels: {density.levels} was found, the data have {levels}")
    own = getattr(density.support, "levels", None)
    if own is not None and density.levels is not None and own != density.levels:
        raise UserError(f"model.support.levels: {own} was found, {density.levels} is expected, as the dequantization's")


def check_interval(density: Density, images: Tensor | None) -> str | None:
    """Compare a transform that is the identity outside of an interval with the coordinates that it gets.

    Args:
        density: with its parts, fitted.
        images: the training split, if it is known.

    Returns:
        A warning, if some of the training data lie outside.

    Raises:
        UserError: if the ends of the support do.
    """
    interval = getattr(density.transform, "interval", None)
    if interval is None:
        return None
    of, largest = named(density.transform), density.support.largest
    if largest is not None:
        if largest > interval * (1 + 1e-6):
            raise UserError(
                f"model.support: coordinates up to {largest:.4g} were found, but {of} is the identity beyond "
                f"{interval:g}; model.support.bound {interval:g} is expected"
            )
        return None
    if images is None:
        return None
    outside = sum(
        int((density.support(y + _middle(density))[0].abs() > interval).sum()) for y in numbers_of(density, images)
    )
    if not outside:
        return None
    share = outside / images.numel()
    where = f"lie outside [-{interval:g}, {interval:g}], where {of} is the identity"
    return f"model.support: {share:.2%} of the training data's coordinates {where}; Interval or Logit bounds them"


def moments(density: Density, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (C, H, W) of what the support gets of a split, with the dequantization's expected noise."""
    count = len(images)
    mean = sum((y.cpu().double().sum(0) for y in numbers_of(density, images)), torch.zeros(())) / count
    squares = ((y.cpu().double() - mean).square().sum(0) for y in numbers_of(density, images))
    variance = sum(squares, torch.zeros(())) / count
    return mean + _middle(density), variance + (0.0 if density.levels is None else 1 / 12)


def numbers_of(density: Density, images: Tensor) -> Iterator[Tensor]:
    """Levels, or points, of a split, in parts."""
    for part in images.split(CHUNK):
        yield density.numbers(to_float(part))


def _middle(density: Density) -> float:
    return 0.0 if density.levels is None else 0.5


def refuse_half(images: Tensor, precision: str) -> None:
    """Refuse images that half precision has rounded.

    Raises:
        UserError: names the precision.
    """
    if images.dtype in (torch.float16, torch.bfloat16):
        raise UserError(
            f"trainer.precision: {precision} was found, which rounds the data; {precision.replace('true', 'mixed')} or "
            f"32-true is expected"
        )
