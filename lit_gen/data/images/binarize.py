"""Grey images made black and white, in ways that give different data sets: a likelihood belongs to one of them.

Bernoulli likelihoods need pixels that are 0 or 1. The published numbers of binary MNIST are of one fixed file, drawn
once with the grey values as probabilities (Salakhutdinov and Murray, 2008, https://doi.org/10.1145/1390156.1390266;
the file is that of Larochelle and Murray, 2011, http://proceedings.mlr.press/v15/larochelle11a.html), or of images
drawn anew each time they are shown (Burda et al., 2015, https://arxiv.org/abs/1509.00519). Numbers of one are not
numbers of another.
"""

import hashlib
import re
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lit_gen.core import randomness
from lit_gen.core.errors import UserError, nearest

Kind = Literal["grey", "threshold", "static-seed", "static", "dynamic"]
EXPECTED = "grey, threshold, static-seedN with a number N, static or dynamic is expected"


class Binarization(NamedTuple):
    """A binarization, as its name says it."""

    kind: Kind
    seed: int | None = None
    """N of ``static-seedN``."""


def parse(name: str) -> Binarization:
    """The binarization called ``name``.

    Raises:
        UserError: if there is no binarization of that name.
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
    return levels(images >= 128)  # 127.5 is half of 255


def draw(images: Tensor, generator: np.random.Generator) -> Tensor:
    """Each pixel white with its level / 255 as probability, exactly: uint8 (N, C, H, W) to the levels 0 and 255.

    Black stays black and white stays white. What is drawn for a row depends on the rows before it.
    """
    return white(images, torch.from_numpy(generator.integers(0, 255, tuple(images.shape), dtype=np.uint8)))


def white(images: Tensor, drawn: Tensor) -> Tensor:
    """Levels uint8 (N, C, H, W) against draws from 0..254 of the same shape, on the same device, to 0 and 255."""
    return levels(drawn < images)  # of 255 equally likely draws, the level is the number of draws below it


def draw_once(images: Tensor, seed: int, part: str, rows: Tensor) -> Tensor:
    """As `draw`, but image i depends only on ``(seed, part, rows[i])``, not on the other images.

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


def levels(bits: Tensor) -> Tensor:
    """True and False to the levels 255 and 0."""
    return bits.to(torch.uint8) * 255
