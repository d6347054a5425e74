"""The Fréchet distance: its closed forms, its invariances, and torch-fidelity as the independent reference."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gen.core.errors import UserError
from lit_gen.metrics.frechet import Gaussian, Moments, few_samples, frechet_distance


def draws(n, d, seed=0, dtype=torch.float64):
    """Correlated, skewed, not centered: (n, d)."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return ((x + 0.2 * x.square()) @ mixing + 1).to(dtype)


def spd(d, seed=0):
    return Gaussian.of(draws(4 * d, d, seed)).covariance


def distance(a, b):
    return frechet_distance(Gaussian.of(a), Gaussian.of(b))


def rotation(d):
    return torch.linalg.qr(torch.randn(d, d, dtype=torch.float64))[0]


# closed forms


@pytest.mark.parametrize("d", [1, 2, 50])
def test_commuting_gaussians(d):
    """With one eigenbasis: |m - m_r|^2 + sum (sqrt a - sqrt b)^2."""
    basis = rotation(d)
    a, b = 3 * torch.rand(d, dtype=torch.float64), torch.rand(d, dtype=torch.float64)
    m, m_r = torch.randn(d, dtype=torch.float64), torch.randn(d, dtype=torch.float64)
    found = frechet_distance(Gaussian(m, basis * a @ basis.T), Gaussian(m_r, basis * b @ basis.T))
    assert found == pytest.approx(((m - m_r).square().sum() + (a.sqrt() - b.sqrt()).square().sum()).item(), rel=1e-12)


def test_one_dimension():
    x, y = 2 * torch.randn(100, 1) + 5, torch.randn(80, 1)
    expected = (x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2
    assert distance(x, y) == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("c", [0.0, 0.5, 1.0, 3.0])
def test_scaled_covariance(c):
    real = Gaussian(torch.zeros(20, dtype=torch.float64), spd(20))
    found = frechet_distance(Gaussian(real.mean, c**2 * real.covariance), real)
    assert found == pytest.approx((1 - c) ** 2 * real.covariance.trace().item(), abs=1e-12)


def test_shifted_mean():
    x, shift = draws(200, 8), torch.arange(8.0)
    assert distance(x + shift, x) == pytest.approx(shift.square().sum().item(), rel=1e-12)


def test_two_dimensions_by_hand():
    """tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)) for a 2 x 2 matrix: covariances that do not commute."""
    a = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, -0.8], [-0.8, 3.0]], dtype=torch.float64)
    product, zero = a @ b, torch.zeros(2, dtype=torch.float64)
    expected = a.trace() + b.trace() - 2 * (product.trace() + 2 * product.det().sqrt()).sqrt()
    assert frechet_distance(Gaussian(zero, a), Gaussian(zero, b)) == pytest.approx(expected.item(), rel=1e-14)


# laws

SETS = {"d": st.integers(1, 12), "n": st.integers(14, 60), "m": st.integers(14, 60), "seed": st.integers(0, 10**6)}


@settings(max_examples=25, deadline=None)
@given(**SETS, scale=st.floats(0.01, 100))
def test_invariances(d, n, m, seed, scale):
    a, b = draws(n, d, seed), 1.5 * draws(m, d, seed + 1)
    found = distance(a, b)
    close = {"rel": 1e-9, "abs": 1e-9 * scale**2}
    assert found > 0
    assert distance(b, a) == pytest.approx(found, rel=1e-9)
    assert distance(a[torch.randperm(n)], b[torch.randperm(m)]) == pytest.approx(found, rel=1e-9)
    turn = rotation(d)
    assert distance(a @ turn, b @ turn) == pytest.approx(found, rel=1e-9)
    assert distance(scale * a, scale * b) == pytest.approx(scale**2 * found, **close)
    assert distance(a + 7, b + 7) == pytest.approx(found, rel=1e-9)


@pytest.mark.parametrize("n", [10, 2000])
@pytest.mark.filterwarnings("ignore:.*singular covariance")
def test_identical_sets_are_at_zero(n):
    x = draws(n, 64)
    assert abs(distance(x, x)) < 1e-6 * Gaussian.of(x).covariance.trace()


def test_bias_falls_as_one_over_n():
    """Two samples of one law: n times the distance is about the same for any n."""
    n = [400, 1600]
    found = [n_ * sum(distance(*torch.randn(2, n_, 24)) for _ in range(4)) for n_ in n]
    assert found[0] == pytest.approx(found[1], rel=0.15)


# references


@pytest.mark.parametrize(("n", "d"), [(500, 8), (2000, 96), (5000, 32)])
def test_equals_torch_fidelity(n, d):
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    for dtype, accuracy in ((torch.float32, 1e-6), (torch.float64, 1e-11)):  # that tool's mean has the features' type
        a, b = draws(n, d, 1, dtype), 1.1 * draws(n // 2, d, 2, dtype)
        statistics = [fid_features_to_statistics(x) for x in (a, b)]
        expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
        assert distance(a, b) == pytest.approx(expected, rel=accuracy)


def test_mean_and_covariance_are_numpys(monkeypatch):
    import numpy as np

    x = 1e4 + draws(1000, 5)
    monkeypatch.setattr("lit_gen.metrics.frechet.CHUNK", 300)
    found = Gaussian.of(x)
    assert (found.mean.dtype, found.covariance.dtype, found.count) == (torch.float64, torch.float64, 1000)
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(x.numpy(), rowvar=False), rtol=1e-9)


