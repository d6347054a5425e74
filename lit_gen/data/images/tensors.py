"""Any torch data set of images, or an ``.npz`` or ``.npy`` file, through one uint8 cache."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import Dataset

from lit_gen.core.cache import cached, hash_of_tensors, read_npz
from lit_gen.core.errors import UserError, note
from lit_gen.core.options import expect
from lit_gen.data.images.items import read_dataset
from lit_gen.data.images.labels import check_classes, counted, numbered
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.module import ImageData, stratified
from lit_gen.data.images.npz import images_of, read_arrays
from lit_gen.data.images.pixels import Levels
from lit_gen.protocols.data import Split


class TensorSet(ImageData):
    """Images from a torch ``Dataset``, or an ``.npz`` or ``.npy`` file.

    An ``.npz`` holds ``images``, (N, H, W), (N, H, W, C) or (N, C, H, W), and perhaps ``labels`` (N,); a ``.npy`` holds
    only images. A dataset yields an image, (image, label) or a mapping of both, where an image is a tensor (C, H, W),
    an array (H, W, C) or a PIL image. Levels are 0 to 255 or floats in [-1, 1], see `lit_gen.data.images.pixels`.
    Labels are whole numbers or names; the classes are those that occur, and are numbered from 0.

    Args:
        source: path of the file, or a dataset.
        bits: bits of a level in integers of more than 8 bits; null: 16 for uint16, else 8.
        cache: a name under which a dataset's content is kept once it was read; null to read it at each start. The
            name stands for the content: choose another one when the dataset changes.
        val_size: how many items are held out: the last ones of each class, or without labels the last ones.
        test_size: how many further items are held out for the test split.
        classes: the names that the classes must have, in the order of their numbers; null: any. A run's config.yaml
            says those that it was trained on.
        **images: see `ImageData`.

    Raises:
        UserError: if the file is missing, damaged or of another layout.
    """

    def __init__(
        self,
        source: str | Dataset,  # type: ignore[type-arg]  # the command line knows no generic classes
        val_size: int = 0,
        test_size: int = 0,
        cache: str | None = None,
        bits: int | None = None,
        classes: list[str] | None = None,
        **images: Any,
    ) -> None:
        super().__init__(**images)
        self.source, self.val_size, self.test_size, self.cache = source, val_size, test_size, cache
        expect(bits is None or 8 <= bits <= 32, "data.bits", bits, "8 to 32 or null")
        self.bits, self._said = bits, list[str]()
        self._whole: ImageSet | None = None
        whole = self._read()
        check_classes(classes, self.classes, source if isinstance(source, str) else type(source).__name__)
        count, held_out = len(whole), val_size + test_size
        if min(val_size, test_size) < 0 or held_out >= count:
            raise UserError(
                f"data.val_size and data.test_size hold out {held_out} of {count} images; fewer are expected"
            )
        _, channels, height, width = whole.images.shape
        self.shape = (channels, height, width)
        self.num_classes = None if whole.labels is None else len(self.classes)

    def prepare_data(self) -> None:
        """Says what was found and converted."""
        whole = self._read()
        name = self.source if isinstance(self.source, str) else type(self.source).__name__
        for sentence in [counted(name, len(whole), whole.labels, self.classes), *self._said]:
            rank_zero_only(note)(sentence)

    def content(self) -> str:
        """SHA-256 of images and labels."""
        return self._sha256

    @functools.cached_property
    def _sha256(self) -> str:
        whole = self._read()
        return hash_of_tensors({"images": whole.images} | ({} if whole.labels is None else {"labels": whole.labels}))

    def load(self, split: Split) -> ImageSet:
        """A split; the three never overlap."""
        whole = self._read()
        labels = torch.zeros(len(whole), dtype=torch.int64) if whole.labels is None else whole.labels
        rest, test = stratified(labels, self.test_size, "data.test_size", self.classes)
        train, val = stratified(labels[rest], self.val_size, "data.val_size", self.classes)
        chosen = {"train": rest[train], "val": rest[val], "test": test}[split]
        return ImageSet(whole.images[chosen], None if whole.labels is None else whole.labels[chosen])

    def _read(self) -> ImageSet:
        if self._whole is None:
            levels = Levels("data.source", self.bits)
            if isinstance(self.source, str):
                path = Path(self.source).expanduser()
                path = path if path.is_file() else self.root / self.source
                if not path.is_file():
                    raise UserError(f"data.source: {self.source} was not found, here or under {self.root}")
                levels.source, arrays = str(path), read_arrays(path)
            elif self.cache is None:
                path, arrays = Path("data.source"), read_dataset(self.source, levels)
            else:
                dataset = self.source
                path = cached(
                    f"tensors-{self.cache}{'' if self.bits is None else f'-{self.bits}bits'}.npz",
                    lambda partial: _write_npz(read_dataset(dataset, levels), levels, partial),
                )
                arrays = read_npz(path)
            images = images_of(arrays, path, levels)
            kept = arrays.get("said") if self.cache is not None else None
            self._said = levels.said() if kept is None else [str(sentence) for sentence in kept]
            self._whole = ImageSet(images, self._numbered(arrays.get("labels"), len(images), path))
        return self._whole

    def _numbered(self, found: np.ndarray | None, images: int, path: Path) -> Tensor | None:
        """Labels as numbers of the classes, whose names are kept."""
        if found is None:
            return None
        labels, self.classes, said = numbered(found, str(path))
        if len(labels) != images:
            raise UserError(f"{path}: {len(labels):,} labels were found, one for each of {images:,} images is expected")
        self._said += [said] * bool(said)
        return torch.from_numpy(labels)


def _write_npz(arrays: dict[str, Any], levels: Levels, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, said=np.array(levels.said(), dtype=str), **arrays)
