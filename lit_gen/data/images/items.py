"""Items of a torch ``Dataset``: which part is the image and which the label, and arrays of all items."""

from collections.abc import Mapping, Sized
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from lit_gen.core.errors import UserError
from lit_gen.data.images.pixels import Levels

IMAGES = ("image", "images", "img", "pixel_values", "x")
LABELS = ("label", "labels", "target", "class", "y")
"""Keys of the two in an item that is a mapping; the first existing one is taken."""


def read_dataset(dataset: Dataset[Any], levels: Levels) -> dict[str, np.ndarray]:
    """All items: ``images``, uint8 (N, C, H, W), and, where items have labels, ``labels`` (N,), numbers or names.

    Raises:
        UserError: if items are not images, or differ in shape, or only some have labels.
    """
    if not isinstance(dataset, Sized):
        raise UserError(f"data.source: {type(dataset).__name__} has no length, a data set with an index is expected")
    images: list[np.ndarray] = []
    labels: list[Any] = []
    for i in range(len(dataset)):
        where = f"data.source, item {i}"
        image, label = _parts(dataset[i], where)
        images.append(_as_uint8(image, levels, where))
        labels.append(_plain(label, where))
        if images[-1].shape != images[0].shape:
            raise UserError(f"data.source: item {i} has shape {images[-1].shape}, item 0 has {images[0].shape}")
        if (labels[-1] is None) != (labels[0] is None):
            raise UserError(f"data.source: items 0 and {i}: one has a label and one has none; all or none is expected")
    if not images:
        raise UserError("data.source: the dataset is empty")
    arrays = {"images": np.stack(images)}
    if labels[0] is not None:
        arrays["labels"] = np.array(labels)
    return arrays


def _parts(item: Any, where: str) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        image = next((key for key in IMAGES if key in item), None)
        if image is None:
            raise UserError(
                f"{where} has {', '.join(map(repr, item)) or 'nothing'}, an image under one of {', '.join(IMAGES)} is "
                f"expected"
            )
        return item[image], next((item[key] for key in LABELS if key in item), None)
    if isinstance(item, tuple | list):
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def _plain(label: Any, where: str) -> int | float | str | bool | None:
    """A label as Python's own number or text."""
    if isinstance(label, Tensor | np.ndarray | np.generic):
        if label.ndim:
            raise UserError(f"{where}: its label has shape {tuple(label.shape)}, one number or name is expected")
        label = label.item()
    if label is None or isinstance(label, int | float | str):
        return label
    raise UserError(f"{where}: its label is a {type(label).__name__}, a number or a name is expected")


def _as_uint8(image: Any, levels: Levels, where: str) -> np.ndarray:
    """An image as uint8 (C, H, W)."""
    if isinstance(image, Image.Image):
        array = np.atleast_3d(np.asarray(levels.of_picture(image, None, where))).transpose(2, 0, 1)
    elif isinstance(image, Tensor):
        array = levels.of_array(image.detach().cpu().numpy(), where)
    elif isinstance(image, np.ndarray):  # (H, W, C), as pictures are
        array = levels.of_array(image, where)
        if array.ndim == 3 and array.shape[2] in (1, 3):
            array = array.transpose(2, 0, 1)
    else:
        raise UserError(f"{where} is a {type(image).__name__}, a PIL image, an array or a tensor is expected")
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise UserError(f"{where} has shape {array.shape}, an image (C, H, W) is expected")
    return array
