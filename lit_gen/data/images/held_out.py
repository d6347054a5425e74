"""Which images of a folder are held out: those of its folders val and test, or some of the training images."""

from collections.abc import Sequence
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.data.images.module import stratified
from lit_gen.protocols.data import Split


def check_held_out(given: Sequence[Split], val_size: int, test_size: int, where: str, items: str = "images") -> None:
    """Refuse sizes that leave nothing to train on, or are those of a split that has a folder.

    Args:
        given: the split of each image, by its folder.
        val_size: images to hold out for validation.
        test_size: images to hold out for the test split.
        where: the folder.
        items: what the messages call the images.

    Raises:
        UserError: names the option.
    """
    for split, size in (("val", val_size), ("test", test_size)):
        if size and split in given:
            raise UserError(f"data.{split}_size: {size} was found, but {where} has a {split} folder; 0 is expected")
    held_out, count = val_size + test_size, list(given).count("train")
    if min(val_size, test_size) < 0 or held_out >= count:
        raise UserError(f"data.val_size and data.test_size hold out {held_out} of {count} {items}; fewer are expected")


def divided(
    given: Sequence[Split], labels: Tensor, val_size: int, test_size: int, classes: Sequence[str], item: str = "image"
) -> dict[Split, Tensor]:
    """The numbers of the images of each split, ascending; see `check_held_out` and `stratified`."""
    splits = np.array(given)
    parts: dict[Split, Tensor] = {name: torch.from_numpy(np.flatnonzero(splits == name)) for name in get_args(Split)}
    held_out: dict[Split, int] = {"test": test_size, "val": val_size}
    for name, size in held_out.items():
        if size:
            train = parts["train"]
            kept, held = stratified(labels[train], size, f"data.{name}_size", classes, item)
            parts["train"], parts[name] = train[kept], train[held]
    return parts
