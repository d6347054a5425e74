"""Paths: marginals and rates against derivatives, other implementations and limits; no digits lost at the ends."""

import math
import pickle

import numpy as np
import pytest
import torch
from support.draws import normal
from support.exact_diffusion import PATHS, between

from lit_gen.core.errors import UserError
from lit_gen.models.diffusion.paths import DDPM, EDM, Linear, VariancePreserving

EVERY = pytest.mark.parametrize("name", PATHS)


def derivative(function, t):
    t = t.clone().requires_grad_()
    value = function(t)
    return torch.autograd.grad(value.sum(), t)[0] if value.requires_grad else torch.zeros_like(t)


@EVERY
def test_rates_are_derivatives(name):
    path = PATHS[name]
    t = between(path, 9, 0.001, 1) - (0.5 if isinstance(path, DDPM) else 0)
    torch.testing.assert_close(path.alpha_rate(t), derivative(path.alpha, t), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(path.sigma_rate(t), derivative(path.sigma, t), rtol=1e-9, atol=1e-12)


@EVERY
def test_a_path_begins_at_data_and_ends_in_noise(name):
    path = PATHS[name]
    zero, end = torch.zeros(1), torch.tensor([path.end])
    assert float(path.alpha(zero)) == 1
    assert float(path.sigma(zero)) == 0
    assert float(path.sigma(end)) / max(float(path.alpha(end)), 1e-9) >= 80
    assert 0 <= path.start < path.end


@EVERY
def test_the_ratio_grows_and_gives_the_time_back(name):
    path = PATHS[name]
    t = between(path, 12, 0.001, 0.999)
    ratio = path.sigma(t) / path.alpha(t)
    assert (ratio.diff() > 0).all()
    torch.testing.assert_close(path.time_of(ratio), t, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(path.time_of(ratio.float()), t.float(), rtol=2e-5, atol=0)
    assert not path.time_of(torch.tensor([0.0, math.inf])).isnan().any()
    assert float(path.time_of(torch.zeros(1))) == 0
    assert float(path.time_of(torch.tensor([math.inf]))) >= path.end


@EVERY
def test_float32_loses_nothing_at_either_end(name):
    path = PATHS[name]
    t = torch.tensor([max(path.start, 1e-4), 1.5 * max(path.start, 1e-4), path.end])
    for function in (path.alpha, path.sigma, path.alpha_rate, path.sigma_rate, path.level, path.scale):
        found, expected = function(t), function(t.double())
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=3e-6, atol=0)


@EVERY
def test_noise_is_added_row_by_row(name):
    path = PATHS[name]
    x, noise, t = normal(5, 2, 3, 1), normal(5, 2, 3, 1, seed=1), between(path)
    rows = [path.alpha(t[i]) * x[i] + path.sigma(t[i]) * noise[i] for i in range(5)]
    torch.testing.assert_close(path.between(x, noise, t), torch.stack(rows))


@pytest.mark.parametrize("t", [1e-5, 0.1, 0.7, 1.0])
def test_variance_preserving_is_that_of_the_paper(t):
    """In numbers of the closed form of sigma / alpha, and by integrating the rate of noise."""
    at = torch.tensor([t], dtype=torch.float64)
    path = VariancePreserving()
    ratio = math.sqrt(math.expm1(0.5 * 19.9 * t**2 + 0.1 * t))
    assert float(path.sigma(at) / path.alpha(at)) == pytest.approx(ratio, rel=1e-12)
    nodes, weights = np.polynomial.legendre.leggauss(4)
    integral = (weights * (0.1 + 19.9 * t * (nodes + 1) / 2)).sum() * t / 2
    assert float(path.alpha(at)) == pytest.approx(math.exp(-integral / 2), rel=1e-12)
    assert float(path.alpha(at) ** 2 + path.sigma(at) ** 2) == pytest.approx(1, rel=1e-12)


def test_variance_preserving_is_the_limit_of_many_steps():
    steps = 100_000
    discrete = DDPM(steps, beta_start=0.1 / steps, beta_end=20 / steps)
    t = torch.tensor([0.01, 0.3, 0.8, 1.0], dtype=torch.float64)
    found, expected = discrete.alpha(t * steps), VariancePreserving().alpha(t)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=0)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_steps_are_products(schedule):
    """Equation 4 of DDPM, and equation 17 of improved DDPM with its bound of 0.999, step by step."""
    steps, kept, rows = 1000, 1.0, []

    def f(t):
        return math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2

    for t in range(1, steps + 1):
        linear = 1e-4 + (t - 1) / (steps - 1) * (0.02 - 1e-4)
        beta = linear if schedule == "linear" else min(1 - (f(t) / f(0)) / (f(t - 1) / f(0)), 0.999)
        kept *= 1 - beta
        rows.append((beta, math.sqrt(kept), math.sqrt(1 - kept)))
    path, t = DDPM(steps, schedule), torch.arange(1, steps + 1, dtype=torch.float64)
    found = torch.stack([path.betas(), path.alpha(t), path.sigma(t)], 1)
    np.testing.assert_allclose(found, rows, rtol=1e-10)


