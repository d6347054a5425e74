"""Images in ``.npz`` files."""

from pathlib import Path

import numpy as np
import torch

from lit_gen.core.errors import UserError
from lit_gen.data.images.loaders import ImageSet


def images_of(arrays: dict[str, np.ndarray], path: Path) -> ImageSet:
    """Arrays of any accepted layout as an ImageSet: ``images`` (or ``arr_0``, numpy's name) and perhaps ``labels``.

    Raises:
        UserError: for another layout; says what was found.
    """
    given = arrays.get("images", arrays.get("arr_0"))
    images, labels = given, arrays.get("labels")
    expected = "uint8 (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3 is expected"
    if given is None or images is None:
        raise UserError(f"{path}: found nothing under 'images'; {expected}")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise UserError(f"{path}: found {given.dtype} {given.shape} under 'images'; {expected}")
    if labels is not None:
        whole = np.issubdtype(labels.dtype, np.integer) and labels.shape == (len(images),) and labels.min() >= 0
        if not whole:
            raise UserError(
                f"{path}: labels are {labels.dtype} {labels.shape}, whole numbers from 0 ({len(images)},) are expected"
            )
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    return ImageSet(tensor, None if labels is None else torch.from_numpy(labels.astype(np.int64)))
