"""What one step of an exact model draws: the mean of the data, where noise tells nothing of them."""

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from support.draws import normal
from support.exact_diffusion import ExactNetwork, Finite

from lit_gen.models.diffusion.generator import Generator
from lit_gen.models.diffusion.parametrizations import Velocity
from lit_gen.models.diffusion.paths import Linear
from lit_gen.models.diffusion.solvers.adaptive import Adaptive
from lit_gen.models.diffusion.solvers.ode import Euler
from lit_gen.models.diffusion.sources import Gaussians, Normal


def drawn(solver, data, source):
    network = ExactNetwork(Velocity(), Finite(Linear(), data))
    generator = Generator(network, Linear(), Velocity(), solver, source)
    return generator(normal(len(data), generator.latent_dim, seed=1)).flatten(1)


def squared_distance(a, b):
    """The squared 2-Wasserstein distance of equally many points."""
    costs = (a[:, None] - b).square().sum(2)
    return costs[linear_sum_assignment(costs)].mean().item()


@pytest.mark.parametrize("source", [Normal(), Gaussians()], ids=["Normal", "Gaussians"])
def test_one_step_of_independent_pairs_ends_at_the_mean_of_the_data(source):
    data = 3 * normal(40, 2, 1, 1) + 1
    points, samples = data.flatten(1), drawn(Euler(1), data, source)
    assert (samples - points.mean(0)).abs().max() < 1e-6  # times are float32
    trace = points.T.cov(correction=0).trace().item()
    assert squared_distance(samples, points) == pytest.approx(trace, rel=1e-6)


def test_small_steps_end_at_the_data():
    data = 3 * normal(40, 2, 1, 1) + 1
    points, samples = data.flatten(1), drawn(Adaptive(), data, Normal())
    assert torch.cdist(samples, points).min(1).values.max() < 1e-3
