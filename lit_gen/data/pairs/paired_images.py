"""Pairs of images from disk, of 8 or 16 bits, in memory."""

import functools
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from lit_gen.core import randomness
from lit_gen.core.cache import hash_of_tensors
from lit_gen.core.errors import UserError, note
from lit_gen.core.images import to_float
from lit_gen.core.options import at_least
from lit_gen.data.images.files import shown
from lit_gen.data.images.held_out import check_held_out, divided
from lit_gen.data.images.loaders import EvalLoader, ImageSet, TrainLoader
from lit_gen.data.images.pixels import Levels
from lit_gen.data.module import place
from lit_gen.data.pairs.fitting import DEEP, Pair, Window, check_alike, check_crop, drawn_window, fitted, stacked
from lit_gen.data.pairs.module import PairData, shape_of
from lit_gen.data.pairs.reading import Found, arrays, halves, two_folders
from lit_gen.protocols.data import Split
from lit_gen.protocols.images import ImageBatch, ImagePair

MOST_BYTES = 8 << 30
"""The most bytes of decoded pairs that a process holds."""


class PairedImages(PairData):
    """Pairs of images from disk: A becomes B.

    They are from two folders of pictures, whose paths below them are the same without suffix; from one folder of
    pictures whose left half is A and whose right half is B; or from an ``.npz`` with ``source`` (A) and ``target`` (B),
    each (N, H, W), (N, H, W, C) or (N, C, H, W), and perhaps ``mask``, 1 where nothing is left of the source, and
    ``labels``. Of four axes the shorter one of the second and the last is the channels. Subfolders train, val and test
    are the splits; other subfolders, in each split, are classes.

    Each process holds all pairs in memory, decoded once, at most 8 GiB: some thousands of 512x512 pixels. 8-bit images
    are kept as uint8. Those of 16 bits (``uint16`` in an ``.npz``, PNG, grey TIFF) are kept as float32, where a level
    is level / 32767.5 - 1. A and B may have different channels, and B may be a whole number of times larger.

    Args:
        source: the folder of A, or of pictures that are both, or the ``.npz``; a relative path may also lie under
            ``root``.
        target: the folder of B; null if ``source`` holds both.
        direction: ``BtoA`` makes A of B.
        load_size: height and width to which the larger of both is resized (bicubic), the other one to as many times
            less as it is smaller; null to leave sizes as they are.
        crop_size: height and width of the part of the larger one that is taken: a random one in training, the middle
            in evaluation; null for the whole. With it, pairs may have different sizes.
        flip: mirror training pairs at random.
        val_size: how many pairs are held out: the last ones of each class, or without classes the last ones by name.
        test_size: how many further pairs are held out for the test split.
        root: folder with the data; null: ``LIT_GEN_DATA``, else the cache folder (``~/.cache/lit_gen``).
        batch_size: training pairs of one update, over all ranks and micro-batches.
        device_batch_size: the most training pairs that a device takes at once; null for no limit.
        workers: decoding threads.
        seed: names order, flips and crops; linked to ``seed_everything`` by the command line.

    Raises:
        UserError: if a file is missing, damaged, without partner, or not like the others.
    """

    def __init__(
        self,
        source: str,
        target: str | None = None,
        direction: Literal["AtoB", "BtoA"] = "AtoB",
        load_size: int | None = None,
        crop_size: int | None = None,
        flip: bool = False,
        val_size: int = 0,
        test_size: int = 0,
        root: str | None = None,
        batch_size: int = 64,
        device_batch_size: int | None = None,
        workers: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__(root, batch_size, device_batch_size, flip, seed=seed)
        at_least(1, "data.", load_size=load_size, crop_size=crop_size, workers=workers)
        self.direction, self.load_size, self.crop_size, self.workers = direction, load_size, crop_size, workers
        self.val_size, self.test_size = val_size, test_size
        self._levels = Levels("data.source")
        self._found = self._find(source, target)
        check_held_out(self._found.splits, val_size, test_size, source, "pairs")
        self.classes, self.masked = self._found.classes, self._found.masks is not None
        self.num_classes = len(self.classes) or None
        if self.masked and (direction == "BtoA" or load_size is not None):
            raise UserError(
                "data.direction and data.load_size: AtoB and null are expected, since the file has masks, those of A"
            )
        self._first = self._decode(0)
        self.factor = self._first.factor
        check_crop(crop_size, load_size, self.factor)
        check_alike(self._first, self._first, crop_size)
        sides = (self._first.source, self._first.target)
        self.source_levels, self.levels = (DEEP if side.is_floating_point() else 256 for side in sides)
        window = self._window(self._first)
        self.source_shape = shape_of(window.of(self._first.source))
        self.shape = shape_of(window.of(self._first.target, self.factor))
        self.name = f"{self._found.name}{', B to A' if direction == 'BtoA' else ''}"

    # ---- reading

    def _find(self, source: str, target: str | None) -> Found:
        first = self._path("data.source", source)
        if target is not None:
            second = self._path("data.target", target)
            for option, path in (("data.source", first), ("data.target", second)):
                if not path.is_dir():
                    raise UserError(f"{option}: {path} is no folder, which is expected with data.target")
            return two_folders(first, second, self._levels)
        if first.is_dir():
            return halves(first, self._levels)
        if first.suffix != ".npz":
            raise UserError(f"data.source: {first} was found, a folder or an .npz is expected")
        return arrays(first, self._levels)

    def _path(self, option: str, given: str) -> Path:
        places = (Path(given).expanduser(), self.root / given)
        found = next((path for path in places if path.exists()), None)
        if found is None:
            raise UserError(f"{option}: {given} was not found, here or under {self.root}")
        return found

    def _decode(self, number: int) -> Pair:
        a, b = self._found.read(number)
        return fitted(a, b, self.load_size) if self.direction == "AtoB" else fitted(b, a, self.load_size)

    @functools.cached_property
    def _pairs(self) -> list[Pair]:
        """All pairs, decoded and compared with the first."""
        count, pairs, size = len(self._found.splits), list[Pair](), 0
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                for pair in shown(pool.map(self._decode, range(count)), count):
                    check_alike(pair, self._first, self.crop_size)
                    pairs.append(pair)
                    size += pair.source.nbytes + pair.target.nbytes
                    if size > MOST_BYTES:
                        raise UserError(
                            f"data.source: the first {len(pairs):,} of {count:,} pairs take more than "
                            f"{MOST_BYTES >> 30} GiB, which are held in memory; a smaller data.load_size is expected"
                        )
            except UserError:
                pool.shutdown(cancel_futures=True)
                raise
        return pairs

    @functools.cached_property
    def _numbers(self) -> dict[Split, Tensor]:
        """The numbers of the pairs of each split."""
        labels = torch.tensor(self._found.labels or [0] * len(self._found.splits))
        return divided(self._found.splits, labels, self.val_size, self.test_size, self.classes, "pair")

    # ---- what the base asks

    def prepare_data(self) -> None:
        """Decode; says what was found and converted."""
        first, second = (
            f"{'x'.join(map(str, shape))} of {16 if side.is_floating_point() else 8} bits"
            for shape, side in ((self.source_shape, self._first.source), (self.shape, self._first.target))
        )
        for number, hole in enumerate([] if self._found.masks is None else self._found.masks):
            if self._window(self._pairs[number]).of(torch.from_numpy(hole)).all():
                raise UserError(
                    f"{self._pairs[number].names[0]}: its mask leaves nothing of the middle, data.crop_size"
                )
        told = f"{self.name}: {len(self._pairs):,} pairs, {first} to {second}"
        for sentence in [told, *self._found.said, *self._levels.said()]:
            rank_zero_only(note)(sentence)

    def content(self) -> str:
        """SHA-256 of the decoded pairs, their masks, classes and splits."""
        return self._content

    @functools.cached_property
    def _content(self) -> str:
        tensors = {
            f"{i} {side}": x for i, pair in enumerate(self._pairs) for side, x in zip("AB", pair[:2], strict=True)
        }
        if self._found.masks is not None:
            tensors["masks"] = torch.from_numpy(self._found.masks)
        told = json.dumps([hash_of_tensors(tensors), self._found.labels, list(self.classes), self._found.splits])
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def protocol(self) -> dict[str, Any]:
        """What a record of numbers says of the set."""
        return {
            "data": self.name,
            "pairs": {split: len(numbers) for split, numbers in self._numbers.items()},
            "direction": self.direction,
            "load_size": self.load_size,
            "crop_size": self.crop_size,
            "sha256": self.content(),
        }

    def load(self, split: Split) -> ImageSet:
        """The targets of a split, as evaluation sees them."""
        numbers = self._numbers[split]
        rows = [self._window(pair).of(pair.target, self.factor) for pair in self._of(numbers)]
        return ImageSet(stacked(rows, self.shape, self._first.target.dtype), self._labels(numbers))

    def batches_for_training(self) -> TrainLoader:
        """Places of pairs in their split, and labels, in the order of training."""
        here = place(self.trainer)
        rank, device = here.get("rank", 0), here.get("device")
        return self.continued(TrainLoader(self._places("train"), self.batches(), self.seed, rank=rank, device=device))

    def batches_of(self, split: Split, rank: int, world: int) -> EvalLoader:
        """Places and labels, in blocks."""
        return EvalLoader(self._places(split), rank=rank, world=world)

    def _places(self, split: Split) -> ImageSet:
        """As many images of no size as there are pairs: `paired` takes the pairs by their indices."""
        numbers = self._numbers[split]
        return ImageSet(torch.zeros(len(numbers), 0, 1, 1, dtype=torch.uint8), self._labels(numbers))

    def _labels(self, numbers: Tensor) -> Tensor | None:
        return None if self._found.labels is None else torch.tensor(self._found.labels)[numbers]

    def _of(self, numbers: Tensor) -> list[Pair]:
        return [self._pairs[number] for number in numbers.tolist()]

    def paired(self, batch: ImageBatch, split: Split, epoch: int | None = None) -> ImagePair:
        """See `PairData`."""
        where, numbers, masks = batch.images.device, self._numbers[split][batch.indices], self._found.masks
        pairs = self._of(numbers)
        holes = [None if masks is None else torch.from_numpy(masks[number]) for number in numbers.tolist()]
        each = zip(pairs, batch.indices.tolist(), holes, strict=True)
        windows = [self._window(pair, index, epoch, hole) for pair, index, hole in each]
        taken = list(zip(windows, pairs, strict=True))
        sources = stacked([w.of(p.source) for w, p in taken], self.source_shape, self._first.source.dtype)
        targets = stacked([w.of(p.target, self.factor) for w, p in taken], self.shape, self._first.target.dtype)
        source, target, mask = to_float(sources.to(where)), to_float(targets.to(where)), None
        if masks is not None:
            cut = [w.of(hole) for w, hole in zip(windows, holes, strict=True) if hole is not None]
            hidden = stacked(cut, (1, *self.source_shape[1:]), torch.bool).to(where)
            source, mask = source.masked_fill(hidden, 0), hidden.to(source.dtype)
        return ImagePair(source, target, batch.labels, batch.indices, mask, batch.micro_batches)

    def _window(self, pair: Pair, index: int = 0, epoch: int | None = None, hole: Tensor | None = None) -> Window:
        """What is taken of a pair: in training a function of ``(seed, epoch, index)``, else the middle.

        In training it is drawn anew where nothing but a hole, bool (1, h, w), would be taken.
        """
        height, width = pair.source.shape[1:]
        crop = self.crop_size and self.crop_size // self.factor
        high, wide = (crop, crop) if crop else (height, width)
        if epoch is None or not (crop or self.flip):
            return Window((height - high) // 2, (width - wide) // 2, high, wide)
        generator = randomness.host(self.seed, "window of a pair", epoch, index)
        return drawn_window(generator, (height, width), (high, wide), self.flip, hole)
