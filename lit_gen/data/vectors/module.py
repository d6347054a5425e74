"""Real-valued rows as a data set: densities of tables."""

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from lit_gen.core.cache import hash_of_tensors
from lit_gen.core.errors import UserError, nearest, note
from lit_gen.data.images.labels import check_classes, numbered
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.module import ImageData, stratified
from lit_gen.data.images.toy import refuse_sides
from lit_gen.data.vectors.table import ARRAYS, PACKAGED, TEXT, Table, check_columns, packaged, read_table
from lit_gen.protocols.data import Split

FEW, OF = 10, 100
"""A column with at most so many different values, of a training split with at least so many rows, is pointed out."""


class Vectors(ImageData):
    """Rows of D real numbers, as "images" of shape (D, 1, 1).

    A ``.csv`` or ``.tsv`` has a row in each line, with or without a first one of names. An ``.npz`` holds ``vectors``,
    ``points``, ``x``, ``X``, ``data`` or ``arr_0`` (N, D), and perhaps ``labels`` (N,); a ``.npy`` holds only rows.
    ``sklearn:iris``, ``sklearn:wine``, ``sklearn:breast_cancer`` and ``sklearn:diabetes`` ship with scikit-learn.

    Args:
        source: path of the file, or ``sklearn:NAME``.
        label: the column of text, or the array of an ``.npz``, that holds labels: whole numbers or names; null:
            ``labels`` of an ``.npz``, else none.
        drop: columns that are left out, by name or, where they have none, by number from 0.
        header: whether text begins with a row of names; null: if no cell of its first row is a number.
        standardize: subtract each column's mean over the training split and divide by its standard deviation.
        val_size: how many rows are held out: the last ones of each class, or without labels the last ones.
        test_size: how many further rows are held out for the test split.
        classes: the names that the classes must have, in the order of their numbers; null: any.
        **images: see `ImageData`; flip and pad do not apply.

    Attributes:
        columns: names of the D columns.
        mean: float64 (D,), what was subtracted: zeros without ``standardize``.
        scale: float64 (D,), what was divided by: ones without ``standardize``.
        log_scale: the sum of log ``scale``, in nats. log p(row in its own units) = log p(row as it is read) - this.

    Raises:
        UserError: if the file is missing, damaged, too large or no table of numbers, or a column is constant.
    """

    levels = None
    items = "rows"

    def __init__(
        self,
        source: str,
        label: str | None = None,
        drop: list[str] | None = None,
        header: bool | None = None,
        standardize: bool = False,
        val_size: int = 0,
        test_size: int = 0,
        classes: list[str] | None = None,
        **images: Any,
    ) -> None:
        super().__init__(**images)
        refuse_sides(self)
        self.source, self.label, self.drop, self.header = source, label, list(drop or []), header
        self.standardize, self.val_size, self.test_size = standardize, val_size, test_size
        table, self.name = self._read()
        self.columns, self._labels = table.columns, None
        if table.labels is not None:
            found, self.classes, self._numbered = numbered(table.labels, source)
            self._labels, self.num_classes = torch.from_numpy(found), len(self.classes)
        check_classes(classes, self.classes, source)
        self.shape = (len(table.columns), 1, 1)
        self._rows = self._split_rows(len(table.values))
        self.mean, self.scale = np.zeros(len(table.columns)), np.ones(len(table.columns))
        self._examine(table.values[self._rows["train"].numpy()])
        if table.unread:
            self._said.append(f"{source}: not read: {', '.join(table.unread)}; data.label names an array of labels")
        with np.errstate(over="ignore"):  # refused in a sentence below
            self._values = torch.from_numpy(((table.values - self.mean) / self.scale).astype(np.float32))
        self._check_float32(table.values)
        self.log_scale = math.fsum(np.log(self.scale).tolist())

    def prepare_data(self) -> None:
        """Says what was found."""
        said = f"{self.source}: {len(self._values):,} rows of {len(self.columns):,} columns"
        if self._labels is not None:
            counts = torch.bincount(self._labels).tolist()
            said += f", {len(counts):,} {'class' if len(counts) == 1 else 'classes'} of {min(counts):,} to "
            said += f"{max(counts):,} rows"
        for sentence in [said, *self._said]:
            rank_zero_only(note)(sentence)

    def facts(self) -> dict[str, Any]:
        """See `ImageData`; and whether the rows are ``standardized``."""
        return super().facts() | {"standardized": self.standardize}

    def content(self) -> str:
        """SHA-256 of rows and labels, as they are read."""
        return self._sha256

    @functools.cached_property
    def _sha256(self) -> str:
        labels = {} if self._labels is None else {"labels": self._labels}
        return hash_of_tensors({"vectors": self._values} | labels)

    def load(self, split: Split) -> ImageSet:
        """A split, float32 (N, D, 1, 1); the three never overlap."""
        rows = self._rows[split]
        return ImageSet(self._values[rows][:, :, None, None], None if self._labels is None else self._labels[rows])

    @property
    def protocol(self) -> dict[str, Any]:
        """What a record of numbers says of the set."""
        units = "standardized by the training split" if self.standardize else "as in the source"
        return {
            "data": self.name,
            "sha256": self.content(),
            "columns": list(self.columns),
            "rows": {split: len(rows) for split, rows in self._rows.items()},
            "units": units,
            "log_scale": self.log_scale,
        }

    # ---- reading

    def _read(self) -> tuple[Table, str]:
        """The table and its name."""
        kind, colon, name = self.source.partition(":")
        if colon and kind == "sklearn":
            for option, value in (("label", self.label), ("header", self.header)):
                if value is not None:
                    raise UserError(f"data.{option}: {self.source} is known; leave this option at null")
            table = packaged(name, "data.source")
            check_columns(self.source, table.columns, "data.drop", self.drop)
            kept = [i for i, column in enumerate(table.columns) if column not in self.drop]
            if not kept:
                raise UserError(f"data.drop: all columns of {self.source} were named, at least one is expected to stay")
            return Table(table.values[:, kept], [table.columns[i] for i in kept], table.labels), name
        path = Path(self.source).expanduser()
        path = path if path.is_file() else self.root / self.source
        ends = (*TEXT, *ARRAYS)
        if not path.is_file():
            near = [p.name for folder in {Path(self.source).expanduser().parent, path.parent} for p in _files(folder)]
            hint = nearest(path.name, near) or nearest(f"sklearn:{self.source}", [f"sklearn:{n}" for n in PACKAGED])
            raise UserError(f"data.source: {self.source} was not found, here or under {self.root}{hint}")
        if path.suffix.lower() not in ends:
            raise UserError(f"data.source: {path} was found, a file that ends in one of {', '.join(ends)} is expected")
        return read_table(path, self.label, self.drop, self.header), path.stem

    def _split_rows(self, count: int) -> dict[Split, Tensor]:
        held_out = self.val_size + self.test_size
        if min(self.val_size, self.test_size) < 0 or held_out > count - 2:
            raise UserError(
                f"data.val_size and data.test_size hold out {held_out} of {count} rows; at least 2 are expected to be "
                f"left for training"
            )
        labels = torch.zeros(count, dtype=torch.int64) if self._labels is None else self._labels
        rest, test = stratified(labels, self.test_size, "data.test_size", self.classes, "row")
        train, val = stratified(labels[rest], self.val_size, "data.val_size", self.classes, "row")
        return {"train": rest[train], "val": rest[val], "test": test}

    # ---- columns

    def _examine(self, train: np.ndarray) -> None:
        """Find what makes a density of the training rows impossible or doubtful, and their means and deviations."""
        self._said = [self._numbered] if self._labels is not None and self._numbered else []
        self._refuse_constant(train, "")
        if self.standardize:
            self.mean, self.scale = train.mean(axis=0), train.std(axis=0)
        if len(train) >= OF:
            few = [c for c, values in zip(self.columns, train[: 100 * OF].T, strict=True) if len(set(values)) <= FEW]
            if few:
                self._said.append(
                    f"{self.source}: at most {FEW} different values were found in {_listed(few)}: a density of such "
                    f"columns can grow without bound; data.drop leaves them out"
                )

    def _refuse_constant(self, rows: np.ndarray, hint: str) -> None:
        constant = [c for c, least, most in zip(self.columns, rows.min(0), rows.max(0), strict=True) if least == most]
        if constant:
            raise UserError(
                f"data.source: {self.source} has the same value in all {len(rows):,} training rows of "
                f"{_listed(constant)}, which has no density{hint or '; data.drop leaves columns out'}"
            )

    def _check_float32(self, values: np.ndarray) -> None:
        """Refuse numbers beyond float32, and say where it rounds the differences between rows away."""
        standard = "; data.standardize true keeps the differences"
        bad = (~self._values.isfinite()).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            raise UserError(
                f"{self.source}: {values[row, column]} in column {self.columns[column]} is beyond float32, whose "
                f"numbers reach 3.4e38"
            )
        train = self._values[self._rows["train"]].numpy()
        self._refuse_constant(train, f" in float32{standard}")
        rounding = np.abs(train).max(axis=0) * 2.0**-24 / train.astype(np.float64).std(axis=0)
        coarse = [c for c, share in zip(self.columns, rounding, strict=True) if share > 1e-3]
        if coarse:
            self._said.append(
                f"{self.source}: float32 rounds {_listed(coarse)} by more than 1/1000 of their deviation{standard}"
            )


def _listed(columns: list[str]) -> str:
    shown = ", ".join(columns[:5])
    return f"column{'s' * (len(columns) > 1)} {shown}" + (f" and {len(columns) - 5} more" if len(columns) > 5 else "")


def _files(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.suffix.lower() in (*TEXT, *ARRAYS)] if folder.is_dir() else []
