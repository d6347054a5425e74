"""The pictures of ``transform``: found with their masks, checked, and read at the bits of the model's data."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.core.images import of_level, to_float
from lit_gen.core.png import WIDE
from lit_gen.data.images.decode import FORMATS, as_array, of_16_bits, read_image
from lit_gen.data.images.files import SUFFIXES, image_walk
from lit_gen.data.images.pixels import Levels
from lit_gen.data.walk import passed_over

LUMA = (299, 587, 114)
"""Thousandths of red, green and blue in grey: ITU-R BT.601, as Pillow's."""


class Picture(NamedTuple):
    """One image to be changed.

    Attributes:
        path: its file.
        name: the file to be written, below the folder of all.
        mask: the file of its mask, or None.
    """

    path: Path
    name: Path
    mask: Path | None


def find(source: Path, mask: Path | None, masks: Path | None, say: Callable[[str], None]) -> list[Picture]:
    """All images of a folder, or one file, each with its mask.

    Args:
        source: the folder or file.
        mask: the mask of all.
        masks: the folder of one mask for each, of equal names; their endings may differ.
        say: called with what was passed over.

    Raises:
        UserError: if there is none, two would be written to one file, or one has no mask.
    """
    names = _names(source, "transform", say)
    folder = source.parent if source.is_file() else source
    if mask is not None and not mask.is_file():
        raise UserError(f"--mask: {mask} is no file, an image is expected; --masks takes a folder of them")
    known = {} if masks is None else _by_stem(_names(masks, "--masks", say), masks)
    found = []
    for stem, name in _by_stem(names, folder).items():
        if masks is not None and stem not in known:
            raise UserError(f"--masks: {masks} holds no mask of {name}; one of the same name is expected")
        own = mask if masks is None else masks / known[stem]
        found.append(Picture(folder / name, stem.with_name(f"{stem.name}.png"), own))
    if unused := set(known) - {picture.name.with_name(picture.path.stem) for picture in found}:
        say(f"{masks}: {len(unused)} of {len(known)} masks are of no image ({known[min(unused)]})")
    return found


def _names(source: Path, option: str, say: Callable[[str], None]) -> list[Path]:
    """Paths below a folder, or the name of a single image."""
    if source.is_file():
        if source.suffix.lower() not in SUFFIXES:
            raise UserError(f"{option}: {source} is no image; a folder, or one of {', '.join(sorted(SUFFIXES))}")
        return [Path(source.name)]
    if not source.is_dir():
        raise UserError(f"{option}: {source} does not exist; a folder of images, or one image, is expected")
    walk = image_walk(source, option)
    if walk.passed:
        say(f"{source}: {len(walk.names):,} images{passed_over([walk])}")
    return [Path(name) for name in walk.names]


def _by_stem(names: list[Path], folder: Path) -> dict[Path, Path]:
    """Names by what they are without their endings."""
    found: dict[Path, Path] = {}
    for name in names:
        stem = name.with_name(name.stem)
        if (other := found.setdefault(stem, name)) != name:
            raise UserError(f"{folder}: {other} and {name} have one name, {stem}.png; different ones are expected")
    return found


class Reader:
    """Reads images as a model's sources, and remembers what was converted.

    Args:
        source: what sentences about all of them call them.
        channels: what the model takes: 1 or 3; None for grey or RGB, as a picture is.
        bits: 8 or 16, of the sources that the model was trained on.
    """

    def __init__(self, source: str, channels: int | None, bits: int) -> None:
        self.source, self.channels, self.bits = source, channels, bits
        self._levels, self._of_masks = Levels(source), Levels(f"the masks of {source}")
        self._met: Counter[str] = Counter()

    def image(self, path: Path) -> Tensor:
        """A picture as float (1, C, h, w) in [-1, 1].

        Raises:
            UserError: if it cannot be read.
        """
        levels: Any = self.channels  # None too, as of `Levels.of_picture`
        picture = as_array(read_image(path, levels, self._levels)) if self.bits == 8 else self._wide(path)
        self._note_channels(path, len(picture))
        if picture.dtype == np.uint8:
            return to_float(torch.from_numpy(picture[None].copy()))
        return of_level(torch.from_numpy(picture[None].astype(np.int32)), WIDE)

    def mask(self, path: Path, picture: Path, size: tuple[int, ...]) -> Tensor:
        """A mask as float (1, 1, h, w), 1 where it is white: a level of 128 or more.

        Raises:
            UserError: if it cannot be read, has another size than its picture, or hides nothing or everything.
        """
        levels = torch.from_numpy(as_array(read_image(path, 1, self._of_masks))[None].copy())
        if levels.shape[2:] != size:
            height, width = levels.shape[2:]
            raise UserError(f"{path} is {width}x{height}, but {picture} is {size[1]}x{size[0]}; one size is expected")
        hidden = levels >= 128
        if not bool(hidden.any()):
            raise UserError(f"{path} has no white pixel, and white is what is filled in")
        if bool(hidden.all()):
            raise UserError(f"{path} is all white: it leaves nothing of {picture}")
        self._met["grey masks"] += bool(((levels > 0) & (levels < 255)).any())
        return hidden.float()

    def said(self) -> list[str]:
        """Sentences about what was converted; called when all are read.

        Raises:
            UserError: see `Levels.said`.
        """
        sentences = {
            "to grey": "{} in colour became grey",
            "to RGB": "{} in grey became RGB",
            "narrow": "{} of 8 bits: 0 to 255 became 0 to 65535, as the model's data have",
        }
        told = []
        for what, sentence in sentences.items():
            if n := self._met[what]:
                told.append(f"{self.source}: {sentence.format(f'{n:,} image' + 's' * (n > 1))}")
        if n := self._met["grey masks"]:
            told.append(f"{self.source}: {n:,} mask{'s' * (n > 1)} with grey pixels: 128 or more counts as white")
        return [*self._levels.said(), *self._of_masks.said(), *told]

    def _note_channels(self, path: Path, channels: int) -> None:
        with Image.open(path, formats=FORMATS) as image:  # only its head is read
            grey = image.mode in ("1", "L", "LA", "La") or image.mode[0] in "IF"
        self._met["to grey"] += channels == 1 and not grey
        self._met["to RGB"] += channels == 3 and grey

    def _wide(self, path: Path) -> np.ndarray:
        """A picture as uint16 (C, h, w); one that has only 8 bits, or transparent pixels, by way of 8 bits."""
        levels: Any = self.channels
        narrow = as_array(read_image(path, levels, Levels(str(path))))  # refuses what cannot be read
        wide = of_16_bits(path)
        if wide is None or wide.shape[1:] != narrow.shape[1:]:
            self._met["narrow"] += 1
            return as_array(read_image(path, levels, self._levels)).astype(np.uint16) * np.uint16(257)
        if len(narrow) == 1 and len(wide) == 3:
            weighted = np.einsum("chw,c->hw", wide.astype(np.int64), np.array(LUMA))
            return np.asarray((weighted + 500) // 1000, dtype=np.uint16)[None]
        return wide if len(wide) == len(narrow) else wide.repeat(3, axis=0)
