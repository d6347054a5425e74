"""Metrics of nearest neighbors: are generated images among the real ones, are all real ones reached, are they copies.

Distances are Euclidean, between features. The matrix of all of them would not fit for large sets (50,000 x 50,000 are
20 GB in float64), so it is never held at once.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.metrics.balls import inside, squared_radii
from lit_gen.metrics.frechet import check_sets
from lit_gen.metrics.pair import Pair

__all__ = [
    "DensityCoverage",
    "PrecisionRecall",
    "density_coverage",
    "memorization_ratio",
    "pair_precision_recall",
    "precision_recall",
]

PRECISION_NEIGHBORS, COVERAGE_NEIGHBORS = 3, 5  # the papers'
BLOCK = 512  # rows of a matrix of distances at a time: 200 MB for 50,000 columns


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]."""

    precision: float
    """Of the generated samples, those within the real ones' reach: fidelity."""
    recall: float
    """Of the real samples, those within the generated ones' reach: diversity."""


class DensityCoverage(NamedTuple):
    """Both are about 1 if generated and real samples have the same distribution."""

    density: float
    """The mean number of real samples whose reach holds a generated one, divided by k; may exceed 1: fidelity."""
    coverage: float
    """Share in [0, 1] of the real samples with a generated one within reach: diversity.

    About 1 - 2^-k for the same number of samples of the real distribution.
    """


def precision_recall(generated: Tensor, real: Tensor, k: int = PRECISION_NEIGHBORS) -> PrecisionRecall:
    """Shares of the samples within the other side's balls; a ball reaches from a sample to its k-th nearest neighbor.

    Kynkäänniemi et al., 2019, https://arxiv.org/abs/1904.06991. A sample on a sphere is inside. Every comparison is
    exact, wherever the features are, so that nothing but them decides. torch-fidelity prints the same numbers for
    features near zero; its distances are float32, and wrong far from it.

    Args:
        generated: (n, d) features, n > k.
        real: (m, d) features, m > k.
        k: which neighbor a ball reaches, among the others of its side.

    Raises:
        UserError: for k < 1 or too large, and as `check_sets`.
    """
    return pair_precision_recall(Pair(generated, real), k)


def pair_precision_recall(pair: Pair, k: int = PRECISION_NEIGHBORS) -> PrecisionRecall:
    """`precision_recall` of a pair, whose products other metrics may have computed already."""
    _check(pair.generated_features, pair.real_features, k)
    radii_generated = squared_radii(pair.generated, pair.within_generated, k)
    radii_real = squared_radii(pair.real, pair.within_real, k)
    # float32 shares, as that tool prints them
    return PrecisionRecall(*(float(held.float().mean()) for held in inside(pair, radii_generated, radii_real)))


def density_coverage(generated: Tensor, real: Tensor, k: int = COVERAGE_NEIGHBORS) -> DensityCoverage:
    """Precision and recall made robust: only the real samples have balls, and all balls that hold a sample count.

    Naeem et al., 2020, https://arxiv.org/abs/2002.09797, with NND_k(x) from a real x_i to its k-th nearest other x:

        density = 1 / (k n) sum_j sum_i [|y_j - x_i| < NND_k(x_i)]
        coverage = 1 / m sum_i [any j: |y_j - x_i| < NND_k(x_i)]

    A sample on a sphere is outside, as in the authors' code: the real set itself has a density of exactly 1.

    Args:
        generated: y, (n, d) features, n > k.
        real: x, (m, d) features, m > k.
        k: which neighbor a ball reaches.

    Raises:
        UserError: for k < 1 or too large, and as `check_sets`.
    """
    _check(generated, real, k)
    y, x = _centered(generated, real)
    # a copy of a real sample lies on the spheres that end there; rounding must not put it inside some of them
    slack = 1e-12 * max(_squared_norms(y).max(), _squared_norms(x).max())
    held, reached = 0, 0
    for rows in x.split(BLOCK):
        radii = _squared_distances(rows, x).kthvalue(k + 1, dim=1, keepdim=True).values  # the first is x_i itself
        inside = _squared_distances(rows, y) < radii - slack  # (block, n)
        held += int(inside.sum())
        reached += int(inside.any(1).sum())
    return DensityCoverage(held / (k * len(y)), reached / len(x))


