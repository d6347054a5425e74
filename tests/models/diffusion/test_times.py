"""Times: quantile functions against the distributions of the papers."""

import math

import pytest
import torch
from support.exact_diffusion import PATHS

from lit_gen.core.errors import UserError
from lit_gen.models.diffusion.paths import DDPM, EDM, Linear
from lit_gen.models.diffusion.times import LogitNormal, LogNormal, Uniform

SHARES = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
EXTREMES = torch.tensor([0.0, 2**-24, 1 - 2**-24])
EVERY = pytest.mark.parametrize("times", [Uniform(), LogNormal(), LogNormal(0, 30), LogitNormal(), LogitNormal(1, 9)])


def test_uniform_times_are_shares_of_the_path():
    assert Uniform()(Linear(), SHARES).equal(SHARES)
    assert Uniform()(DDPM(10, "cosine"), SHARES).unique(return_counts=True)[1].tolist() == [100] * 10


@pytest.mark.parametrize("name", ["edm", "linear", "vp"])
def test_the_logarithm_of_the_ratio_is_normal(name):
    """The distribution function of ln(sigma / alpha) at the times is the share; EDM's published numbers by default."""
    path = PATHS[name]
    inner = SHARES[20:-20]
    t = LogNormal()(path, inner)
    log = (path.sigma(t) / path.alpha(t)).log()
    torch.testing.assert_close(torch.special.ndtr((log + 1.2) / 1.2), inner, rtol=1e-9, atol=1e-9)
    assert LogNormal(-0.4, 1.0)(EDM(), SHARES).log().mean() == pytest.approx(-0.4, abs=1e-3)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.5, 0.6)])
def test_the_logit_of_the_share_is_normal(mean, std):
    """The density of SD3 has the mean of these times; more noise for a mean above 0."""
    t = LogitNormal(mean, std)(Linear(), SHARES)
    torch.testing.assert_close(torch.special.ndtr((torch.logit(t) - mean) / std), SHARES, rtol=1e-9, atol=1e-9)
    grid = torch.linspace(0, 1, 20_001, dtype=torch.float64)[1:-1]
    density = torch.exp(-(((grid / (1 - grid)).log() - mean) ** 2) / (2 * std**2)) / (grid * (1 - grid))
    density = density / (std * math.sqrt(2 * math.pi))
    assert float((density * grid).sum() / 20_000) == pytest.approx(float(t.mean()), abs=1e-4)


@EVERY
@pytest.mark.parametrize("name", PATHS)
def test_times_grow_and_stay_within_the_path(times, name):
    path = PATHS[name]
    for shares in (SHARES, SHARES.float(), EXTREMES):
        t = times(path, shares)
        assert t.dtype == shares.dtype
        assert (t.diff() >= 0).all()
        assert (t >= path.start).all()
        assert (t <= path.end).all()  # and none is NaN


def test_the_least_share_has_a_finite_quantile():
    t = LogitNormal()(Linear(), EXTREMES)
    assert t[0] == t[1] == pytest.approx(0.005, rel=0.1)  # 5.3 deviations from the mean
    assert t[2] == pytest.approx(0.995, rel=0.01)


@pytest.mark.parametrize("times", [LogNormal, LogitNormal])
def test_a_deviation_is_above_0(times):
    with pytest.raises(UserError, match=r"^model\.times\.std: 0 was found, a number above 0 is expected"):
        times(std=0)
