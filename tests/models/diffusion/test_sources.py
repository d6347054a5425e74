"""Sources: their densities, their noise, and the paths that end there."""

import math

import pytest
import torch
from support.draws import normal
from torch.distributions import Independent
from torch.distributions import Normal as Torchs

from lit_gen.core.errors import UserError
from lit_gen.data.images.toy import Toy2D
from lit_gen.models.diffusion.paths import DDPM, EDM, Linear, VariancePreserving
from lit_gen.models.diffusion.sources import Gaussians, Normal

POINT = (2, 1, 1)


def test_normal_is_the_noise_itself():
    noise = normal(3, 12)
    x = Normal()(noise, (3, 2, 2))
    assert Normal().latent_dim((3, 2, 2)) == 12
    assert x.shape == (3, 3, 2, 2)
    torch.testing.assert_close(x.flatten(1), noise)
    expected = Independent(Torchs(torch.zeros(12).double(), 1), 1).log_prob(noise)
    torch.testing.assert_close(Normal().log_prob(x), expected)
    for path in (Linear(), EDM(), VariancePreserving(), DDPM()):
        Normal().check(path)


def test_gaussians_are_those_of_the_data_set():
    """Which are those of torchcfm."""
    source, data = Gaussians(), Toy2D("8gaussians", size=10)
    centers = source(
        torch.cat([torch.zeros(8, 2), torch.special.ndtri((torch.arange(8) + 0.5) / 8)[:, None]], 1), POINT
    )
    torch.testing.assert_close(centers.flatten(1), data.centres.float(), atol=1e-5, rtol=0)
    assert source.sigma == data.sigma


def test_the_last_number_chooses_the_mode_and_the_others_the_place():
    source = Gaussians(modes=3, radius=2.0, sigma=0.5)
    third = float(torch.special.ndtri(torch.tensor(1 / 3, dtype=torch.float64)))
    last = torch.tensor([-40.0, third - 1e-6, third + 1e-6, -third - 1e-6, -third + 1e-6, 40.0], dtype=torch.float64)
    noise = torch.cat([normal(6, 2), last[:, None]], 1)
    angles = torch.tensor([0, 0, 1, 1, 2, 2], dtype=torch.float64) * 2 * math.pi / 3
    expected = 2 * torch.stack([angles.cos(), angles.sin()], 1) + 0.5 * noise[:, :2]
    torch.testing.assert_close(source(noise, POINT), expected.view(6, *POINT))
    assert source.latent_dim(POINT) == 3
    assert source(noise.float(), POINT).dtype == torch.float32


def test_modes_have_equal_shares():
    """Of 40,000 rows within four standard deviations of a count."""
    x = Gaussians(sigma=0.1)(normal(40_000, 3).float(), POINT).flatten(1)
    mode = (torch.atan2(x[:, 1], x[:, 0]) / (2 * math.pi / 8)).round().long() % 8
    counts = torch.bincount(mode, minlength=8)
    assert ((counts - 5000).abs() < 4 * math.sqrt(40_000 / 8 * 7 / 8)).all()


def test_the_density_integrates_to_1_and_is_that_of_the_mixture():
    source = Gaussians(modes=5, radius=1.5, sigma=0.6)
    ticks = torch.linspace(-6, 6, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(ticks, ticks).view(-1, *POINT)
    assert float(source.log_prob(grid).exp().sum() * 0.05**2) == pytest.approx(1, abs=1e-9)
    x, total = normal(4, *POINT), 0
    for k in range(5):
        center = 1.5 * torch.tensor([math.cos(2 * math.pi * k / 5), math.sin(2 * math.pi * k / 5)], dtype=torch.float64)
        total = total + Independent(Torchs(center, 0.6), 1).log_prob(x.flatten(1)).exp() / 5
    torch.testing.assert_close(source.log_prob(x), total.log())


def test_far_away_the_density_is_finite():
    assert Gaussians().log_prob(torch.full((1, *POINT), 1e4)).isfinite().all()


@pytest.mark.parametrize(
    ("path", "ends"),
    [
        (EDM(), r"EDM ends at 1 x_0 \+ 80 e"),
        (VariancePreserving(), "VariancePreserving ends at 0.00657 x_0 "),
        (DDPM(), ""),
    ],
)
def test_gaussians_need_a_path_that_ends_there(path, ends):
    Gaussians().check(Linear())
    with pytest.raises(UserError, match=rf"^model\.source: Gaussians was found, but the path {ends}.*Linear is expect"):
        Gaussians().check(path)


@pytest.mark.parametrize(("kept", "scale"), [(0.0, 2.0), (0.1, 1.0)])
def test_gaussians_need_an_end_at_unit_scale_without_data(kept, scale):
    class Other(Linear):
        def alpha(self, t):
            return 1 - (1 - kept) * t

        def sigma(self, t):
            return scale * t

    with pytest.raises(UserError, match=rf"the path Other ends at {kept:g} x_0 \+ {scale:g} e; Linear is expected"):
        Gaussians().check(Other())


def test_gaussians_are_in_the_plane():
    with pytest.raises(
        UserError, match=r"^model\.source: Gaussians is of points in the plane, the data have the shape"
    ):
        Gaussians().latent_dim((1, 8, 8))


@pytest.mark.parametrize("option", ["modes", "radius", "sigma"])
def test_numbers_are_above_0(option):
    with pytest.raises(UserError, match=rf"^model\.source\.{option}: 0 was found"):
        Gaussians(**{option: 0})
