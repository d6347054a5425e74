"""Generated and real features side by side, with the inner products that several metrics need, computed once."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lit_gen.core.modes import one_thread

__all__ = ["Pair", "Products", "Side"]

BLOCK = 512  # rows of a matrix of products at a time: 100 MB for 50,000 columns
KEPT = 400_000_000  # up to this many products are kept, 1.6 GB: 11,500 images on each side
LONG = 256  # features from which on a product costs more than to keep it


@dataclass(frozen=True, eq=False)
class Side:
    """The features of one side, as they are and moved to the origin.

    Attributes:
        given: (n, d) features on the CPU.
        origin: float64 (d,), what is moved to 0.
        scale: a power of two; no moved feature is larger.
    """

    given: Tensor
    origin: Tensor
    scale: float

    def __len__(self) -> int:
        return len(self.given)

    def exact(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """Some rows in float64, divided by `scale`, which changes no bit of their differences."""
        return self.given[rows].cpu().double() * (1 / self.scale)

    def moved(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """Some rows in float64, moved and divided: within [-1, 1], each number rounded once."""
        return (self.given[rows].cpu().double() - self.origin).mul_(1 / self.scale)

    @cached_property
    def rows(self) -> Tensor:
        """All rows as `moved`, float32 (n, d)."""
        rows = torch.empty(self.given.shape)
        for i in range(0, len(self), BLOCK):
            rows[i : i + BLOCK] = self.moved(slice(i, i + BLOCK))
        return rows

    @cached_property
    def norms(self) -> Tensor:
        """|x|^2 of each of `rows`, float64 (n,)."""
        return torch.cat([x.cpu().double().square_().sum(1) for x in self.rows.split(BLOCK)])

    def along(self, direction: Tensor) -> Tensor:
        """The inner product of each row, moved but not divided, with ``direction`` (d,): float64 (n,)."""
        return torch.cat([chunk.cpu().double() @ direction for chunk in self.rows.split(BLOCK)]) * self.scale


class Products:
    """a b^T for a, b float32 (n, d) and (m, d), by blocks of `BLOCK` rows.

    Args:
        a: the rows.
        b: the columns; ``a`` itself for a symmetric matrix, of which half is computed where it is kept.
        keep: hold the whole matrix, computed on one thread, for all who ask.
    """

    def __init__(self, a: Tensor, b: Tensor, keep: bool = False) -> None:
        self.a, self.b = a, b
        self._whole: Tensor | None = self._compute() if keep else None

    def _compute(self) -> Tensor:
        whole = self.a.new_empty(len(self.a), len(self.b))
        with one_thread():
            for i in range(0, len(self.a), BLOCK):
                if self.a is self.b:
                    block = self.a[i : i + BLOCK] @ self.b[i:].T
                    whole[i : i + BLOCK, i:] = block
                    whole[i + BLOCK :, i : i + BLOCK] = block[:, BLOCK:].T
                else:
                    torch.mm(self.a[i : i + BLOCK], self.b.T, out=whole[i : i + BLOCK])
        return whole

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        """The first row of each block, and the block (`BLOCK` or fewer, m): not to be written to."""
        for i in range(0, len(self.a), BLOCK):
            yield i, self.a[i : i + BLOCK] @ self.b.T if self._whole is None else self._whole[i : i + BLOCK]

    def upper(self) -> Iterator[tuple[int, Tensor]]:
        """The same of a symmetric matrix, without the columns left of each block's diagonal."""
        for i in range(0, len(self.a), BLOCK):
            yield i, self.a[i : i + BLOCK] @ self.b[i:].T if self._whole is None else self._whole[i : i + BLOCK, i:]


@dataclass(frozen=True, eq=False)
class Pair:
    """Both sides. Metrics of a pair check its features; everything else is computed when it is first asked for.

    Products are those of features moved so that the real ones' mean is 0, and divided by one power of two: float32
    rounds them least there, and squares do not overflow.

    Attributes:
        generated_features: (n, d).
        real_features: (m, d).
    """

    generated_features: Tensor
    real_features: Tensor

    @cached_property
    def _sides(self) -> tuple[Side, Side]:
        generated, real = self.generated_features.cpu(), self.real_features.cpu()
        with one_thread():
            origin = torch.stack([chunk.cpu().double().sum(0) for chunk in real.split(BLOCK)]).sum(0) / len(real)
        ends = [end.cpu().double() - origin for side in (generated, real) for end in (side.amin(0), side.amax(0))]
        largest = max(float(end.abs().max()) for end in ends)
        scale = 2.0 ** min(math.ceil(math.log2(largest)), 1000) if largest else 1.0
        return Side(generated, origin, scale), Side(real, origin, scale)

    @property
    def generated(self) -> Side:
        """The generated side."""
        return self._sides[0]

    @property
    def real(self) -> Side:
        """The real side."""
        return self._sides[1]

    @property
    def keeps(self) -> bool:
        """Whether products are kept: where they are worth it, and the sets are small enough."""
        (n, d), m = self.generated_features.shape, len(self.real_features)
        return d >= LONG and n * n + m * m + n * m <= KEPT

    @cached_property
    def within_generated(self) -> Products:
        """Of generated with generated ones."""
        return Products(self.generated.rows, self.generated.rows, self.keeps)

    @cached_property
    def within_real(self) -> Products:
        """Of real with real ones."""
        return Products(self.real.rows, self.real.rows, self.keeps)

    @cached_property
    def between(self) -> Products:
        """Of generated (rows) with real ones (columns)."""
        return Products(self.generated.rows, self.real.rows, self.keeps)
