"""The Fréchet distance between two sets of features; FID if the features are Inception's.

Each set is summarized by a `Gaussian`, made of all features at once or, for sets too large to keep, of the sums in
`Moments`. The distance needs only that, so a data set's Gaussian can be computed once and stored.

All arithmetic is in float64 on the host: the trace term is a small difference of large numbers.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.core.modes import one_thread

__all__ = ["Gaussian", "Moments", "check_features", "check_sets", "few_samples", "frechet_distance"]

CHUNK = 8192  # rows in float64 at a time: 134 MB at d = 2048
BLOCK = 512  # rows of a covariance at a time


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean and covariance of a set of features."""

    mean: Tensor
    """float64 (d,) on the CPU."""
    covariance: Tensor
    """float64 (d, d) on the CPU, symmetric; of n samples, with n - 1 in the denominator."""
    count: int | None = None
    """The number of samples n, or None for statistics published without it."""

    @classmethod
    def of(cls, features: Tensor) -> "Gaussian":
        """Mean and covariance in two passes over ``features`` (n, d), n >= 2; on one thread.

        Raises:
            UserError: as `check_features`.
        """
        check_features(features, least=2)
        n, d = features.shape
        mean, covariance = _zeros(d), _zeros(d, d)
        for chunk in features.split(CHUNK):
            mean += chunk.cpu().double().sum(0) / n
        with one_thread():
            for chunk in features.split(CHUNK):
                centered = chunk.cpu().double() - mean
                for i in range(0, d, BLOCK):  # the upper half, for the lower one is equal
                    columns = centered[:, i : i + BLOCK]
                    covariance[i : i + BLOCK, i:].addmm_(columns.T, centered[:, i:], alpha=1 / (n - 1))
            for i in range(0, d, BLOCK):
                covariance[i + BLOCK :, i : i + BLOCK] = covariance[i : i + BLOCK, i + BLOCK :].T
        return cls(mean, covariance, n)

    @cached_property
    def factor(self) -> Tensor:
        """R, (d, d), with R R^T = covariance.

        By Cholesky, a second at d = 2048. If the covariance is singular (too few samples, or features that never vary)
        it comes from the eigenvectors, which takes many times longer.
        """
        r: Tensor
        with one_thread():
            r, failed = torch.linalg.cholesky_ex(self.covariance)
            if failed:
                w, v = torch.linalg.eigh(self.covariance)
                r = v * w.clamp_min(0).sqrt()  # rounding makes zeros slightly negative
        return r


