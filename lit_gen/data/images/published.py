"""The published binarization of MNIST, three files of black and white pixels; see `lit_gen.data.images.binarize`."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.data.images.binarize import levels

FOLDER = "binarized_mnist"
URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
PIXELS = 28 * 28
ROWS = {"train": 50_000, "valid": 10_000, "test": 10_000}
"""Images of each file of the published binarization."""


def published_files(root: Path) -> list[Path]:
    """The three files of the published binarization, under ``root``.

    Raises:
        UserError: for the first one that is missing; says where it comes from and what it holds.
    """
    paths = [_file(root, part) for part in ROWS]
    for path, rows in zip(paths, ROWS.values(), strict=True):
        if not path.is_file():
            raise UserError(
                f"data.binarize: static needs {path}, which does not exist; {path.name} from {URL} is expected there "
                f"({rows:,} rows of {PIXELS} values 0 or 1), or static-seed0 for a binarization that needs no files"
            )
    return paths


def read_published(root: Path, split: str) -> Tensor:
    """The published binary images of a split (train, val or test): uint8 (N, 1, 28, 28), 0 and 255, without labels.

    Raises:
        UserError: if the file holds anything but its number of rows of 784 values 0 or 1; names the line.
    """
    published_files(root)
    part = "valid" if split == "val" else split
    path, rows = _file(root, part), []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            values = line.split()
            if len(values) != PIXELS:
                raise UserError(f"{path}, line {number}: {len(values)} values were found, {PIXELS} are expected")
            if other := set(values) - {b"0", b"1"}:
                raise UserError(
                    f"{path}, line {number}: {min(other).decode(errors='replace')!r:.20} was found, 0 or 1 is expected"
                )
            rows.append(np.frombuffer(b"".join(values), np.uint8))
    if len(rows) != ROWS[part]:
        raise UserError(
            f"{path}: {len(rows):,} rows were found, {ROWS[part]:,} are expected; fetch it again from {URL}"
        )
    return levels(torch.from_numpy(np.stack(rows) == ord("1"))).view(-1, 1, 28, 28)


def _file(root: Path, part: str) -> Path:
    return root / FOLDER / f"binarized_mnist_{part}.amat"
