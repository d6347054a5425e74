"""Images in files of arrays, ``.npz`` and ``.npy``."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_gen.core.cache import read_npy, read_npz
from lit_gen.core.errors import UserError
from lit_gen.data.images.pixels import Levels

SUFFIXES = (".npz", ".npy")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``, or the one of a ``.npy`` as ``images``.

    Raises:
        UserError: if it is damaged or holds something else.
    """
    return {"images": read_npy(path)} if path.suffix == ".npy" else read_npz(path)


def images_of(arrays: dict[str, np.ndarray], path: Path, levels: Levels) -> Tensor:
    """Images of any accepted layout, uint8 (N, C, H, W), from ``images`` or ``arr_0``, numpy's default name.

    Raises:
        UserError: for another layout, or levels of another range; says what was found.
    """
    given = arrays.get("images", arrays.get("arr_0"))
    expected = "(N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3 is expected"
    if given is None:
        there = ", ".join(map(repr, arrays)) or "nothing"
        raise UserError(f"{path}: found {there}, but nothing under 'images' or 'arr_0', where {expected}")
    images = levels.of_array(given, str(path), len(np.atleast_1d(given)))
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise UserError(f"{path}: found {given.dtype} {given.shape} under 'images'; {expected}")
    return torch.from_numpy(np.ascontiguousarray(images))