class Moments:
    """Sums over a stream of features, for sets too large to keep: one tensor to add up over processes.

    Uncentered sums lose little in float64: features whose mean is 10,000 times their standard deviation give the
    distance to 1e-5 relative.

    Args:
        dim: the number of features d.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.flat = _zeros(1 + dim + dim * dim)
        """float64 (1 + d + d * d,): the count, the sum of x, the sum of x x^T. Sums over parts are sums of these."""

    @classmethod
    def from_flat(cls, flat: Tensor) -> "Moments":
        """The state whose `flat` this is, as it comes back from an all-reduce."""
        moments = cls(int((flat.numel() - 1) ** 0.5))  # d^2 <= d + d^2 < (d + 1)^2
        assert moments.flat.shape == flat.shape, f"no state of sums: {tuple(flat.shape)}"
        moments.flat = flat.cpu().double()
        return moments

    def add(self, features: Tensor) -> None:
        """Add ``features`` (n, d), any n; numbers that are not finite show in the sums, which others may wait for.

        Raises:
            UserError: for another d.
        """
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise UserError(f"found features {tuple(features.shape)}, expected (n, {self.dim})")
        for chunk in features.split(CHUNK):
            x = chunk.cpu().double()
            self.flat[0] += len(x)
            self.flat[1 : 1 + self.dim] += x.sum(0)
            with one_thread():
                self.flat[1 + self.dim :].view(self.dim, self.dim).addmm_(x.T, x)

    def gaussian(self) -> Gaussian:
        """The Gaussian of all that was added.

        Raises:
            UserError: for fewer than 2 samples, or a feature that was not finite.
        """
        if not self.flat.isfinite().all():
            raise UserError(
                f"found NaN or infinity in the features of {int(self.flat[0])} rows, expected finite numbers"
            )
        n = int(self.flat[0])
        if n < 2:
            raise UserError(f"found {n} samples, expected at least 2")
        mean = self.flat[1 : 1 + self.dim] / n
        outer = self.flat[1 + self.dim :].view(self.dim, self.dim)
        return Gaussian(mean, (outer - n * torch.outer(mean, mean)) / (n - 1), n)


def frechet_distance(generated: Gaussian, real: Gaussian) -> float:
    """|m - m_r|^2 + tr(C + C_r - 2 (C C_r)^(1/2)), the squared Fréchet (2-Wasserstein) distance of two Gaussians.

    Heusel et al., 2017, equation 6, https://arxiv.org/abs/1706.08500. Of samples it is biased upward by about c/n:
    compare only equal n. Symmetric. For equal sets it is 0 up to rounding, which may make it slightly negative.

    With R R^T = C_r, the matrix R^T C R is symmetric and has the eigenvalues of C C_r, so that the trace of the root is
    the sum of their roots. R belongs to the real side, where it is computed once for many calls. torch-fidelity keeps
    means in float32, and differs by that: usually 1e-6 of the distance, 2e-5 seen where it is small.

    Args:
        generated: Gaussian of the generated features.
        real: that of the real features, of the same d.

    Returns:
        The distance, in squared units of the features.

    Raises:
        UserError: if the numbers of features differ.

    Warns:
        UserWarning: what `few_samples` says of the smaller set.
    """
    if generated.mean.shape != real.mean.shape:
        raise UserError(
            f"found {len(generated.mean)} (generated), {len(real.mean)} (real) features per sample, expected the same "
            f"number"
        )
    known = [g.count for g in (generated, real) if g.count is not None]
    if known and (message := few_samples(min(known), len(real.mean))):
        warnings.warn(message, stacklevel=2)
    difference = generated.mean - real.mean
    r = real.factor
    product = r.T @ generated.covariance @ r
    with one_thread():
        trace_of_root = torch.linalg.eigvalsh(product).clamp_min(0).sqrt().sum()
    return float(difference @ difference + generated.covariance.trace() + real.covariance.trace() - 2 * trace_of_root)


def few_samples(count: int, dim: int) -> str | None:
    """What is wrong with ``count`` samples of ``dim`` features for a covariance, in a sentence; None if nothing is."""
    if count > dim:
        return None
    return (
        f"{count} samples of {dim} features give a singular covariance: the Fréchet distance is biased strongly upward "
        f"and exact to about 1e-8; take more than {dim} samples, better ten times that number"
    )


def check_features(features: Tensor, name: str = "", least: int = 0) -> None:
    """Refuse anything but at least ``least`` rows of finite numbers (n, d).

    Args:
        features: what to check.
        name: which they are, for the message: ``"generated"``.
        least: the smallest number of rows.

    Raises:
        UserError: saying what was found and expected.
    """
    name = f"{name} features".lstrip()
    if features.ndim != 2:
        raise UserError(f"{name}: found shape {tuple(features.shape)}, expected (samples, features)")
    if len(features) < least:
        raise UserError(f"{name}: found {len(features)} rows, expected at least {least}")
    ends = torch.stack(features.aminmax()) if features.numel() else features  # NaN where one is: several times faster
    if not ends.isfinite().all():
        bad = int((~features.isfinite()).any(1).sum())
        raise UserError(f"{name}: found NaN or infinity in {bad} of {len(features)} rows, expected finite numbers")


def check_sets(least: int, **sets: Tensor) -> None:
    """`check_features` for each of ``sets``, a name and its features, and the same d in all of them."""
    for name, features in sets.items():
        check_features(features, name, least)
    if len({features.shape[1] for features in sets.values()}) > 1:
        found = ", ".join(f"{features.shape[1]} ({name})" for name, features in sets.items())
        raise UserError(f"found {found} features per sample, expected the same number in each set")


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape).cpu().double()
