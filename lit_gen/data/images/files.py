"""Image files: found under a folder, and read at once."""

import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from lit_gen.core.errors import UserError, note
from lit_gen.data.images.decode import as_array, read_image
from lit_gen.data.images.labels import counted
from lit_gen.data.images.pixels import Levels
from lit_gen.data.walk import Walk, passed_over

T = TypeVar("T")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


def image_walk(folder: Path, option: str) -> Walk:
    """All image files under a folder, in the order of their paths.

    Raises:
        UserError: if there are none; ``option`` is what named the folder.
    """
    walk = Walk(folder, lambda name: name.lower().endswith(SUFFIXES))
    if not walk.names:
        looked = f"({', '.join(sorted(SUFFIXES))} are looked for{passed_over([walk])})"
        raise UserError(f"{option}: {folder} holds no images {looked}")
    return walk


def read_images(folder: Path, channels: Literal[1, 3], option: str) -> Tensor:
    """All images of a folder, uint8 (n, C, H, W), in the order of their paths.

    Raises:
        UserError: if there are none, one cannot be read, or their sizes differ.
    """
    walk = image_walk(folder, option)
    paths = walk.files
    images: list[np.ndarray] = []
    levels = Levels(str(folder))
    with ThreadPoolExecutor(8) as pool:
        decoded = pool.map(lambda path: as_array(read_image(path, channels, levels)), paths)
        for path, image in zip(paths, shown(decoded, len(paths)), strict=True):
            images.append(image)
            if image.shape != images[0].shape:
                pool.shutdown(cancel_futures=True)
                sizes = [f"{i.shape[2]}x{i.shape[1]}" for i in (image, images[0])]
                raise UserError(f"{option}: {path} is {sizes[0]}, but {paths[0]} is {sizes[1]}; one size is expected")
    if walk.passed:
        note(counted(str(folder), len(paths), None, []) + passed_over([walk]))
    for sentence in levels.said():
        note(sentence)
    return torch.from_numpy(np.stack(images))


def shown(decoded: Iterator[T], total: int) -> Iterable[T]:
    """Images as they come, with a progress line on a terminal."""
    if not sys.stderr.isatty():
        return decoded
    return track(decoded, "decoding", total=total, transient=True, console=Console(stderr=True))
