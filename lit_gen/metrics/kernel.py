"""The kernel distance between two sets of features, KID if the features are Inception's."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.core.modes import one_thread
from lit_gen.core.randomness import numpys
from lit_gen.metrics.frechet import check_sets
from lit_gen.metrics.pair import BLOCK, Pair, Products

__all__ = ["Kernel", "kernel_distance", "pair_kernel_distance"]

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020  # as in torch-fidelity


class Kernel(NamedTuple):
    """The squared maximum mean discrepancy over random subsets."""

    mean: float
    """Mean over subsets: unbiased, so about 0 and possibly negative for samples of one law."""
    std: float | None
    """Standard deviation over subsets (n in the denominator), a spread of subsets, not the error of `mean`; None if
    a subset is the whole of both sides, so that there is only one."""
    subset_size: int
    """Samples of each side in a subset, as it was used."""


def kernel_distance(generated: Tensor, real: Tensor, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE) -> Kernel:
    """Unbiased estimate of E k(x, x') + E k(y, y') - 2 E k(x, y) with k(x, y) = (x . y / d + 1)^3.

    Bińkowski et al., 2018, https://arxiv.org/abs/1801.01401. The random subsets are those of torch-fidelity, and the
    result is what that tool finds for the same features in float64. These subsets depend on the order of the rows.

    Args:
        generated: (n, d) features, n >= 2.
        real: (m, d) features, m >= 2.
        subsets: how many random subsets, drawn without replacement from each side.
        subset_size: their size; if one side has fewer samples, that number is taken.

    Returns:
        Mean and spread over the subsets.

    Raises:
        UserError: for fewer than 1 subset or 2 samples in it, and as `check_sets`.
    """
    return pair_kernel_distance(Pair(generated, real), subsets, subset_size)


def pair_kernel_distance(pair: Pair, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE) -> Kernel:
    """`kernel_distance` of a pair, whose products other metrics may have computed already."""
    if subsets < 1 or subset_size < 2:
        raise UserError(f"found {subsets} subsets of {subset_size} samples, expected at least 1 subset of 2 samples")
    check_sets(2, generated=pair.generated_features, real=pair.real_features)
    n, m = len(pair.generated), len(pair.real)
    size = min(subset_size, n, m)
    draws = numpys(SEED)
    chosen = [tuple(draws.choice(count, size, replace=False) for count in (n, m)) for _ in range(subsets)]
    with one_thread():
        cube = _Cube.of(pair)
        if 2 * (n * n + m * m + n * m) <= 9 * subsets * size**2:  # a product belongs to a subset or more
            x, y = (_members(rows, count) for rows, count in zip(zip(*chosen, strict=True), (n, m), strict=True))
            sums = cube.sums(pair.within_generated, pair.within_real, pair.between, x, y)
        else:
            sums = torch.cat([cube.of_subset(pair, *map(torch.from_numpy, rows)) for rows in chosen])
    within_x, within_y, between = sums.T
    found = (within_x + within_y) / (size * (size - 1)) - 2 * between / size**2
    spread = None if n == m == size else float(found.std(correction=0))
    return Kernel(float(found.mean()), spread, size)


def _members(subsets: Sequence[np.ndarray], count: int) -> Tensor:
    """1 where a sample is in a subset, float32 (subsets, count)."""
    members = torch.zeros(len(subsets), count)
    return members.scatter_(1, torch.from_numpy(np.stack(subsets)), 1.0)


class _Cube(NamedTuple):
    """k(a, b) less what cancels in the distance, so that little of what float32 holds is common to all pairs.

    With c the mean of the real features, g = (a - c) . (b - c) / d, e_a = (a - c) . c / d, q = c . c / d + 1 and
    u = g + e_a + e_b, the kernel is (q + u)^3 = q^3 + 3 q^2 (e_a + e_b) + 3 q^2 g + (3 q + u) u^2. Terms that depend
    on one of both samples cancel, since each is as often within as between: 3 q^2 g + f(u) - f(e_a) - f(e_b) remains,
    with f(u) = (3 q + u) u^2.
    """

    q: float
    """Divided by `unit`, like all that follows."""
    gamma: float
    """What makes g of a product."""
    x: Tensor
    """e of the generated samples, float32 (n,)."""
    y: Tensor
    """e of the real samples, float32 (m,)."""
    unit: float
    """At least q and the largest g, so that nothing overflows."""

    @classmethod
    def of(cls, pair: Pair) -> "_Cube":
        c, scale = pair.real.origin, pair.real.scale
        q = float(c @ c) / len(c) + 1
        unit = max(q, scale**2)
        x, y = ((side.along(c) / (len(c) * unit)).float() for side in (pair.generated, pair.real))
        return cls(q / unit, scale**2 / (len(c) * unit), x, y, unit)

    def of_subset(self, pair: Pair, rows: Tensor, columns: Tensor) -> Tensor:
        """`sums` of one subset by itself, float64 (1, 3)."""
        x, y, all_ = pair.generated.rows[rows], pair.real.rows[columns], torch.ones(1, len(rows))
        cube = self._replace(x=self.x[rows], y=self.y[columns])
        return cube.sums(Products(x, x), Products(y, y), Products(x, y), all_, all_)

    def sums(self, xx: Products, yy: Products, xy: Products, in_x: Tensor, in_y: Tensor) -> Tensor:
        """Of each subset, the sums over generated pairs, real pairs and pairs of both, float64 (subsets, 3)."""
        within = [self._within(xx, self.x, in_x), self._within(yy, self.y, in_y)]
        totals, space = _zeros(in_y), self._space(self.y)
        for i, block in xy:
            totals += in_x[:, i : i + BLOCK] @ self._kernel(block, self.x[i : i + BLOCK], self.y, space)
        return torch.stack([*within, (totals * in_y).sum(1)], 1) * self.unit**3

    def _within(self, products: Products, e: Tensor, members: Tensor) -> Tensor:
        """Over all pairs of different samples; those right of the block's own columns stand for two."""
        totals, space = _zeros(members), self._space(e)
        for i, block in products.upper():
            kernel = self._kernel(block, e[i : i + BLOCK], e[i:], space)
            kernel.diagonal().zero_()
            found = members[:, i : i + BLOCK] @ kernel
            totals[:, i : i + BLOCK] += found[:, :BLOCK]
            totals[:, i + BLOCK :].add_(found[:, BLOCK:], alpha=2)
        return (totals * members).sum(1)

    def _space(self, e: Tensor) -> Tensor:
        return torch.empty(2, BLOCK * len(e))

    def _kernel(self, products: Tensor, e_rows: Tensor, e_columns: Tensor, space: Tensor) -> Tensor:
        u: Tensor
        k: Tensor
        u, k = space[:, : products.numel()].view(2, *products.shape)
        torch.add(e_columns, products, alpha=self.gamma, out=u).add_(e_rows[:, None])
        torch.add(u, 3 * self.q, out=k).mul_(u).mul_(u)
        k.add_(products, alpha=3 * self.q**2 * self.gamma)
        k.sub_(self._alone(e_columns)).sub_(self._alone(e_rows)[:, None])
        return k

    def _alone(self, e: Tensor) -> Tensor:
        return (3 * self.q + e) * e * e


def _zeros(members: Tensor) -> Tensor:
    return torch.zeros_like(members).cpu().double()