def memorization_ratio(generated: Tensor, train: Tensor, held_out: Tensor) -> float:
    """Are generated images nearer to the training set than fresh real images are?

    With d(x, S) the distance from x to the nearest other element of S, the median over generated images g of
    d(g, train) / d(g, held_out), divided by the median over held-out images h of d(h, train) / d(h, held_out). The
    division makes up for sets of different sizes. The three-sample comparison is that of Meehan et al., 2020,
    https://arxiv.org/abs/2004.05675.

    About 1: generated images relate to the training set as fresh images do. Towards 0: they are copies of training
    images. A median does not show copies in less than half of the images. Images unlike both sets are equally far
    from both, which hides a larger training set: look at precision too.

    Args:
        generated: (n, d) features, n >= 2.
        train: (m, d) features, m >= 2, of the images that the generator was trained on.
        held_out: (l, d) features, l >= 2, of real images that it has never seen.

    Returns:
        A ratio in [0, inf]: infinite if more than half of the generated images are exact copies of held-out ones. An
        exact copy of both a training and a held-out image counts as equally near to both.

    Raises:
        UserError: if half of the held-out images or more are exact copies of training images or of each other, which
            leaves nothing to compare with, and as `check_sets`.
    """
    check_sets(2, generated=generated, train=train, held_out=held_out)
    g, h, t = _centered(generated, held_out, train)
    fresh = _median_ratio(_nearest(h, t), _nearest(h, h, itself=False))
    if not 0 < fresh < float("inf"):
        raise UserError(
            f"of {len(h)} held-out images most have an exact copy in "
            f"{'the training set' if fresh == 0 else 'their own set'}, expected images that the training has not seen"
        )
    return _median_ratio(_nearest(g, t), _nearest(g, h)) / fresh


def _check(generated: Tensor, real: Tensor, k: int) -> None:
    check_sets(0, generated=generated, real=real)
    if not 1 <= k < min(len(generated), len(real)):
        raise UserError(
            f"found k = {k} with {len(generated)} generated and {len(real)} real samples, expected 1 or more, and more "
            f"than k samples on each side"
        )


def _centered(*sets: Tensor) -> list[Tensor]:
    """The sets in float64 on the host, moved so that the last one's mean is 0: squares of small numbers round less."""
    doubled = [features.cpu().double() for features in sets]
    mean = doubled[-1].mean(0)
    return [features - mean for features in doubled]


def _squared_distances(rows: Tensor, others: Tensor) -> Tensor:
    """|a - b|^2 = |a|^2 + |b|^2 - 2 a . b, (len(rows), len(others)): many times faster than differences, and inexact.

    The error is about 1e-15 of |a|^2 + |b|^2 for any distance: the distance of equal rows is not exactly 0.
    """
    return torch.addmm(_squared_norms(others), rows, others.T, alpha=-2).add_(_squared_norms(rows)[:, None])


def _squared_norms(x: Tensor) -> Tensor:
    return torch.einsum("nd,nd->n", x, x)  # makes no copy of x


def _nearest(points: Tensor, others: Tensor, itself: bool = True) -> Tensor:
    """The distance from each of ``points`` to the nearest of ``others``, (n,), exactly 0 for a copy.

    ``itself=False`` is for ``others`` that are ``points``: the nearest one in another row.
    """
    distances = []
    for block, rows in enumerate(points.split(BLOCK)):
        squared = _squared_distances(rows, others)
        if not itself:
            squared.diagonal(block * BLOCK).fill_(float("inf"))
        distances.append((rows - others[squared.argmin(1)]).norm(dim=1))  # now exact
    return torch.cat(distances)


def _median_ratio(to_train: Tensor, to_held_out: Tensor) -> float:
    ratios = to_train / to_held_out  # 0, or infinite, for copies
    ratios[ratios.isnan()] = 1.0  # 0 / 0: a copy of both
    return float(ratios.median())
