"""The density of the probability-flow ODE, against that of Gaussian data, whose ODE has a closed form."""

import math

import pytest
import torch
from support.draws import normal
from support.exact_diffusion import PATHS
from support.likelihoods import COVARIANCE, MEAN, Wavy, drawn, gaussian

from lit_gen.core.errors import UserError
from lit_gen.core.images import of_level
from lit_gen.core.randomness import uniforms
from lit_gen.models.diffusion.denoiser import Denoiser
from lit_gen.models.diffusion.likelihood.probability_flow import ProbabilityFlow
from lit_gen.models.diffusion.parametrizations import Data, Noise, Preconditioned, Velocity
from lit_gen.models.diffusion.paths import EDM, Linear, VariancePreserving
from lit_gen.models.diffusion.sources import Gaussians

CASES = [("edm", Preconditioned()), ("vp", Noise()), ("ddpm", Data()), ("cosine", Noise()), ("linear", Velocity())]
every = pytest.mark.parametrize(("name", "parametrization"), CASES, ids=[name for name, _ in CASES])
STARTS = {"linear": 1e-3}  # the exact field of our straight lines is asked for x_0, which dx/dt does not tell at 0


def at(path, t):
    """Alpha and sigma at one time."""
    t = torch.tensor([t], dtype=torch.float64)
    return float(path.alpha(t)), float(path.sigma(t))


def closed(field, path, x, start):
    """Nats of data x (B, C, H, W): the normal density at the end of the exact solution, and its log-determinant."""
    (alpha, sigma), (alpha_end, sigma_end) = at(path, start), at(path, path.end)
    end = field.solution(alpha * x, start, path.end).flatten(1)
    spread = field.variances * alpha_end**2 + sigma_end**2
    log_det = 0.5 * (spread / (field.variances * alpha**2 + sigma**2)).log().sum() + 3 * math.log(alpha)
    return log_det - 0.5 * (end**2 / sigma_end**2 + math.log(2 * math.pi * sigma_end**2)).sum(1)


def nats(denoiser, x, **options):
    return ProbabilityFlow(**options).log_prob(denoiser, x, torch.arange(len(x)), 0)


@every
def test_gaussian_data_have_their_density_and_errors_fall_with_the_order_of_the_solver(name, parametrization):
    path, start = PATHS[name], STARTS.get(name, PATHS[name].start)
    field, denoiser = gaussian(path, parametrization)
    x = drawn(6)
    expected, errors = closed(field, path, x, start), {}
    for solver, steps in (("heun", 20), ("heun", 40), ("rk4", 14), ("rk4", 28)):
        found = nats(denoiser, x, solver=solver, steps=steps, start=start)
        errors[solver, steps] = float((found - expected).abs().max())
    assert errors["rk4", 28] < 1e-4
    assert errors["rk4", 14] > 8 * errors["rk4", 28]
    assert errors["heun", 40] < 1e-2
    assert errors["heun", 20] > 3 * errors["heun", 40]


@pytest.mark.parametrize("name", ["edm", "linear"])
def test_the_density_is_that_of_the_data_where_the_end_tells_nothing_of_them(name):
    path, start = PATHS[name], STARTS.get(name, PATHS[name].start)
    field, denoiser = gaussian(path, Velocity(), torch.zeros(3, 1, 1))
    x = drawn(6, mean=0)
    torch.testing.assert_close(nats(denoiser, x, start=start), field.log_prob(x), rtol=0, atol=2e-3)


@pytest.mark.parametrize(("name", "parametrization"), [("vp", Noise()), ("edm", Preconditioned())])
def test_a_later_start_scores_the_data_with_its_noise_in_their_own_units(name, parametrization):
    path, start = PATHS[name], {"vp": 0.2, "edm": 0.5}[name]
    field, denoiser = gaussian(path, parametrization, torch.zeros(3, 1, 1))
    x, (alpha, sigma) = drawn(6, mean=0), at(path, start)
    noisy, _ = gaussian(path, parametrization, torch.zeros(3, 1, 1), COVARIANCE + (sigma / alpha) ** 2 * torch.eye(3))
    torch.testing.assert_close(nats(denoiser, x, start=start), noisy.log_prob(x), rtol=0, atol=2e-3)
    assert (field.log_prob(x) - noisy.log_prob(x)).abs().max() > 0.1