def test_any_number_of_steps_ends_in_noise():
    ends = [float(DDPM(steps).alpha(torch.tensor([float(steps)]))) for steps in (100, 1000, 4000)]
    assert max(ends) < 0.007
    assert DDPM(100, beta_end=0.02).beta_start is None


def test_between_steps_the_rate_of_noise_is_constant():
    path = DDPM(10, beta_start=0.1, beta_end=0.3)
    log = 2 * path.alpha(torch.tensor([3.0, 3.25, 3.5, 4.0], dtype=torch.float64)).log()
    rates = log.diff() / torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64)
    torch.testing.assert_close(rates, path.betas()[3].neg().log1p().expand(3))


def test_grids():
    np.testing.assert_allclose(Linear().grid(0.8, 4), [0.8, 0.6, 0.4, 0.2, 0])
    rho = np.array([80 ** (1 / 7) + i / 3 * (0.002 ** (1 / 7) - 80 ** (1 / 7)) for i in range(4)]) ** 7
    np.testing.assert_allclose(EDM().grid(80.0, 4), [*rho, 0], rtol=1e-12)
    assert EDM().grid(80.0, 1).tolist() == pytest.approx([80, 0])
    assert DDPM(1000).grid(1000, 7).tolist() == [1000, 857, 714, 571, 429, 286, 143, 0]
    assert DDPM(10, "cosine").grid(10, 10).tolist() == list(range(10, -1, -1))
    assert all(path.grid(path.end, 5).dtype == torch.float64 for path in PATHS.values())


def test_a_grid_has_no_more_steps_than_its_path():
    with pytest.raises(
        UserError, match=r"model\.solver\.steps: 11 was found, the path DDPM has 10 steps .* at most 10"
    ):
        DDPM(10, "cosine").grid(10.0, 11)


def test_shares_of_steps_are_equal():
    share = (torch.arange(4000) + 0.5) / 4000
    assert DDPM(10, "cosine").at_share(share).unique(return_counts=True)[1].tolist() == [400] * 10
    assert DDPM(1000).at_share(torch.tensor([0.0, 1 - 2**-24, 1.0])).tolist() == [1, 1000, 1000]
    assert VariancePreserving(start=0.5).at_share(torch.tensor([0.0, 0.5])).tolist() == [0.5, 0.75]


def test_what_networks_are_told_of_the_time():
    assert Linear().level(torch.tensor([0.25])).item() == 0.25
    assert DDPM(200).level(torch.tensor([50.0])).item() == 0.25
    assert EDM().level(torch.tensor([math.e])).item() == pytest.approx(0.25)
    assert EDM().scale(torch.tensor([3.0])).item() == pytest.approx(1 / math.sqrt(10))


def test_tables_are_kept_for_a_device_and_not_in_the_path():
    path = DDPM(50)
    saved, t = pickle.dumps(path), torch.tensor([3.0])
    assert path._tables(t)[0] is path._tables(t)[0] is DDPM(50)._tables(t)[0]
    assert pickle.dumps(path) == saved
    assert pickle.loads(saved).alpha(t) == path.alpha(t)
    assert path.alpha(torch.ones(1, device="meta")).device.type == "meta"
    assert DDPM(51).alpha(torch.tensor([51.0])) != DDPM(50).alpha(torch.tensor([50.0]))


def test_tables_of_an_evaluation_serve_training():
    path, t, x = DDPM(52), torch.tensor([3.0]), torch.ones(1, 1, requires_grad=True)
    with torch.inference_mode():
        path.alpha(t)
    assert not any(table.is_inference() for table in path._tables(t))
    path.between(x, x, t).sum().backward()
    torch.testing.assert_close(x.grad[0], path.alpha(t) + path.sigma(t))


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (
            lambda: EDM(sigma_min=2, sigma_max=1),
            "sigma_min: 2 and sigma_max 1 were found, 0 < sigma_min < sigma_max is",
        ),
        (lambda: EDM(sigma_min=0), "sigma_min: 0 and sigma_max 80 were found"),
        (lambda: EDM(sigma_max=math.inf), "sigma_min: 0.002 and sigma_max inf were found"),
        (lambda: VariancePreserving(0), "beta_min: 0 and beta_max 20 were found, 0 < beta_min <= beta_max is expected"),
        (lambda: VariancePreserving(3, 2), "beta_min: 3 and beta_max 2 were found"),
        (lambda: VariancePreserving(start=1), "start: 1 was found, a number between 0 and 1 is expected"),
        (lambda: DDPM(1), "steps: 1 was found, a whole number of at least 2 is expected"),
        (lambda: DDPM(schedule="cosin"), r"schedule: 'cosin' was found, one of linear, cosine is expected.*cosine"),
        (
            lambda: DDPM(beta_start=0.1),
            "beta_start: 0.1 and beta_end 0.02 were found with 1000 steps, 0 <",
        ),
        (lambda: DDPM(10), "beta_start: 0.01 and beta_end 2 were found with 10 steps"),
        (lambda: DDPM(beta_end=1), "beta_start: 0.0001 and beta_end 1 were found"),
    ],
)
def test_options_that_make_no_path(build, sentence):
    with pytest.raises(UserError, match=r"^model\.path\." + sentence):
        build()
