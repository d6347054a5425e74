"""Balls around samples, each reaching to a near neighbor, and which samples lie in one: exactly, and mostly in float32.

Squared distances come from inner products, |a|^2 + |b|^2 - 2 a.b, with a proven bound of their rounding error. Where a
comparison is closer than that bound, the same is done in float64; where that does not decide either, by differences.
So a result depends only on the features: not on blocks, threads or the machine.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lit_gen.metrics.pair import BLOCK, Pair, Products, Side

__all__ = ["inside", "squared_radii"]

SPARE = 6  # neighbors beyond the k-th that are looked at, in case that rounding has changed their order
GROUP = 8  # numbers of which first only the smallest is looked at
TIE = 1e-13  # of a squared distance: what differs less is equal, so that the order of sums decides nothing
Level = Literal["float32", "float64", "differences"]  # what distances are computed from: products, or differences
LEVELS: tuple[Level, ...] = "float32", "float64", "differences"


def squared_radii(side: Side, products: Products, k: int) -> Tensor:
    """|x - x_k|^2 / scale^2 from each sample x to its k-th nearest other one, float64 (n,).

    Args:
        side: the samples, n > k.
        products: of the side with itself.
        k: which neighbor, from 1.
    """
    n = len(side)
    found, sure = side.norms.new_empty(n), torch.zeros(n, dtype=torch.bool)
    norms, error = side.norms.float(), _error(side.norms, side, "float32")
    buffer = torch.full((BLOCK, math.ceil(n / GROUP) * GROUP), torch.inf)
    for i, block in products:
        rows = torch.arange(i, i + len(block))
        # |b|^2 - 2 a.b, without |a|^2, which is the same for the whole row
        torch.sub(norms, block, alpha=2, out=buffer[: len(block), :n])
        found[rows], sure[rows] = _kth(buffer[: len(block)], rows, side, k, error[rows])
    for level in LEVELS[1:]:
        for rows in _blocks(~sure):
            distances, errors = _squared_distances(side, rows, side, level)
            found[rows], sure[rows] = _kth(distances, rows, side, k, errors)
            sure[rows] |= level == "differences"
    return found


def inside(pair: Pair, radii_generated: Tensor, radii_real: Tensor) -> tuple[Tensor, Tensor]:
    """Which samples lie within a ball of the other side, or on its sphere.

    Args:
        pair: n generated and m real samples.
        radii_generated: `squared_radii` of the generated side (n,).
        radii_real: of the real side (m,).

    Returns:
        bool (n,) of the generated, (m,) of the real samples.
    """
    generated, real = pair.generated, pair.real
    reach_generated = (radii_generated - generated.norms).float()[:, None]
    reach_real = (radii_real - real.norms).float()
    best_generated, best_real = [], torch.full((len(real),), -torch.inf)
    buffer = torch.empty(BLOCK, len(real))
    for i, block in pair.between:
        space = buffer[: len(block)]
        best_generated.append(torch.add(reach_real, block, alpha=2, out=space).amax(1))
        best = torch.add(reach_generated[i : i + BLOCK], block, alpha=2, out=space).amax(0)
        torch.maximum(best_real, best, out=best_real)
    return (
        _settle(generated, real, radii_real, torch.cat(best_generated)),
        _settle(real, generated, radii_generated, best_real),
    )


def _settle(points: Side, balls: Side, radii: Tensor, best: Tensor) -> Tensor:
    """Which points are in a ball, where ``best`` is the largest r^2 - |b|^2 + 2 a.b of each in float32."""
    margin, error = best.cpu().double() - points.norms, _error(points.norms, balls, "float32")
    held, unsure = margin > error, margin.abs() <= error
    count = min(SPARE, len(balls))
    for level in LEVELS:
        for rows in _blocks(unsure):
            distances, errors = _squared_distances(points, rows, balls, level)
            if level == "differences":
                held[rows] = (distances <= radii * (1 + TIE)).any(1)
                continue
            margins, places = (radii - distances).topk(count, dim=1)
            within = torch.zeros_like(margins, dtype=torch.bool)
            near = (margins >= -errors[:, None]).nonzero(as_tuple=True)
            within[near] = _exact(points, rows[near[0]], balls, places[near]) <= radii[places[near]] * (1 + TIE)
            held[rows] = within.any(1)
            unsure[rows] = ~held[rows] & (margins[:, -1] >= -errors) & (count < len(balls))
    return held


def _kth(distances: Tensor, rows: Tensor, side: Side, k: int, error: Tensor) -> tuple[Tensor, Tensor]:
    """The exact k-th smallest distance of each row, and whether it surely is.

    Args:
        distances: (b, n or more), changed here: up to a constant of each row and up to ``error``; infinite at the end.
        rows: (b,), which samples the rows belong to.
        side: all samples.
        k: which neighbor.
        error: (b,).
    """
    distances[torch.arange(len(rows)), rows] = torch.inf  # itself
    near, columns = _smallest(distances, min(k + SPARE, len(side)))
    kth, error = near[:, k - 1 : k], 2 * error[:, None]
    below, above = near < kth - error, near > kth + error  # surely nearer, surely farther than the k-th
    exact = torch.where(below, -1.0, torch.inf).cpu().double()
    candidates = (~below & ~above).nonzero(as_tuple=True)
    exact[candidates] = _exact(side, rows[candidates[0]], side, columns[candidates])
    found = exact.kthvalue(k, dim=1).values
    return found, above[:, -1] | (found == 0)


def _smallest(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The smallest numbers of each row in their order and their columns, (b, count) each.

    They lie in the ``count`` groups that have the smallest minima; minima are found many times faster than places.
    """
    b, n = x.shape
    if n % GROUP or n < 4 * GROUP * count:
        found = x.topk(count, dim=1, largest=False)
        return found.values, found.indices
    stride = n // GROUP  # columns j, j + stride, j + 2 stride, ... are a group
    groups = x.view(b, GROUP, stride).amin(1).topk(count, dim=1, largest=False, sorted=False).indices
    columns = (groups[:, None] + stride * torch.arange(GROUP)[:, None]).flatten(1)
    values, places = x.gather(1, columns).topk(count, dim=1, largest=False)
    return values, columns.gather(1, places)