@pytest.mark.parametrize("trace", ["rademacher", "normal"])
def test_random_probes_estimate_the_trace_without_bias(trace):
    denoiser = Denoiser(Wavy((2, 2, 1), 0.2), EDM(), Preconditioned())
    one = normal(1, 2, 2, 1)
    exact = nats(denoiser, one, steps=8, trace="exact")
    found = {k: nats(denoiser, one.repeat(1000, 1, 1, 1), steps=8, trace=trace, probes=k) for k in (1, 4)}
    for each in found.values():
        assert each.std() > 0.05
        assert abs(each.mean() - exact) < 3 * each.std() / math.sqrt(1000)
    assert 1.7 < found[1].std() / found[4].std() < 2.3


def test_the_trace_is_exact_of_few_dimensions_unless_told_otherwise():
    for shape, trace in (((4, 2, 2), "exact"), ((17, 1, 1), "rademacher")):
        denoiser = Denoiser(Wavy(shape, 0.1), VariancePreserving(), Noise())
        x = normal(2, *shape)
        assert ProbabilityFlow().settings(denoiser)["trace"] == trace
        assert nats(denoiser, x, steps=2).equal(nats(denoiser, x, steps=2, trace=trace))


def test_levels_are_dequantized_by_index_and_nats_are_of_their_axes():
    field, denoiser = gaussian(EDM(), Preconditioned(), torch.zeros(3, 1, 1))
    x = of_level(torch.tensor([[0, 8, 16], [3, 4, 15]]), 17).view(2, 3, 1, 1).double()
    indices = torch.tensor([5, 900])
    u = uniforms(2, indices, 3, "likelihood: dequantization").view(2, 3, 1, 1).double()
    expected = field.log_prob(x + (u - 0.5) / 8) + 3 * math.log(1 / 8)
    found = ProbabilityFlow(17).log_prob(denoiser, x, indices, 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
    stored = ((x + 1) * 127.5).round() / 127.5 - 1  # as 8-bit images have the levels
    assert ProbabilityFlow(17).log_prob(denoiser, stored, indices, 2).equal(found)


def test_probabilities_of_all_levels_sum_to_one():
    """Of one number from N(0, 0.09): the mean of the density over a level, by 64 indices each, is its probability."""
    covariance = torch.full((1, 1), 0.09, dtype=torch.float64)
    _, denoiser = gaussian(EDM(), Preconditioned(), torch.zeros(1, 1, 1), covariance)
    x = of_level(torch.arange(17), 17).double().repeat_interleave(64).view(-1, 1, 1, 1)
    found = nats(denoiser, x, levels=17).exp().view(17, 64).mean(1)
    assert float(found.sum()) == pytest.approx(1, abs=0.01)


def test_labels_reach_the_network():
    means = (MEAN - 2, MEAN + 2)
    _, denoiser = gaussian(EDM(), Preconditioned(), classes=means)
    x, likelihood = torch.cat([m[None] for m in means]), ProbabilityFlow(steps=6)
    found = likelihood.log_prob(denoiser, x, torch.arange(2), 0, torch.tensor([0, 1]))
    wrong = likelihood.log_prob(denoiser, x, torch.arange(2), 0, torch.tensor([1, 0]))
    for i, mean in enumerate(means):
        _, alone = gaussian(EDM(), Preconditioned(), mean)
        torch.testing.assert_close(found[i : i + 1], likelihood.log_prob(alone, x[i : i + 1], torch.arange(1), 0))
    assert (found - wrong).min() > 10


def test_a_path_ends_at_its_source():
    """A velocity of 0 leaves points where they are."""
    denoiser, source = Denoiser(Wavy((2, 1, 1), 0.0), Linear(), Velocity()), Gaussians()
    x = 4 * normal(5, 2, 1, 1)
    found = ProbabilityFlow(steps=50).log_prob(denoiser, x, torch.arange(5), 0, source=source)
    torch.testing.assert_close(found, source.log_prob(x), rtol=0, atol=1e-3)


@pytest.mark.parametrize("trace", ["exact", "rademacher", "normal"])
def test_a_row_depends_on_its_own_image_and_index(trace):
    denoiser = Denoiser(Wavy((2, 1, 1)), EDM(), Preconditioned())
    x, indices = (
        of_level(torch.tensor([[0, 1], [2, 2], [1, 0], [2, 0]]), 3).view(4, 2, 1, 1),
        torch.tensor([3, 70, 5, 9]),
    )
    likelihood, order = ProbabilityFlow(3, steps=4, trace=trace), torch.tensor([3, 1])
    found = likelihood.log_prob(denoiser, x, indices, 1)
    torch.testing.assert_close(likelihood.log_prob(denoiser, x[order], indices[order], 1), found[order])
    assert (likelihood.log_prob(denoiser, x, indices + 1, 1) - found).abs().min() > 1e-6
    assert (likelihood.log_prob(denoiser, x, indices, 2) - found).abs().min() > 1e-6


def test_it_runs_within_an_evaluation_and_leaves_no_gradients():
    network = Wavy((2, 1, 1))
    denoiser, x = Denoiser(network, EDM(), Preconditioned()), normal(3, 2, 1, 1)
    expected = nats(denoiser, x, steps=2)
    with torch.no_grad():
        assert nats(denoiser, x, steps=2).equal(expected)
    with torch.inference_mode():
        found = nats(denoiser, 1.0 * x, steps=2)  # tensors that were made here have no gradients
    assert found.equal(expected)
    assert (found.dtype, found.requires_grad, network.inner.grad) == (torch.float64, False, None)


@pytest.mark.parametrize(("solver", "calls"), [("heun", 10), ("rk4", 20)])
def test_calls_are_those_of_the_network_and_the_record_says_what_the_nats_depend_on(solver, calls):
    network, likelihood = Wavy((2, 1, 1)), ProbabilityFlow(solver=solver, steps=5)
    denoiser = Denoiser(network, EDM(), Preconditioned())
    likelihood.log_prob(denoiser, normal(3, 2, 1, 1), torch.arange(3), 0)
    assert network.rows == 3 * likelihood.calls(denoiser) == 3 * calls
    told = {"likelihood": "probability flow", "levels": None, "solver": solver, "steps": 5, "start": 0.002}
    assert likelihood.settings(denoiser) == {**told, "trace": "exact"}
    assert ProbabilityFlow(trace="normal", probes=3).settings(denoiser)["probes"] == 3


def test_what_does_not_fit_is_refused():
    for options, told in (
        ({"solver": "rk5"}, r"solver: 'rk5' was found.*rk4"),
        ({"trace": "exakt"}, r"trace: 'exakt' was found.*exact"),
        ({"steps": 0}, "steps: 0 was found"),
        ({"probes": 0}, "probes: 0 was found"),
        ({"levels": 1}, "levels: 1 was found"),
    ):
        with pytest.raises(UserError, match="model.likelihood." + told):
            ProbabilityFlow(**options)
    network = Wavy((2, 1, 1))
    for start in (0.001, 80.0):
        with pytest.raises(UserError, match=rf"start: {start:g} was found, 0.002 to less than 80 is expected.*EDM"):
            ProbabilityFlow(start=start).check(Denoiser(network, EDM(), Preconditioned()))
    with pytest.raises(
        UserError, match=r"Data has no finite velocity on the path Linear from t = 0 to 1; a later start"
    ):
        ProbabilityFlow().check(Denoiser(network, Linear(), Data()))
    ProbabilityFlow(start=0.01).check(Denoiser(network, Linear(), Data()))
    ProbabilityFlow().check(Denoiser(network, Linear(), Velocity()))
    with pytest.raises(UserError, match=r"model.likelihood.start"):
        nats(Denoiser(network, Linear(), Data()), normal(3, 2, 1, 1))
