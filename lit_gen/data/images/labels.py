"""Classes as they occur: labels of any kind become 0, 1, ..., their names are kept, and a run counts them."""

import re
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
from torch import Tensor, bincount

from lit_gen.core.errors import UserError

SHOWN = 10
"""Classes that are counted by name."""


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts names as people do: class 2 before class 10."""
    return [
        (0, int(part), part) if part.isascii() and part.isdecimal() else (1, 0, part)
        for part in re.split(r"([0-9]+)", name)
    ]


def numbered(labels: np.ndarray, where: str) -> tuple[np.ndarray, list[str], str]:
    """Labels as numbers of the classes that occur.

    Args:
        labels: (N,), whole numbers, true and false, or names.
        where: what holds them.

    Returns:
        int64 (N,), the classes' names, and a sentence if the numbers have changed.

    Raises:
        UserError: if they are anything else.
    """
    if labels.dtype.kind not in "iubU" or labels.ndim != 1:
        raise UserError(
            f"{where}: labels are {labels.dtype} {labels.shape}, one whole number or name for each image is expected"
        )
    values, numbers = np.unique(labels, return_inverse=True)
    names = [str(value) for value in values]
    if labels.dtype.kind == "U":
        order = sorted(range(len(names)), key=lambda i: natural(names[i]))
        names = [names[i] for i in order]
        return np.argsort(order)[numbers].astype(np.int64), names, ""
    said = ""
    if names != [str(i) for i in range(len(names))]:
        found = names if len(names) <= SHOWN else [*names[:3], "...", names[-1]]
        said = f"{where}: the labels {', '.join(found)} are numbered from 0 to {len(names) - 1}"
    return numbers.astype(np.int64), names, said


def check_classes(given: Sequence[str] | None, found: Sequence[str], source: str) -> None:
    """Refuse a set whose classes are others than ``data.classes`` says, so that no number stands for another class.

    Raises:
        UserError: if a name or their order differs; says the first that does.
    """
    for i, (expected, name) in enumerate(zip_longest(given or found, found)):
        if expected != name:
            there = "nothing more" if name is None else repr(name)
            wanted = "the end of the list" if expected is None else repr(expected)
            raise UserError(f"data.classes: class {i} of {source} is {there}, {wanted} is expected")


def counted(name: str, images: int, labels: Tensor | None, classes: Sequence[str]) -> str:
    """``pics: 24 images, 3 classes: bird 9, cat 8, dog 7``."""
    begin = f"{name}: {images:,} {'image' if images == 1 else 'images'}"
    if labels is None:
        return begin
    counts = bincount(labels, minlength=len(classes)).tolist()
    begin += f", {len(classes):,} {'class' if len(classes) == 1 else 'classes'}"
    if len(classes) > SHOWN:
        return f"{begin} of {min(counts):,} to {max(counts):,} images"
    return f"{begin}: {', '.join(f'{c} {n:,}' for c, n in zip(classes, counts, strict=True))}"
