"""Pictures of pairs during training: what a model is given, what it makes of it, and what it should be."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lit_gen.core import distributed
from lit_gen.core import images as pictures
from lit_gen.core.errors import note
from lit_gen.core.modes import evaluation_mode, exact_math
from lit_gen.core.randomness import BLOCK
from lit_gen.evaluation.reference import chosen
from lit_gen.protocols.data import PairSets, Split
from lit_gen.protocols.images import ImageTranslator

SPLITS: tuple[Split, ...] = ("val", "test", "train")
WIDEST = 2000  # pixels of a picture
GAP, LINE = 6, 1  # pixels between triptychs, and within one
AT_ONCE = 2**20  # numbers of the sources that are run at once; fixed, so that equal weights give equal pictures
MOST_BLOCKS, MOST_NUMBERS = 16, 2**24  # of a split that pairs are chosen from: more are not made for a picture


class Shown(NamedTuple):
    """One pair, on the CPU."""

    row: int
    source: Tensor
    target: Tensor
    mask: Tensor | None


class Triptychs:
    """Rows of triptychs (input, output, target) of held-out pairs, the same ones every time and at any number of ranks.

    Pairs are of the validation split, else of the test split, else of the training split, spread over its first 1,024,
    because sets are often sorted by class; over fewer of large images. An input smaller than its target is enlarged by
    copies of pixels; its holes are grey.

    Args:
        data: pairs.
        count: how many pairs.
    """

    def __init__(self, data: PairSets, count: int) -> None:
        self.data, self.count = data, count
        self._pairs: list[Shown] = []

    def begin(self) -> None:
        """Choose the pairs; called on every rank."""
        split = next((split for split in SPLITS if len(self.data.split(split))), None)
        if split is None:
            return
        if split == "train" and distributed.rank() == 0:
            note("samples: no pairs are held out, so that training pairs are shown")
        numbers = BLOCK * math.prod(self.data.facts()["shape"])
        blocks = max(math.ceil(self.count / BLOCK), min(MOST_BLOCKS, MOST_NUMBERS // numbers))
        rows = chosen(torch.arange(min(len(self.data.split(split)), blocks * BLOCK)), self.count)
        found = distributed.together(lambda: self._of_rank(split, rows))
        self._pairs = sorted(distributed.gather(found), key=lambda pair: pair.row)

    def draw(self, module: ImageTranslator) -> Tensor | None:
        """The picture, uint8 (C, H, W); None without pairs. Called on the first rank."""
        if not self._pairs:
            return None
        source = torch.stack([pair.source for pair in self._pairs])
        target = torch.stack([pair.target for pair in self._pairs])
        holes = [pair.mask for pair in self._pairs if pair.mask is not None]
        mask = torch.stack(holes) if holes else None
        made = torch.cat(list(_translated(module, source, mask))).cpu()
        return arranged([source if mask is None else source.masked_fill(mask > 0, 0), made, target])

    def _of_rank(self, split: Split, rows: Tensor) -> list[Shown]:
        """Those of the chosen pairs that this rank has."""
        found = []
        for pairs in self.data.pairs(split):
            for k in torch.isin(pairs.indices.cpu(), rows).nonzero().flatten().tolist():
                mask = None if pairs.mask is None else pairs.mask[k].cpu()
                found.append(Shown(int(pairs.indices[k]), pairs.source[k].cpu(), pairs.target[k].cpu(), mask))
            if len(pairs.indices) and int(pairs.indices[-1]) >= int(rows[-1]):
                break
        return found


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
