"""Weightings: the formulas of the papers, of each parametrization."""

import pytest
import torch
from support.exact_diffusion import PATHS, between

from lit_gen.core.errors import UserError
from lit_gen.models.diffusion.parametrizations import Data, Noise, Preconditioned, Velocity, VPrediction
from lit_gen.models.diffusion.paths import Linear
from lit_gen.models.diffusion.weightings import MinSNR, Simple


def test_simple_is_1():
    assert Simple()(Linear(), Velocity(), torch.tensor([0.0, 0.5, 1.0])).tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["vp", "ddpm", "cosine"])
def test_min_snr_is_that_of_the_paper(name):
    """Of x_0, of the noise, and of v."""
    path, t = PATHS[name], between(PATHS[name], 30)
    snr = path.alpha(t).square() / path.sigma(t).square()
    least = torch.minimum(snr, torch.full_like(snr, 5.0))
    assert 0 < int((snr > 5).sum()) < 30
    for parametrization, expected in ((Data(), least), (Noise(), least / snr), (VPrediction(), least / (snr + 1))):
        torch.testing.assert_close(MinSNR()(path, parametrization, t), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("parametrization", [Data(), Velocity(), Preconditioned(0.5)])
def test_min_snr_weighs_errors_of_the_data(parametrization):
    """On any path: an error d of F is one of out d of x_0."""
    path, t = Linear(), torch.tensor([0.1, 0.5, 0.9])
    out = parametrization.estimate(path, t).second
    expected = torch.minimum(((1 - t) / t) ** 2, torch.tensor(2.0)) * out**2
    torch.testing.assert_close(MinSNR(2.0)(path, parametrization, t), expected)
    assert MinSNR()(path, parametrization, torch.tensor([0.0, 1.0])).isfinite().all()


def test_gamma_is_above_0():
    with pytest.raises(UserError, match=r"^model\.weighting\.gamma: 0 was found, a number above 0 is expected"):
        MinSNR(0)
