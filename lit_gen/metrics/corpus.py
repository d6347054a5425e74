"""Metrics of written texts: counts of each text, their sums over a corpus, and one score of the sums.

A score of sums is no mean of the texts' scores, and it is the same however the texts were divided over processes.
"""

import importlib
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lit_gen.core.errors import UserError

Counts = NDArray[np.float64]


class CorpusMetric(Protocol):
    """A number, or a few, of texts that are compared with references."""

    @property
    def name(self) -> str:
        """What an option calls it."""
        ...

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of its numbers."""
        ...

    @property
    def packages(self) -> tuple[str, ...]:
        """Those that compute it, by the names of their distributions."""
        ...

    def counts(self, text: str, references: Sequence[str]) -> Counts:
        """What is added up: float64 (k,) of one text and its references, at least one."""
        ...

    def score(self, counts: Counts) -> dict[str, float]:
        """The numbers by their ``keys``, of the sums (k,) over a corpus of at least one text; see `total`."""
        ...

    def record(self, counts: Counts, numbers: Collection[int]) -> dict[str, Any]:
        """How the numbers came about, as JSON.

        Args:
            counts: the sums (k,).
            numbers: how many references the texts have, each number once is enough.
        """
        ...


def total(rows: Iterable[Sequence[float] | Counts]) -> Counts:
    """The sums (k,) of all texts' counts (n, k), n at least 1: each rounded once, so that no order changes a bit."""
    return np.array([math.fsum(column) for column in zip(*rows, strict=True)], dtype=np.float64)


def imported(module: str, package: str, metric: str) -> Any:
    """A module of a package that only some installations have.

    Args:
        module: its dotted name.
        package: what pip calls the package.
        metric: what needs it, as the message names it.

    Raises:
        UserError: if it is missing.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise UserError(f"{metric} needs the package {package}, which is missing; pip install {package}") from None
