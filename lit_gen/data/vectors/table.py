"""Rows of numbers with named columns, as files hold them: CSV, ``.npz``, ``.npy``, and scikit-learn's own tables."""

import csv
import math
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lit_gen.core.errors import UserError, nearest
from lit_gen.data.images.npz import read_arrays

TEXT, ARRAYS = {".csv": ",", ".tsv": "\t"}, (".npz", ".npy")
"""Ends of names: of text with what separates its cells, and of arrays."""
MOST_TEXT, MOST_ARRAYS = 1 << 30, 8 << 30
"""The most bytes of a file: its rows are kept in memory, as numbers of eight bytes."""
PACKAGED = ("breast_cancer", "diabetes", "iris", "wine")
"""Tables that ship with scikit-learn: nothing is downloaded."""
ROWS = ("vectors", "points", "x", "X", "data", "arr_0")
"""Names of the rows in an ``.npz``; the first that it has is taken."""


class Table(NamedTuple):
    """Rows as they were found."""

    values: np.ndarray
    """float64 (N, D), all finite."""
    columns: list[str]
    """D names; numbers from 0 for a file without names."""
    labels: np.ndarray | None
    """(N,), of any kind."""
    unread: tuple[str, ...] = ()
    """Names of arrays of the file that are neither."""


def packaged(name: str, option: str) -> Table:
    """A table of scikit-learn, in its original units.

    Raises:
        UserError: for another name.
    """
    if name not in PACKAGED:
        known = [f"sklearn:{known}" for known in PACKAGED]
        hint = nearest(f"sklearn:{name}", known)
        raise UserError(f"{option}: {'sklearn:' + name!r} is no table of scikit-learn{hint} ({', '.join(known)})")
    from sklearn import datasets  # a second

    loaded = getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    classes = getattr(loaded, "target_names", None)  # a number is predicted of diabetes, no class
    labels = None if classes is None else np.array([str(c) for c in classes])[loaded.target]
    return Table(np.asarray(loaded.data, dtype=np.float64), [str(c) for c in loaded.feature_names], labels)


def read_table(path: Path, label: str | None, drop: Sequence[str], header: bool | None) -> Table:
    """The rows of a file.

    Args:
        path: a file with one of the ends in `TEXT` or `ARRAYS`.
        label: the column, or the array of an ``.npz``, that holds labels.
        drop: columns that are left out; they may hold anything.
        header: whether text begins with the names of its columns; None: it does if no cell of that row is a number.

    Raises:
        UserError: if it holds anything else than numbers, or too much; says where.
    """
    most = MOST_TEXT if path.suffix.lower() in TEXT else MOST_ARRAYS
    if (size := path.stat().st_size) > most:
        raise UserError(f"{path} has {size:,} bytes, at most {most:,} are read into memory")
    if path.suffix.lower() in TEXT:
        return _read_text(path, label, drop, header)
    if header is not None:
        raise UserError(f"data.header: {path} is no text; leave this option at null")
    return _read_arrays(path, label, drop)


def check_columns(path: object, columns: Sequence[str], option: str, names: Sequence[str]) -> None:
    """Refuse names of columns that there are not.

    Raises:
        UserError: names the first, and the nearest that there is.
    """
    for name in names:
        if name not in columns:
            there = ", ".join([*columns[:8], "..."] if len(columns) > 8 else columns)
            raise UserError(f"{option}: {path} has no column {name!r}{nearest(name, columns)} (it has {there})")


# ---- arrays


