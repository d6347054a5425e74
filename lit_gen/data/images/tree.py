"""Splits and classes from the subfolders of a folder of images."""

from pathlib import Path
from typing import NamedTuple

from lit_gen.core.errors import UserError
from lit_gen.data.images.labels import natural
from lit_gen.data.walk import SPLITS, as_text, splits_by_folder
from lit_gen.protocols.data import Split


class Arranged(NamedTuple):
    """Images by their folders.

    Attributes:
        splits: of each image; train for all if no folder is named so.
        classes: names in natural order, those of the training images; empty if images are not in subfolders.
        labels: of each image, by number; None without classes.
    """

    splits: list[Split]
    classes: list[str]
    labels: list[int] | None


def arrange(names: list[str], folder: Path, option: str = "data.folder") -> Arranged:
    """Arrange the images below a folder.

    Args:
        names: their paths below the folder.
        folder: the folder.
        option: what names it.

    Raises:
        UserError: if only folders for validation or test are there, images lie beside folders of classes, or a class
            has images only for validation or test.
    """
    parts = [name.split("/") for name in names]
    tree = splits_by_folder({part[0] for part in parts if len(part) > 1}, folder)
    tree = tree if all(len(part) > 1 for part in parts) else {}
    tops = sorted({part[0] for part in parts})
    if not tree and all(name.lower() in SPLITS for name in tops):
        raise UserError(f"{option}: {folder} holds only {' and '.join(tops)}, a folder called train is expected too")
    splits: list[Split] = [tree[part[0]] for part in parts] if tree else ["train"] * len(parts)
    parts = [part[1:] for part in parts] if tree else parts
    loose = [part[-1] for part in parts if len(part) == 1]
    if loose and len(loose) < len(parts):
        raise UserError(f"{option}: {folder} holds images beside its class folders ({loose[0]}); move them")
    text = {name: as_text(name) for name in {part[0] for part in parts if len(part) > 1}}
    of_each = [text[part[0]] if len(part) > 1 else "" for part in parts]
    classes = sorted({n for n, split in set(zip(of_each, splits, strict=True)) if split == "train" and n}, key=natural)
    if unknown := sorted(set(text.values()) - set(classes)):
        raise UserError(f"{option}: {folder} has the class {unknown[0]} in val or test, but not in train")
    number = {name: i for i, name in enumerate(classes)}
    return Arranged(splits, classes, [number[name] for name in of_each] if classes else None)
