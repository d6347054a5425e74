"""Pairs on disk: two folders, pictures that are two side by side, an ``.npz``."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lit_gen.core.cache import read_npz
from lit_gen.core.errors import UserError, nearest
from lit_gen.data.images.decode import read_levels
from lit_gen.data.images.files import image_walk
from lit_gen.data.images.labels import numbered
from lit_gen.data.images.pixels import Levels
from lit_gen.data.images.tree import arrange
from lit_gen.data.walk import passed_over
from lit_gen.protocols.data import Split


class Side(NamedTuple):
    """One image of a pair."""

    pixels: np.ndarray
    """uint8 or uint16 (C, H, W)."""
    where: str
    """What messages call it."""


class Found(NamedTuple):
    """Pairs that are read one by one."""

    name: str
    splits: list[Split]
    """Of each pair; all train where no folder says."""
    labels: list[int] | None
    classes: Sequence[str]
    read: Callable[[int], tuple[Side, Side]]
    """A and B of a pair, by its number; threads may share it."""
    masks: np.ndarray | None = None
    """bool (N, 1, h, w), true where A has a hole."""
    said: Sequence[str] = ()
    """Sentences about what was found."""


def two_folders(first: Path, second: Path, levels: Levels) -> Found:
    """Pictures whose paths below two folders are the same without their suffix: A in the first, B in the second.

    Raises:
        UserError: if one has no partner, or two have the same name.
    """
    walks = [image_walk(folder, option) for folder, option in ((first, "data.source"), (second, "data.target"))]
    sides = [_by_stem(walk.names, walk.folder) for walk in walks]
    for (here, there), folder, other in (
        (sides, walks[0].folder, walks[1].folder),
        (sides[::-1], walks[1].folder, walks[0].folder),
    ):
        if alone := [name for stem, name in here.items() if stem not in there]:
            others = len(alone) - 1
            more = f", nor {'has 1 other' if others == 1 else f'have {others:,} others'}" if others else ""
            raise UserError(
                f"data.target: {folder / alone[0]} has no partner of the same name in {other}{more} (data.source holds "
                f"{len(sides[0]):,} pictures, data.target {len(sides[1]):,})"
            )
    stems = list(sides[0])
    arranged = arrange([sides[0][stem] for stem in stems], first, "data.source")

    def read(number: int) -> tuple[Side, Side]:
        a, b = first / sides[0][stems[number]], second / sides[1][stems[number]]
        return Side(read_levels(a, levels), str(a)), Side(read_levels(b, levels), str(b))

    passed = passed_over(walks).removeprefix("; ")
    name = f"{first.name} to {second.name}"
    return Found(name, arranged.splits, arranged.labels, arranged.classes, read, None, [passed] * bool(passed))


def halves(folder: Path, levels: Levels) -> Found:
    """Pictures whose left half is A and whose right half is B."""
    walk = image_walk(folder, "data.source")
    if {name.partition("/")[0].upper() for name in walk.names} == {"A", "B"}:
        a, b = (folder / name for name in sorted({name.partition("/")[0] for name in walk.names}))
        raise UserError(f"data.source: {folder} holds the folders of A and of B; {a} is expected, and data.target {b}")
    arranged = arrange(walk.names, folder, "data.source")

    def read(number: int) -> tuple[Side, Side]:
        path = folder / walk.names[number]
        pixels = read_levels(path, levels)
        width = pixels.shape[2]
        if width % 2:
            raise UserError(f"{path} is {width} pixels wide, which are not two halves; an even number is expected")
        a, b = pixels[:, :, : width // 2], pixels[:, :, width // 2 :]
        return Side(a, f"the left half of {path}"), Side(b, f"the right half of {path}")

    passed = passed_over([walk]).removeprefix("; ")
    return Found(folder.name, arranged.splits, arranged.labels, arranged.classes, read, None, [passed] * bool(passed))


def arrays(path: Path, levels: Levels) -> Found:
    """Pairs of an ``.npz`` with ``source`` (A), ``target`` (B), and perhaps ``mask`` and ``labels``.

    Raises:
        UserError: if an array is missing or of another layout.
    """
    found = read_npz(path)
    for name in ("source", "target"):
        if name not in found:
            there = ", ".join(map(repr, found)) or "nothing"
            hint = nearest(name, found).replace("did you mean", "is it")
            raise UserError(f"{path}: found {there}, but no array {name!r}, which is expected{hint}")
    first, second = (_channels_first(found[name], path, name, levels) for name in ("source", "target"))
    count = len(first)
    labels, classes, said = None, list[str](), list[str]()
    if "labels" in found:
        numbers, classes, sentence = numbered(found["labels"], str(path))
        labels, said = numbers.tolist(), [sentence] * bool(sentence)
    masks = _masks(found["mask"], first.shape, path) if "mask" in found else None
    for name, number in (("target", len(second)), ("labels", count if labels is None else len(labels))):
        if number != count:
            raise UserError(f"{path}: {number:,} rows of {name!r} were found, {count:,} are expected, as 'source' has")

    def read(number: int) -> tuple[Side, Side]:
        return Side(first[number], f"{path}, source {number}"), Side(second[number], f"{path}, target {number}")

    return Found(path.stem, ["train"] * count, labels, classes, read, masks, said)


def _by_stem(names: list[str], folder: Path) -> dict[str, str]:
    """Paths by what they are without their suffix."""
    found: dict[str, str] = {}
    for name in names:
        stem = name.rpartition(".")[0]
        if stem in found:
            raise UserError(f"{folder} holds {found[stem]} and {name}, one picture of a name is expected")
        found[stem] = name
    return found


def _channels_first(array: np.ndarray, path: Path, name: str, levels: Levels) -> np.ndarray:
    """uint8 or uint16 (N, C, H, W); of four axes the shorter of the second and the last is the channels."""
    if array.ndim not in (3, 4) or not array.size:
        expected = "(N, H, W), (N, H, W, C) or (N, C, H, W) is expected"
        raise UserError(f"{path}: found {array.dtype} {array.shape} under {name!r}; {expected}")
    if array.dtype != np.uint16:
        array = levels.of_array(array, f"{path}, {name}", len(array))
    if array.ndim == 3:
        return array[:, None]
    return array.transpose(0, 3, 1, 2) if array.shape[3] < array.shape[1] else array


def _masks(array: np.ndarray, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """Bool (N, 1, h, w)."""
    wanted = (shape[0], 1, *shape[2:])
    if array.size != shape[0] * shape[2] * shape[3] or array.shape[0] != shape[0]:
        raise UserError(f"{path}: found a mask {array.shape}, {wanted} is expected, one for each source")
    kinds = np.unique(array)
    if array.dtype.kind not in "biuf" or not (set(kinds.tolist()) <= {0, 1} or set(kinds.tolist()) <= {0, 255}):
        raise UserError(
            f"{path}: a mask of 0 and 1 is expected, {array.dtype} from {kinds[0]} to {kinds[-1]} was found"
        )
    masks: np.ndarray = (array != 0).reshape(wanted)
    if whole := np.flatnonzero(masks.reshape(len(masks), -1).all(1)).tolist():
        raise UserError(f"{path}: the mask of row {whole[0]} hides the whole image")
    return masks
