"""The 8x8 digits of scikit-learn: 1,797 real images of 17 grey levels, small enough for exact densities.

Alpaydin and Kaynak, 1998, https://archive.ics.uci.edu/dataset/80. Nothing is downloaded: scikit-learn ships them.
"""

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lit_gen.core.errors import UserError, under
from lit_gen.core.images import of_level, quantize
from lit_gen.data.images.archives import read_numbers
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.module import ImageData
from lit_gen.protocols.data import Split

DIGITS = "68aea062d35a127749050fa0e52dca09d6569ac08092c925610e0954e172dde2"
"""SHA-256 of the digits: of each the 64 levels and the label, a byte each."""
LEVELS = 17
ROWS: dict[Split, slice] = {"train": slice(0, 1000), "val": slice(1000, 1350), "test": slice(1350, 1797)}
"""The split of Tomczak, Deep Generative Modeling, 2024, https://github.com/jmtomczak/intro_dgm: in the file's order."""


class Digits8(ImageData):
    """Grey 8x8 digits in ten classes, with levels 0 to 16: 1,000 for training, 350 for validation, 447 for test.

    In batches a level k is within 1/255 of 2 k / 16 - 1; `lit_gen.core.images.level_of` finds k.
    """

    shape = (1, 8, 8)
    num_classes: int | None = 10
    levels = LEVELS
    name = "digits8"

    def load(self, split: Split) -> ImageSet:
        """Read a split: rows of scikit-learn's file, in its order."""
        table = digits()[ROWS[split]]
        levels = torch.from_numpy(table[:, :-1].reshape(-1, *self.shape).copy())
        return ImageSet(quantize(of_level(levels, LEVELS)), torch.from_numpy(table[:, -1].astype(np.int64)))

    @property
    def protocol(self) -> dict[str, Any]:
        """What a record of numbers says of the set."""
        return {"data": self.name, "levels": LEVELS, "split": "1000 / 350 / 447 in file order"}


@functools.cache
def digits() -> np.ndarray:
    """All digits, uint8 (1797, 65): 64 levels and the label, in the file's order; nobody may change them.

    Raises:
        UserError: if scikit-learn or its file is missing, damaged or changed.
    """
    spec = importlib.util.find_spec("sklearn")
    again = "pip install --force-reinstall scikit-learn"
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"data: scikit-learn, which holds the digits, is missing; {again}")
    path = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    with under("", f"; {again}"):
        table = read_numbers(path)
    if (found := hashlib.sha256(table.data).hexdigest()) != DIGITS:
        raise UserError(f"{path}: its digits have the sha256 {found[:12]}, {DIGITS[:12]} is expected; {again}")
    return table.reshape(-1, 65)
