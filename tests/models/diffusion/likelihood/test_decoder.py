"""A normal distribution rounded to levels."""

import math

import pytest
import torch
from support.draws import normal

from lit_gen.models.diffusion.likelihood.decoder import log_density, log_mass


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("deviation", [1e-3, 0.05, 3.0])
def test_the_masses_of_all_levels_sum_to_one(levels, deviation):
    images = torch.linspace(-1, 1, levels, dtype=torch.float64).view(-1, 1, 1, 1)
    for mean in (-4.0, -1.0, 0.013, 0.9, 1.4):
        nats = log_mass(images, torch.full_like(images, mean), deviation**2, levels)
        torch.testing.assert_close(nats.exp().sum(), torch.ones((), dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_mass_is_the_integral_from_half_a_level_below_to_half_a_level_above():
    images = torch.tensor([-1.0, -0.5, 0.5, 1.0], dtype=torch.float64).view(-1, 1, 1, 1)  # of -1, -0.5, 0, 0.5, 1
    mean, deviation = torch.tensor([-0.6, -0.4, 0.9, 0.7], dtype=torch.float64).view(-1, 1, 1, 1), 0.3
    integral = torch.distributions.Normal(mean.flatten(), deviation).cdf
    low, high = integral(images.flatten() - 0.25), integral(images.flatten() + 0.25)
    low[0], high[3] = 0, 1
    torch.testing.assert_close(log_mass(images, mean, deviation**2, 5), (high - low).log(), rtol=1e-12, atol=0)


def test_a_mass_far_from_the_mean_keeps_its_digits_on_both_sides():
    images = torch.tensor([-0.5, 0.5], dtype=torch.float64).view(-1, 1, 1, 1)
    nats = log_mass(images, -10 * images, 0.01**2, 5)  # the mean is 5.5 away, of which half a level is 0.25
    z = (5.5 - 0.25) / 0.01
    tail = -0.5 * z**2 - math.log(z * math.sqrt(2 * math.pi)) - 1 / z**2  # of the asymptotic series
    torch.testing.assert_close(nats, torch.full((2,), tail, dtype=torch.float64), rtol=1e-12, atol=0)


def test_a_narrow_level_has_the_density_times_its_width():
    images, mean = torch.zeros(1, 1, 1, 1, dtype=torch.float64), torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64)
    nats = log_mass(images, mean, 1.3, 100001)
    torch.testing.assert_close(nats, log_density(images, mean, 1.3) + math.log(2 / 100000), rtol=0, atol=1e-9)


def test_a_density_is_that_of_independent_normal_numbers():
    x, mean = normal(4, 2, 1, 3), normal(4, 2, 1, 3, seed=1)
    expected = torch.distributions.Normal(mean, 0.4).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(log_density(x, mean, 0.16), expected)


def test_rows_are_sums_over_their_own_numbers():
    images = torch.tensor([-1.0, 0.0, 1.0]).repeat(4, 1).view(2, 1, 2, 3)
    mean = normal(2, 1, 2, 3, seed=2)
    parts = [log_mass(images[..., k : k + 1], mean[..., k : k + 1], 0.2, 3) for k in range(3)]
    torch.testing.assert_close(log_mass(images, mean, 0.2, 3), sum(parts))
