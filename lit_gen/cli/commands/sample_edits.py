"""The images of ``sample --from IMAGE --mask MASK``: read, and compared with the model before anything is written."""

import argparse
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lit_gen.core.errors import UserError, note
from lit_gen.core.images import to_float
from lit_gen.data.images.decode import as_array, read_image
from lit_gen.data.images.pixels import Levels
from lit_gen.protocols.images import Drawer
from lit_gen.runs.opened import Run


def check(options: argparse.Namespace) -> None:
    """Check what belongs together before anything is loaded.

    Raises:
        UserError: for a mask without an image, an image with ``--interpolate``, or files that are not there.
    """
    source = getattr(options, "from")
    if options.mask is not None and source is None:
        raise UserError("--mask says where an image is filled in; --from IMAGE is expected too")
    if source is not None and options.interpolate is not None:
        raise UserError("--from changes one image, and --interpolate joins two samples; one of them is expected")
    for name, path in (("from", source), ("mask", options.mask)):
        if path is not None and not Path(path).is_file():
            raise UserError(f"--{name}: {path} is no file, an image is expected")


def read(opened: Run, options: argparse.Namespace) -> dict[str, Tensor]:
    """What ``sample`` of the model gets: ``images`` (1, C, H, W) in [-1, 1] and ``mask`` (1, 1, H, W), if asked for.

    White is to be filled in: a level of 128 or more.

    Raises:
        UserError: for a model that edits no images, and files of another size or that cannot be read.
    """
    source = getattr(options, "from")
    if source is None:
        if "strength" in options.drawing:
            raise UserError("--strength says how much an image is changed; --from IMAGE is expected too")
        return {}
    drawer = getattr(opened.model, "drawer", None)
    made = drawer(options.weights, **options.drawing) if callable(drawer) else None
    if not isinstance(made, Drawer) or made.edits is None:
        raise UserError(f"--from: {opened.checkpoint} ({type(opened.model).__name__}) edits no images, it only draws")
    channels, height, width = made.edits
    if channels not in (1, 3) or (height, width) == (1, 1):
        raise UserError(f"--from: {opened.checkpoint} draws {made.edits}, which is no picture")
    found = {"images": to_float(_picture("from", source, 1 if channels == 1 else 3, (height, width)))}
    if options.mask is not None:
        levels = _picture("mask", options.mask, 1, (height, width))
        between, mask = int(((levels > 0) & (levels < 255)).sum()), levels >= 128
        if between:
            note(f"{options.mask}: {between} of {levels.numel()} pixels are grey; those of 128 or more count as white")
        if not bool(mask.any()):
            raise UserError(f"--mask: {options.mask} has no white pixel, and white is what is filled in")
        found["mask"] = mask.float()
    return found


def _picture(name: str, path: str, channels: Literal[1, 3], size: tuple[int, int]) -> Tensor:
    """An image file as uint8 (1, C, H, W)."""
    levels = Levels(path)
    image = as_array(read_image(Path(path), channels, levels))
    for sentence in levels.said():
        note(sentence)
    if image.shape[1:] != size:
        found = f"{path} is {image.shape[2]}x{image.shape[1]}"
        raise UserError(f"--{name}: {found}, {size[1]}x{size[0]} is expected, the size of the model's images")
    return torch.from_numpy(image[None].copy())
