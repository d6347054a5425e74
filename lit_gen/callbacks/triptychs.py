"""Pictures of pairs during training: what a model is given, what it makes of it, and what it should be."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lit_gen.core import images as pictures
from lit_gen.core.errors import note
from lit_gen.core.modes import evaluation_mode, exact_math
from lit_gen.core.randomness import BLOCK
from lit_gen.protocols.data import PairSets, Split
from lit_gen.protocols.images import ImagePair, ImageTranslator

SPLITS: tuple[Split, ...] = ("val", "test", "train")
WIDEST = 2000  # pixels of a picture
GAP, LINE = 6, 1  # pixels between triptychs, and within one
AT_ONCE = (
    2**20
)  # numbers of the sources that are run at once: a fixed choice, so that equal weights give equal pictures


class Triptychs:
    """Rows of triptychs (input, output, target) of the first held-out pairs, the same ones every time.

    Pairs are of the validation split, else of the test split, else of the training split. An input smaller than its
    target is enlarged by copies of pixels; its holes are grey.

    Args:
        data: pairs.
        count: how many pairs, at most the 64 of the block that the first rank has at any number of ranks.
    """

    def __init__(self, data: PairSets, count: int) -> None:
        self.data, self.count = data, count
        self._split: Split | None = None

    def begin(self) -> None:
        """Choose the split, and say what is not as it is asked for; called on the first rank."""
        self._split = next((split for split in SPLITS if len(self._pairs(split).source)), None)
        if self._split is None:
            return
        if self._split == "train":
            note("samples: no pairs are held out, so that training pairs are shown")
        if self.count > BLOCK:
            note(f"samples.count: {self.count} was found; the first {BLOCK} pairs are shown")

    def draw(self, module: ImageTranslator) -> Tensor | None:
        """The picture, uint8 (C, H, W); None without pairs. Called on the first rank."""
        if self._split is None:
            return None
        pairs = self._pairs(self._split)
        count = min(self.count, len(pairs.source))
        source, target = pairs.source[:count], pairs.target[:count]
        mask = None if pairs.mask is None else pairs.mask[:count]
        made = torch.cat(list(_translated(module, source, mask))).cpu()
        if mask is not None:
            source = source.masked_fill(mask > 0, 0)
        return arranged([source.cpu(), made, target.cpu()])

    def _pairs(self, split: Split) -> ImagePair:
        """The first block of a split."""
        return next(iter(self.data.pairs(split)))


def _translated(module: Any, source: Tensor, mask: Tensor | None) -> Iterator[Tensor]:
    """What an `ImageTranslator` makes of sources, some at a time; training does not change."""
    where = module.device
    step = max(1, AT_ONCE // source[0].numel())
    with exact_math(where), evaluation_mode(module):
        for first in range(0, len(source), step):
            part = slice(first, first + step)
            given = None if mask is None else mask[part].to(where)
            yield module.translate(source[part].to(where), mask=given)


def arranged(panels: list[Tensor]) -> Tensor:
    """Images side by side, as many triptychs in a row as make the picture about square.

    Args:
        panels: float (n, C, H, W) each; all are enlarged to the size of the last one.

    Returns:
        uint8 (1 or 3, ., .), at most `WIDEST` pixels wide.
    """
    count, _, height, width = panels[-1].shape
    shown = [_of_picture(panel, (height, width)) for panel in panels]
    channels = max(panel.shape[1] for panel in shown)
    columns = min(count, max(1, math.ceil(math.sqrt(count * height / (len(panels) * width)))))
    room = (WIDEST - GAP) // columns - GAP - LINE * (len(panels) - 1)
    if (most := max(1, room // len(panels))) < width:
        size = max(1, round(height * most / width)), most
        note(f"samples: images of {width}x{height} are shown at {size[1]}x{size[0]}")
        shown = [interpolate(panel, size, mode="area") for panel in shown]
    levels = [pictures.quantize(panel.expand(-1, channels, -1, -1)) for panel in shown]
    line = torch.full((*levels[0].shape[:3], LINE), 128, dtype=torch.uint8)
    parts = [part for panel in levels for part in (line, panel)][1:]
    return pictures.grid(torch.cat(parts, dim=3), columns, gap=GAP)


def _of_picture(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images in grey or RGB, (n, 1 or 3, *size), enlarged by copies of pixels."""
    channels = images.shape[1]
    if channels not in (1, 3):
        kept = 3 if channels > 3 else 1
        note(f"samples: of {channels} channels the first {'three are' if kept == 3 else 'one is'} shown")
        images = images[:, :kept]
    images = images.float()
    return images if images.shape[2:] == size else interpolate(images, size, mode="nearest")
