"""Images through a model that changes them: what is checked before, and what other models are told."""

from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from lit_gen.core.blame import shown
from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least, one_of
from lit_gen.protocols.images import Drawer, ImageGenerator, ImageTranslator, Weights
from lit_gen.protocols.text import TextGenerator

FARTHEST = 100.0
"""The largest distance of a value from 0: noise takes images beyond [-1, 1], but not as far as levels of 0 to 255."""


def translator(model: object, checkpoint: Path) -> ImageTranslator:
    """The model itself, if it changes images.

    Raises:
        UserError: names what another model does, and the command for that.
    """
    if isinstance(model, ImageTranslator):
        return model
    found = f"{checkpoint}: {type(model).__name__} changes no images"
    if isinstance(model, TextGenerator):
        raise UserError(f"{found}, it writes texts: lit-gen sample RUN --prompt TEXT")
    drawer = getattr(model, "drawer", None)
    made = drawer("ema") if callable(drawer) else None
    if isinstance(made, Drawer) and made.edits is not None:
        raise UserError(f"{found} with this command; for other versions of one: lit-gen sample RUN --from IMAGE")
    raise UserError(f"{found}, it draws them: lit-gen sample RUN" if isinstance(model, ImageGenerator) else found)


def instead(model: object) -> str:
    """What ends the sentence that a model draws nothing: the commands for one that changes images, or nothing."""
    if not isinstance(model, ImageTranslator):
        return ""
    return "; it changes them: lit-gen transform RUN FOLDER --out DIR, and for its scores lit-gen test --ckpt_path RUN"


def translated(
    model: ImageTranslator,
    images: Tensor,
    mask: Tensor | None = None,
    weights: Weights = "ema",
    tile: int | None = None,
    border: int | None = None,
) -> Tensor:
    """Images through a model; see `lit_gen.protocols.images.ImageTranslator.translate`.

    Raises:
        UserError: for what is no image of the model's, or a mask that does not fit to them.
    """
    module: Any = model
    for name, size in (("tile", tile), ("border", border)):
        if size is not None and (not isinstance(size, int) or isinstance(size, bool)):
            raise UserError(f"{name}: {size!r} was found, a whole number of pixels is expected")
    check_tiles("", tile, border)
    one_of(get_args(Weights), weights=weights)
    _check_images(model, images)
    masked = getattr(model, "masked", None)
    if mask is not None and masked is False:
        raise UserError("mask: the model was trained without holes, so that it fills in none; leave it out")
    if mask is None and masked:
        raise UserError("mask: the model fills in holes; (n, 1, h, w) is expected, 1 where there is one")
    given = None if mask is None else _hidden(mask, images).to(module.device)
    with torch.no_grad():
        changed = images.to(module.device).float()
        return model.translate(changed, mask=given, weights=weights, tile=tile, border=border)


def check_tiles(prefix: str, tile: int | None, border: int | None) -> None:
    """Refuse sizes out of range.

    Args:
        prefix: the words before the options' names.
        tile: see `lit_gen.protocols.images.ImageTranslator.translate`.
        border: likewise.

    Raises:
        UserError: also for a border without tiles.
    """
    at_least(1, prefix, tile=tile)
    at_least(0, prefix, border=border)
    if border is not None and tile is None:
        raise UserError(
            f"{prefix}border: {border} pixels around each tile were asked for; {prefix}tile is expected too"
        )


def _check_images(model: object, images: Tensor) -> None:
    fits = isinstance(images, Tensor) and images.ndim == 4 and images.is_floating_point() and not images.is_meta
    if not fits or not images.numel():
        raise UserError(f"images: {shown(images)} was found, float (n, C, h, w) in [-1, 1] is expected")
    expected, *_ = getattr(model, "source_shape", None) or images.shape[1:]
    if images.shape[1] != expected:
        raise UserError(
            f"images: {shown(images)} was found, {expected} channels are expected, as the model was trained on"
        )
    least, most = (float(value) for value in images.aminmax())
    if not max(-least, most) <= FARTHEST:  # also NaN
        raise UserError(f"images: values from {least:.6g} to {most:.6g} were found, [-1, 1] is expected")


def _hidden(mask: Tensor, images: Tensor) -> Tensor:
    """The mask as floats of 0 and 1."""
    size = (len(images), 1, *images.shape[2:])
    if not isinstance(mask, Tensor) or mask.shape != size or not bool(((mask == 0) | (mask == 1)).all()):
        raise UserError(f"mask: {shown(mask)} was found, zeros and ones {size} are expected, 1 where there is a hole")
    if bool((mask == 1).flatten(1).all(1).any()):
        raise UserError("mask: it hides a whole image; something is expected to be left")
    return mask.float()
