"""CIFAR-10: 32x32 colour images in ten classes, read from its binary archive, so that no pickle is ever opened.

Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least
from lit_gen.data.images.archives import ensure
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.module import ImageData, stratified
from lit_gen.protocols.data import Split

ARCHIVE = "cifar-10-binary.tar.gz"
URLS = ["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"]
FOLDERS = ("cifar10", ".")
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_ROW = 1 + 3 * 32 * 32  # label, then the red, green and blue planes


class CIFAR10(ImageData):
    """CIFAR-10: 50,000 training and 10,000 test images.

    The archive ``cifar-10-binary.tar.gz`` is used if it lies in ``cifar10/`` of ``root`` or in ``root``, otherwise
    downloaded; its checksum is verified either way.

    Args:
        val_size: how many of the training images are held out for validation, the last ones of every class; 0 trains
            on all 50,000, as published numbers do, and has no validation split.
        **images: see `ImageData`.
    """

    name = "cifar10"
    shape = (3, 32, 32)
    num_classes = 10

    def __init__(self, val_size: int = 5000, **images: Any) -> None:
        super().__init__(**images)
        at_least(0, "data.", val_size=val_size)
        self.val_size = val_size

    def files(self) -> list[Path]:
        """The archive."""
        return [ensure(self.root, FOLDERS, ARCHIVE, URLS, MD5)]

    def prepare_data(self) -> None:
        """Find or download the archive, and verify it."""
        self.files()

    def load(self, split: Split) -> ImageSet:
        """Read a split; training and validation are disjoint parts of the five training files."""
        names = ["test_batch.bin"] if split == "test" else [f"data_batch_{i}.bin" for i in range(1, 6)]
        data = read_binary(self.files()[0], names)
        if split == "test":
            return data
        assert data.labels is not None
        train, held_out = stratified(data.labels, self.val_size)
        chosen = train if split == "train" else held_out
        return ImageSet(data.images[chosen], data.labels[chosen])


def read_binary(archive: Path, names: list[str]) -> ImageSet:
    """Images and labels of the named members of the archive.

    Raises:
        UserError: if the archive is damaged or a member is missing or has another length than rows of 3,073 bytes.
    """
    rows = []
    try:
        with tarfile.open(archive) as tar:
            members = {Path(m.name).name: m for m in tar.getmembers() if m.isfile()}
            for name in names:
                if name not in members:
                    raise UserError(f"{archive}: {name} is missing; the official binary archive is expected")
                file = tar.extractfile(members[name])
                assert file is not None
                raw = file.read()
                if not raw or len(raw) % _ROW:
                    raise UserError(f"{archive}: {name} has {len(raw)} bytes, a multiple of {_ROW} is expected")
                rows.append(np.frombuffer(raw, np.uint8).reshape(-1, _ROW))
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(f"{archive} is truncated or damaged ({error}); fetch the official file again") from None
    table = np.concatenate(rows)
    images = torch.from_numpy(table[:, 1:].reshape(-1, 3, 32, 32).copy())
    return ImageSet(images, torch.from_numpy(table[:, 0].astype(np.int64)))
