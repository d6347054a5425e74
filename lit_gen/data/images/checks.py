"""What is wrong with a data set of the user's own, said when its split is read."""

from typing import Any

import torch
from torch import Tensor

from lit_gen.core.blame import named, shown
from lit_gen.core.errors import UserError
from lit_gen.core.options import whole_number
from lit_gen.data.images.loaders import ImageSet


def check_shape(data: Any) -> None:
    """Refuse a data module without the shape of its images, or whose number of classes is none.

    Raises:
        UserError: unless ``data.shape`` is three whole numbers, and ``data.num_classes`` one, or None.
    """
    shape = getattr(data, "shape", None)
    good = isinstance(shape, tuple | list) and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape)
    if not good:
        has = "no shape" if shape is None else f"the shape {shape!r}"
        raise UserError(f"data: {named(data)} has {has}, (channels, height, width) is expected")
    classes = getattr(data, "num_classes", None)
    if classes is not None and (type(classes) is not int or classes < 1):
        expected = f"{whole_number(1)}, or None without labels, is expected"
        raise UserError(f"data: {named(data)} has num_classes {classes!r}, {expected}")


def check(found: Any, split: str, data: Any) -> None:
    """Refuse what `load` returned if it is no split of such images.

    Args:
        found: what it returned.
        split: which split that is to be.
        data: the data module, with ``shape`` and ``num_classes``.

    Raises:
        UserError: names the data module's class.
    """
    if not isinstance(found, ImageSet):
        expected = "a lit_gen.data.images.loaders.ImageSet is expected"
        raise UserError(f"data: load({split!r}) of {named(data)} returned {shown(found)}, {expected}")
    channels, height, width = data.shape
    images, labels = found.images, found.labels
    points = height == width == 1
    real = points or (getattr(data, "levels", None) or 0) > 256
    right = isinstance(images, Tensor) and tuple(images.shape[1:]) == (channels, height, width)
    if isinstance(images, Tensor) and not len(images):
        return  # a split that there is not
    if not right or not (images.dtype == torch.uint8 or (real and images.is_floating_point())):
        dtype, kind = ("float32", "points") if points else ("uint8", "images with levels of 0 to 255")
        expected = f"{dtype} (N, {channels}, {height}, {width}) {kind} are expected"
        raise UserError(f"data: the {split} images of {named(data)} are {shown(images)}, {expected}")
    classes = data.num_classes
    if labels is None:
        if classes is not None:
            raise UserError(f"data: {named(data)} has num_classes {classes}, but its {split} images have no labels")
        return
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or tuple(labels.shape) != (len(images),):
        expected = f"int64 ({len(images)},) or None is expected"
        raise UserError(f"data: the {split} labels of {named(data)} are {shown(labels)}, {expected}")
    if classes is None:
        return
    least, most = (int(x) for x in labels.aminmax())
    if least < 0 or most >= classes:
        bad = least if least < 0 else most
        raise UserError(
            f"data: the label {bad} was found in {split} of {named(data)}, 0 to {classes - 1} are expected, as it has "
            f"num_classes {classes}"
        )