def _blocks(mask: Tensor) -> Sequence[Tensor]:
    """Where the mask is true, at most `BLOCK` places at a time."""
    places = mask.nonzero()[:, 0]
    return places.split(BLOCK) if len(places) else ()


def _exact(a: Side, rows: Tensor, b: Side, columns: Tensor) -> Tensor:
    """The squared distance of row i of ``rows`` to row i of ``columns``, by differences, (len(rows),)."""
    return (a.exact(rows) - b.exact(columns)).square_().sum(1)


def _squared_distances(a: Side, rows: Tensor, b: Side, level: Level) -> tuple[Tensor, Tensor]:
    """All squared distances of some rows, (len(rows), m), and the bound of their error, float64 (len(rows),)."""
    if level == "differences":
        found = torch.cdist(a.exact(rows), b.exact(), compute_mode="donot_use_mm_for_euclid_dist").square_()
        return found, found.new_zeros(len(rows))
    if level == "float32":
        x, y, x_norms, y_norms = a.rows[rows], b.rows, a.norms[rows], b.norms
    else:
        x, y = a.moved(rows), b.moved()
        x_norms, y_norms = x.square().sum(1), y.square().sum(1)
    found = torch.addmm(y_norms.to(x.dtype), x, y.T, alpha=-2).add_(x_norms.to(x.dtype)[:, None])
    return found, _error(x_norms, b, level)


def _error(norms: Tensor, others: Side, level: Level) -> Tensor:
    """The most that rounding changes |a|^2 + |b|^2 - 2 a.b, or r^2 minus that, over all b of ``others``.

    With u the unit roundoff: d u |a| |b| for each product of d terms in any order (Higham, Accuracy and Stability of
    Numerical Algorithms, section 3.1), twice, which is at most d u (|a|^2 + |b|^2), and as much for norms in the same
    type; some u (|a|^2 + |b|^2) for moved features that are rounded, the radii and the sums. Numbers that underflow
    come last.
    """
    d, unit = others.given.shape[1], 2**-24 if level == "float32" else 2**-53
    return (1.1 * (2 * d + 32) * unit + 10 * TIE) * (norms + others.norms.max()) + d * 1e-37
