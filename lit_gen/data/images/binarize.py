"""Grey images made black and white, in ways that give different data sets: a likelihood must say which it is of.

Bernoulli likelihoods need pixels that are 0 or 1. The published numbers of binary MNIST are of one fixed file, drawn
once with the grey values as probabilities (Salakhutdinov and Murray, 2008, https://doi.org/10.1145/1390156.1390266;
the file is that of Larochelle and Murray, 2011, http://proceedings.mlr.press/v15/larochelle11a.html), or of images
drawn anew each time they are shown (Burda et al., 2015, https://arxiv.org/abs/1509.00519). Numbers of one are not
numbers of another.
"""

import hashlib
import re
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lit_gen.core import randomness
from lit_gen.core.errors import UserError, nearest

Kind = Literal["grey", "threshold", "static-seed", "static", "dynamic"]
EXPECTED = "grey, threshold, static-seedN with a number N, static or dynamic is expected"
FOLDER = "binarized_mnist"
URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
PIXELS = 28 * 28
ROWS = {"train": 50_000, "valid": 10_000, "test": 10_000}
"""Images of each file of the published binarization."""


class Binarization(NamedTuple):
    """A binarization, as its name says it."""

    kind: Kind
    seed: int | None = None
    """N of ``static-seedN``."""


def parse(name: str) -> Binarization:
    """The binarization called ``name``.

    Raises:
        UserError: if there is none of that name.
    """
    if re.fullmatch(r"static-seed(0|[1-9]\d*)", name):
        return Binarization("static-seed", int(name.removeprefix("static-seed")))
    for kind in ("grey", "threshold", "static", "dynamic"):
        if name == kind:
            return Binarization(kind)
    close = nearest(name, ("grey", "threshold", "static", "static-seed0", "dynamic"))
    raise UserError(f"data.binarize: {name!r} was found, {EXPECTED}{close}")


def threshold(images: Tensor) -> Tensor:
    """White where a level is at least half of white: uint8 (N, C, H, W) to the levels 0 and 255."""
    return _levels(images >= 128)  # 127.5 is half of 255


def draw(images: Tensor, generator: np.random.Generator) -> Tensor:
    """Each pixel white with its level / 255 as probability, exactly: uint8 (N, C, H, W) to the levels 0 and 255.

    Black stays black and white stays white. What is drawn for a row depends on the rows before it.
    """
    return white(images, torch.from_numpy(generator.integers(0, 255, tuple(images.shape), dtype=np.uint8)))


def white(images: Tensor, drawn: Tensor) -> Tensor:
    """Levels uint8 (N, C, H, W) against draws from 0..254 of the same shape, on the same device, to 0 and 255."""
    return _levels(drawn < images)  # of 255 equally likely draws, as many as the level are below it


def draw_once(images: Tensor, seed: int, part: str, rows: Tensor) -> Tensor:
    """As `draw`, image i by ``(seed, part, rows[i])`` alone: the same bits whichever images stand beside it.

    Args:
        images: uint8 (N, C, H, W).
        seed: N of ``static-seedN``.
        part: the archive that the images are from.
        rows: int64 (N,), each image's place in that archive.
    """
    drawn = [
        draw(image, randomness.host(seed, f"binarize, {part}", index=row))
        for image, row in zip(images, rows.tolist(), strict=True)
    ]
    return torch.stack(drawn) if drawn else images


def sha256(images: Tensor) -> str:
    """SHA-256, in hexadecimal, of binary images (N, C, H, W): eight pixels a byte, the first the highest bit."""
    bits = np.packbits((images >= 128).flatten().cpu().numpy())
    return hashlib.sha256(bits.tobytes()).hexdigest()


def _levels(bits: Tensor) -> Tensor:
    return bits.to(torch.uint8) * 255


# ---- the published files


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
    return _levels(torch.from_numpy(np.stack(rows) == ord("1"))).view(-1, 1, 28, 28)


def _file(root: Path, part: str) -> Path:
    return root / FOLDER / f"binarized_mnist_{part}.amat"
