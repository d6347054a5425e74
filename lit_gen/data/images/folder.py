"""Any folder of images, decoded once, in parallel, into a uint8 memory map."""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from torch import Tensor

from lit_gen.core.cache import cache_folder, cached, writing
from lit_gen.core.errors import UserError, note
from lit_gen.core.files import write_whole
from lit_gen.core.options import at_least, expect
from lit_gen.data.images.decode import as_array, read_image
from lit_gen.data.images.files import image_walk, shown
from lit_gen.data.images.held_out import check_held_out, divided
from lit_gen.data.images.labels import check_classes, counted
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.module import ImageData
from lit_gen.data.images.pixels import Levels
from lit_gen.data.images.tree import arrange
from lit_gen.data.walk import identity, passed_over
from lit_gen.protocols.data import Split


class ImageFolder(ImageData):
    """Images of a folder, with or without one subfolder per class.

    Every image is turned upright (EXIF), laid on white where it is transparent, converted to grey or RGB of 8 bits (see
    `lit_gen.data.images.pixels`), resized and cropped, once; the result is cached as a memory map named by a
    fingerprint of the files and settings.

    Args:
        folder: the folder; a relative path may also lie under ``root``. If its images lie in subfolders, those are the
            classes, in natural order; if those are train, val and test, they are the splits, each with or without
            classes.
        channels: 3 for RGB, 1 for grey.
        resize: length of the shorter side after resizing (Lanczos); null to leave sizes as they are.
        bits: bits of a level in files of 16 or 32 bits per pixel: 12 if they hold 0 to 4095; null: 16.
        crop: side of the square cut from the centre after resizing; null for none.
        val_size: how many images are held out: the last ones of each class, or without classes the last ones by name.
        test_size: how many further images are held out for the test split.
        workers: decoding threads.
        classes: the names that the classes must have, in the order of their numbers; null: any. A run's config.yaml
            says those that it was trained on.
        **images: see `ImageData`.

    Raises:
        UserError: if the folder is missing or holds no images.
    """

    def __init__(
        self,
        folder: str,
        channels: Literal[1, 3] = 3,
        resize: int | None = None,
        crop: int | None = None,
        bits: int | None = None,
        val_size: int = 0,
        test_size: int = 0,
        workers: int = 8,
        classes: list[str] | None = None,
        **images: Any,
    ) -> None:
        super().__init__(**images)
        at_least(1, "data.", resize=resize, crop=crop, workers=workers)
        expect(bits is None or 8 <= bits <= 32, "data.bits", bits, "8 to 32 or null")
        self.folder = next((p for p in (Path(folder).expanduser(), self.root / folder) if p.is_dir()), None)
        if self.folder is None:
            raise UserError(f"data.folder: {folder} is no folder, here or under {self.root}")
        self.channels, self.resize, self.crop, self.workers, self.bits = channels, resize, crop, workers, bits
        self.val_size, self.test_size = val_size, test_size
        self._scan()
        check_classes(classes, self.classes, str(self.folder))
        check_held_out(self._given, val_size, test_size, str(self.folder))
        self.shape = self._decoded_shape()

    def _scan(self) -> None:
        assert self.folder is not None
        walk = image_walk(self.folder, "data.folder")
        self._names, self._passed = walk.names, passed_over([walk])
        self._given, self.classes, self._labels = arrange(self._names, self.folder)
        self.num_classes = len(self.classes) or None

    def _decoded_shape(self) -> tuple[int, int, int]:
        """The shape of all images: as they were decoded if they were, else that of the first."""
        kept = self._place()
        if kept.is_file() and kept.with_suffix(".json").is_file():
            self._cache = kept  # what the files were now; they are looked at only once
            with contextlib.suppress(UserError), _whole(kept):
                _, channels, height, width = np.load(kept, mmap_mode="r").shape
                return channels, height, width
        height, width = self._decode(self._path(0), Levels(str(self.folder), self.bits)).shape[1:]
        return self.channels, height, width

    def _path(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / self._names[number]

    def files(self) -> list[Path]:
        """The decoded cache."""
        return [self._cache]

    def prepare_data(self) -> None:
        """Decode, unless the cache is there; says what was found and converted."""
        assert self.folder is not None
        labels = None if self._labels is None else torch.tensor(self._labels)
        rank_zero_only(note)(counted(self.folder.name, len(self._names), labels, self.classes) + self._passed)
        for sentence in self._facts["said"]:
            rank_zero_only(note)(sentence)

    def load(self, split: Split) -> ImageSet:
        """A split; the three never overlap."""
        with _whole(self._cache):
            images = torch.from_numpy(np.load(self._cache, mmap_mode="c"))
        labels = torch.tensor(self._labels or [0] * len(images))
        parts = divided(self._given, labels, self.val_size, self.test_size, self.classes)
        chosen = parts[split]
        return ImageSet(_rows(images, chosen), labels[chosen] if self._labels else None)

    @functools.cached_property
    def _cache(self) -> Path:
        """The decoded images of the files as they were at the first call."""
        images = self._place()
        facts = images.with_suffix(".json")

        def write(path: Path) -> None:
            found = json.dumps(dict(zip(("content", "said"), self._write(path), strict=True)))
            write_whole(facts, found)  # exists before the images

        with writing():
            if not facts.is_file():  # it was deleted
                images.unlink(missing_ok=True)
        return cached(images.name, write)

    def _place(self) -> Path:
        """Where the decoded images of the files, as they are now, belong."""
        assert self.folder is not None
        settings = [self.channels, self.resize, self.crop, self.bits, 3]  # the last is the version
        digest = hashlib.sha256(json.dumps(settings).encode())
        folder = f"{self.folder.absolute()}".removesuffix("/")
        for name in self._names:
            path = f"{folder}/{name}"
            digest.update(os.fsencode(path))
            digest.update("\0".join(["", *identity(os.stat(path)), ""]).encode())  # noqa: PTH116  of text: much faster
        return cache_folder() / f"folder-{digest.hexdigest()[:16]}.npy"

    def content(self) -> str:
        """SHA-256 of the decoded images, their classes and splits."""
        return self._content

    @functools.cached_property
    def _content(self) -> str:
        """Each checkpoint holds it; the labels may be millions."""
        digest = hashlib.sha256(json.dumps([self._facts["content"], self._labels, self._given]).encode())
        return digest.hexdigest()

    @functools.cached_property
    def _facts(self) -> dict[str, Any]:
        path = self._cache.with_suffix(".json")
        with _whole(path):
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return {name: found[name] for name in ("content", "said")}

    def _write(self, path: Path) -> tuple[str, list[str]]:
        """Decode all images into an array file; returns their SHA-256, and sentences about them."""
        shape = (len(self._names), *self.shape)
        content = hashlib.sha256(json.dumps(shape).encode())
        table = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        levels = Levels(str(self.folder), self.bits)
        with ThreadPoolExecutor(self.workers) as pool:
            decoded = pool.map(lambda number: self._decode(self._path(number), levels), range(len(table)))
            for i, image in enumerate(shown(decoded, len(table))):
                if image.shape != self.shape:
                    pool.shutdown(cancel_futures=True)
                    raise UserError(
                        f"{self._path(i)} is {image.shape[2]}x{image.shape[1]}, but {self._path(0)} is "
                        f"{self.shape[2]}x{self.shape[1]}; set data.resize and data.crop"
                    )
                table[i] = image
                content.update(image.tobytes())
        table.flush()
        return content.hexdigest(), levels.said()

    def _decode(self, path: Path, levels: Levels) -> np.ndarray:
        image = read_image(path, self.channels, levels)
        if self.resize is not None:
            scale = self.resize / min(image.size)
            size = (
                max(self.resize, round(image.width * scale)),
                max(self.resize, round(image.height * scale)),
            )
            image = image.resize(size, Image.Resampling.LANCZOS)
        if self.crop is not None:
            if min(image.size) < self.crop:
                raise UserError(
                    f"{path} is {image.width}x{image.height}, smaller than data.crop {self.crop}; set data.resize"
                )
            left, top = (image.width - self.crop) // 2, (image.height - self.crop) // 2
            image = image.crop((left, top, left + self.crop, top + self.crop))
        return as_array(image)


def _rows(images: Tensor, chosen: Tensor) -> Tensor:
    """Some images, in ascending order; of the memory map itself if they follow each other."""
    if not len(chosen):
        return images[:0]
    first, last = int(chosen[0]), int(chosen[-1])
    return images[first : last + 1] if last - first + 1 == len(chosen) else images.index_select(0, chosen)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Name a file of the cache that is truncated, or gone since."""
    try:
        yield
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{path} is damaged; move it away, then run the command again to decode the images anew"
        ) from None