def _read_arrays(path: Path, label: str | None, drop: Sequence[str]) -> Table:
    arrays = read_arrays(path)
    if path.suffix.lower() == ".npy":
        arrays = {"vectors": arrays["images"]}
    name = next((name for name in ROWS if name in arrays), None)
    there = ", ".join(map(repr, arrays)) or "nothing"
    if name is None:
        raise UserError(f"{path}: found {there}, rows (N, D) under one of {', '.join(ROWS)} are expected")
    if label is not None and label not in arrays:
        raise UserError(f"data.label: {path} has no array {label!r}{nearest(label, arrays)} (it has {there})")
    labels = arrays.get(label or "labels")
    rows = arrays[name]
    if rows.ndim == 4 and rows.shape[2:] == (1, 1):  # as points are stored
        rows = rows[:, :, 0, 0]
    if rows.ndim != 2 or not rows.size or rows.dtype.kind not in "iuf":
        raise UserError(f"{path}: found {rows.dtype} {arrays[name].shape} under {name!r}, numbers (N, D) are expected")
    if labels is not None and labels.shape != (len(rows),):
        raise UserError(f"{path}: labels {labels.shape} were found, one for each of {len(rows):,} rows is expected")
    columns = [str(i) for i in range(rows.shape[1])]
    check_columns(path, columns, "data.drop", drop)
    kept = [i for i, column in enumerate(columns) if column not in drop]
    values = rows[:, kept].astype(np.float64)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        raise UserError(
            f"{path}: {values[row, column]} was found in row {row}, column {columns[kept[column]]} (counted from 0), a "
            f"finite number is expected"
        )
    unread = tuple(other for other in arrays if other not in (name, label or "labels"))
    return Table(values, [columns[i] for i in kept], labels, unread)


# ---- text


def _read_text(path: Path, label: str | None, drop: Sequence[str], header: bool | None) -> Table:
    lines = _lines(path)
    first_line, first = next(lines, (0, []))
    if not first:
        raise UserError(f"{path} is empty, rows of numbers are expected")
    named = _is_header(path, first) if header is None else header
    columns = [cell.strip() for cell in first] if named else [str(i) for i in range(len(first))]
    if twice := next((c for i, c in enumerate(columns) if c in columns[:i]), None):
        raise UserError(f"{path}, line {first_line}: two columns are called {twice!r}, different names are expected")
    check_columns(path, columns, "data.drop", drop)
    check_columns(path, columns, "data.label", [] if label is None else [label])
    at = None if label is None else columns.index(label)
    kept = [i for i, column in enumerate(columns) if i != at and column not in drop]
    values, labels = array("d"), list[str]()

    def add(line: int, row: list[str]) -> None:
        if len(row) != len(columns):
            raise UserError(f"{path}, line {line}: {len(row)} cells were found, {len(columns)} are expected")
        for i in kept:
            number = _number(row[i])
            if number is None or not math.isfinite(number):
                found = repr(row[i][:40]) if row[i].strip() else "an empty cell"
                raise UserError(
                    f"{path}, line {line}, column {columns[i]}: {found} was found, a finite number is expected; "
                    f"data.label names the column of labels, data.drop those to leave out"
                )
            values.append(number)
        if at is not None:
            if not row[at].strip():
                raise UserError(f"{path}, line {line}, column {label}: an empty cell was found, a label is expected")
            labels.append(row[at].strip())

    if not named:
        add(first_line, first)
    for line, row in lines:
        add(line, row)
    if not kept or not values:
        what = "no column of numbers" if not kept else "no row of numbers"
        raise UserError(f"{path} holds {what}, rows (N, D) are expected")
    rows = np.frombuffer(values, dtype=np.float64).reshape(-1, len(kept))
    return Table(rows, [columns[i] for i in kept], None if at is None else _kind_of(labels))


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the line of the file that it ends in."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=TEXT[path.suffix.lower()], strict=True)
        try:
            for row in reader:
                if row:
                    yield reader.line_num, row
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num}: no row of a CSV ({error})") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is no text in UTF-8 ({error.reason} after line {reader.line_num})") from None


def _is_header(path: Path, row: list[str]) -> bool:
    numbers = [cell for cell in row if _number(cell) is not None]
    if numbers and len(numbers) < len(row):
        text = next(cell for cell in row if _number(cell) is None)
        raise UserError(
            f"data.header: the first row of {path} holds both a number ({numbers[0].strip()[:40]}) and text "
            f"({text[:40]!r}); true (it names the columns) or false is expected"
        )
    return not numbers


def _number(cell: str) -> float | None:
    """A cell as a number, NaN and infinity among them; None for anything else."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _kind_of(labels: list[str]) -> np.ndarray:
    """Labels as whole numbers or as any numbers, if all of them are, else as names."""
    for kind in (np.int64, np.float64):
        try:
            return np.array(labels).astype(kind)
        except (ValueError, OverflowError):
            pass
    return np.array(labels)