@pytest.mark.parametrize("sizes", [[1000], [1, 999], [0, 400, 600], [100] * 10])
def test_moments_of_parts_are_those_of_the_whole(sizes, monkeypatch):
    monkeypatch.setattr("lit_gen.metrics.frechet.CHUNK", 128)
    x, real = draws(1000, 16, 1, torch.float32), Gaussian.of(draws(800, 16, 2))
    alone, total = Moments(16), torch.zeros(1 + 16 + 256, dtype=torch.float64)
    for part in x.split(sizes):
        alone.add(part)
        rank = Moments(16)
        rank.add(part)
        total += rank.flat  # what an all-reduce does
    expected = frechet_distance(Gaussian.of(x), real)
    for moments in (alone, Moments.from_flat(total)):
        found = moments.gaussian()
        assert found.count == 1000
        assert frechet_distance(found, real) == pytest.approx(expected, rel=1e-9)


def test_moments_far_from_zero():
    """Features whose mean is 10,000 times their standard deviation."""
    x, real = torch.randn(2000, 8) + 1e4, Gaussian.of(torch.randn(2000, 8) * 1.1 + 1e4)
    moments = Moments(8)
    moments.add(x)
    assert frechet_distance(moments.gaussian(), real) == pytest.approx(frechet_distance(Gaussian.of(x), real), rel=1e-5)


# the factor


@pytest.mark.parametrize("case", ["regular", "few samples", "dead features", "constant"])
def test_factor_times_its_transpose_is_the_covariance(case):
    x = draws(200 if case != "few samples" else 7, 20)
    if case == "dead features":
        x[:, 3:9] = 0
    if case == "constant":
        x[:] = 1
    gaussian = Gaussian.of(x)
    r = gaussian.factor
    assert r is gaussian.factor  # kept
    assert r.isfinite().all()
    torch.testing.assert_close(r @ r.T, gaussian.covariance, rtol=1e-12, atol=1e-12)


def test_dead_features_change_nothing():
    a, b = draws(200, 6, 1), draws(150, 6, 2)
    dead = torch.zeros(200, 3, dtype=torch.float64)
    found = distance(torch.cat([dead, a], 1), torch.cat([dead[:150], b], 1))
    assert found == pytest.approx(distance(a, b), rel=1e-9)


@pytest.mark.filterwarnings("ignore:.*singular covariance")
def test_fewer_samples_than_features_against_the_gram_matrix():
    """tr sqrt(C C_r) is the sum of the singular values of X_r X^T over n - 1, X the centered features."""
    a, b = draws(30, 100, 1), draws(30, 100, 2)
    x, y = a - a.mean(0), b - b.mean(0)
    trace = torch.linalg.svdvals(y @ x.T).sum() / 29
    expected = (a.mean(0) - b.mean(0)).square().sum() + (x.square().sum() + y.square().sum()) / 29 - 2 * trace
    assert distance(a, b) == pytest.approx(expected.item(), rel=1e-6)
    assert distance(b, a) == pytest.approx(expected.item(), rel=1e-6)


# mistakes


@pytest.mark.parametrize(("n", "m"), [(8, 50), (50, 7), (8, 8)])
def test_few_samples_warn(n, m):
    with pytest.warns(UserWarning, match=f"{min(n, m)} samples of 8 features .* more than 8 samples") as told:
        distance(draws(n, 8), draws(m, 8))
    assert len(told) == 1
    assert told[0].filename == __file__


def test_enough_samples_do_not_warn():
    assert few_samples(9, 8) is None
    distance(draws(9, 8), draws(9, 8))
    published = Gaussian(torch.zeros(8, dtype=torch.float64), spd(8))  # no count: nothing is known
    assert published.count is None
    assert math.isfinite(frechet_distance(Gaussian.of(draws(9, 8)), published))


def test_refusals():
    x = torch.randn(10, 4)
    x[2, 1], x[5, 0], x[5, 2] = math.nan, math.inf, math.nan
    with pytest.raises(UserError, match="NaN or infinity in 2 of 10 rows"):
        Gaussian.of(x)
    with pytest.raises(UserError, match=r"shape \(4,\), expected \(samples, features\)"):
        Gaussian.of(torch.zeros(4))
    bad = Moments(4)
    bad.add(x)  # not here: other processes may wait for the sums
    with pytest.raises(UserError, match="NaN or infinity in the features of 10 rows"):
        bad.gaussian()
    with pytest.raises(UserError, match=r"found features \(4,\), expected \(n, 4\)"):
        bad.add(torch.zeros(4))
    with pytest.raises(UserError, match="found 1 rows, expected at least 2"):
        Gaussian.of(torch.zeros(1, 4))
    one = Moments(4)
    one.add(torch.zeros(1, 4))
    with pytest.raises(UserError, match="found 1 samples, expected at least 2"):
        one.gaussian()
    with pytest.raises(UserError, match=r"found features \(3, 5\), expected \(n, 4\)"):
        one.add(torch.zeros(3, 5))
    with pytest.raises(UserError, match=r"4 \(generated\), 5 \(real\) features"):
        distance(draws(9, 4), draws(9, 5))
