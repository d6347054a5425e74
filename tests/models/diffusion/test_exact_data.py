"""Data whose best network is known: two points, a finite set, and a Gaussian that a network learns."""

import functools

import numpy as np
import pytest
import torch
from support.diffusion import build
from support.draws import normal
from support.exact_diffusion import PATHS, ExactNetwork, Finite, Gaussian, TwoPoints, between, floor
from support.fitting import fit
from support.solving import block_draws

from lit_gen.data.vectors.module import Vectors
from lit_gen.models.diffusion.denoiser import Denoiser
from lit_gen.models.diffusion.mlp import MLP
from lit_gen.models.diffusion.parametrizations import Data, Noise, Preconditioned, Velocity, VPrediction
from lit_gen.models.diffusion.solvers.ode import DPMSolver, Euler, Heun
from lit_gen.models.diffusion.solvers.sde import DDIM, Ancestral, Stochastic
from lit_gen.models.diffusion.times import LogNormal
from lit_gen.training.ema import EMA
from lit_gen.training.schedules import Cosine

SHAPE = (1, 1, 2)
POINT = torch.tensor([0.6, -0.8], dtype=torch.float64).view(SHAPE)
POINTS = torch.tensor([[0.0, 1.0], [2.0, 0.0], [-1.0, -1.0]], dtype=torch.float64).view(3, *SHAPE)
WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
PAIRS = [
    ("ddpm", Noise()),
    ("vp", VPrediction()),
    ("linear", Velocity()),
    ("edm", Preconditioned(0.5)),
    ("cosine", Data()),
]
each = pytest.mark.parametrize(("path", "parametrization"), PAIRS)
COUNT = 40_000


def chosen(points, weights, count):
    """Data from a finite set (count, C, H, W)."""
    share = torch.rand(count, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return points[torch.searchsorted(weights.cumsum(0), share).clamp(max=len(points) - 1)]


def near(values, expected):
    """The mean of values (N,) is the expected one within four of its standard deviations."""
    assert abs(float(values.mean() - expected)) < 4 * float(values.std()) / len(values) ** 0.5


@each
def test_the_least_loss_on_two_points_is_that_of_a_hyperbolic_tangent(path, parametrization):
    """Given x_t the variance of x_0 is 1 - tanh(m)^2, |p| being 1, with m = r^2 + r z, r = alpha / sigma, z normal."""
    path = PATHS[path]
    denoiser = Denoiser(ExactNetwork(parametrization, TwoPoints(path, POINT)), path, parametrization)
    data = chosen(torch.stack([POINT, -POINT]), torch.tensor([0.5, 0.5], dtype=torch.float64), COUNT)
    z = np.linspace(-8, 8, 4001)
    density = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    for t in between(path, 3, 0.4, 0.8):
        a, b = (float(number) for number in parametrization.target(path, t[None]))
        alpha, sigma = float(path.alpha(t[None])), float(path.sigma(t[None]))
        r = alpha / sigma
        variance = float(density @ (1 - np.tanh(r**2 + r * z) ** 2)) / 2  # of each dimension, as the loss counts
        errors = denoiser.errors(data, normal(COUNT, *SHAPE, seed=2), t.expand(COUNT))
        near(errors, (a - b * alpha / sigma) ** 2 * variance)


CHANGES = [torch.ones_like, torch.sin, lambda x: x.flip(-1).tanh()]


class Moved(torch.nn.Module):
    """A network whose output is changed by a small multiple of a function of its input."""

    def __init__(self, network, change, step):
        super().__init__()
        self.network, self.shape, self.num_classes = network, SHAPE, None
        self.change, self.step = change, step

    def forward(self, x, level):
        return self.network(x, level) + self.step * self.change(x)


@each
def test_no_change_of_a_softmax_weighted_mean_lowers_the_loss(path, parametrization):
    """The error of the exact network is uncorrelated with every function of what it sees."""
    path = PATHS[path]
    data, noise, t = chosen(POINTS, WEIGHTS, COUNT), normal(COUNT, *SHAPE, seed=2), between(path, 3)[1].expand(COUNT)

    def slopes(weights):
        """The derivative of each row's loss along three changes of the output, (3, COUNT)."""
        network = ExactNetwork(parametrization, Finite(path, POINTS, weights))

        def errors(change, step):
            return Denoiser(Moved(network, change, step), path, parametrization).errors(data, noise, t)

        return torch.stack([errors(change, 1e-3) - errors(change, -1e-3) for change in CHANGES])

    for found in slopes(WEIGHTS):
        near(found, 0)
    others = slopes(torch.tensor([0.4, 0.3, 0.3], dtype=torch.float64))  # another set's mean
    assert max(abs(float(found.mean())) / float(found.std()) for found in others) > 10 / COUNT**0.5


@pytest.mark.parametrize(
    ("solver", "path"),
    [
        (Euler(100), "linear"),
        (Heun(40), "edm"),
        (DDIM(60), "vp"),
        (DPMSolver(50), "edm"),
        (Ancestral(100), "cosine"),
        (Stochastic(40), "edm"),
    ],
)
def test_samples_of_a_finite_set_are_its_points_in_their_shares(solver, path):
    """Every point as often as its weight says, within four standard deviations of 1,280 samples."""
    path = PATHS[path]
    field, end = Finite(path, POINTS, WEIGHTS), path.end
    blocks = []
    for i in range(20):
        noise = float(path.sigma(torch.tensor([end]))) * normal(64, *SHAPE, seed=i + 5)
        blocks.append(solver(field, noise, (end, 0.0), block_draws(i)).x)
    distances = torch.cdist(torch.cat(blocks).flatten(1), POINTS.flatten(1))
    assert float(distances.amin(1).quantile(0.99)) < 0.05
    for i, weight in enumerate(WEIGHTS):
        near((distances.argmin(1) == i).double(), weight)


def test_a_network_that_learns_gaussian_data_comes_within_a_fiftieth_of_the_least_loss(tmp_path):
    """On the same draws, against the exact model; and it is no better than that, which no network can be."""
    path, parametrization, times = PATHS["edm"], Preconditioned(0.7), LogNormal(-0.5, 1.0)
    root = torch.tensor([[0.9, 0.0], [-0.5, 0.4]], dtype=torch.float64)
    mean = torch.tensor([0.5, -0.2], dtype=torch.float64)
    np.savez(tmp_path / "rows.npz", x=(mean + normal(100_000, 2, seed=3) @ root.T).float().numpy())
    model = build(
        MLP((2, 1, 1), width=32, depth=2),
        path=path,
        parametrization=parametrization,
        times=times,
        solver=Heun(4),
        stratified=True,
        ema=EMA(0.99),
        optimizer=functools.partial(torch.optim.Adam, lr=5e-3),
        schedule=Cosine(1.0, 0.0, steps=1000),
    )
    fit(model, Vectors(str(tmp_path / "rows.npz"), batch_size=256), 1000, tmp_path, log_every=100)

    data = (mean + normal(COUNT, 2, seed=4) @ root.T).view(-1, 2, 1, 1)
    noise, t = normal(COUNT, 2, 1, 1, seed=5), times(path, torch.arange(COUNT).double() / COUNT + 0.5 / COUNT)
    exact = ExactNetwork(parametrization, Gaussian(path, mean.view(2, 1, 1), root @ root.T))
    with torch.no_grad():
        least = Denoiser(exact, path, parametrization).errors(data, noise, t)
        excess = model.denoiser("ema").errors(data.float(), noise.float(), t.float()) - least
    variances = torch.linalg.eigvalsh(root @ root.T)
    expected = float(floor(parametrization, path, variances, t).mean())
    near(least, expected)
    error = float(excess.std()) / COUNT**0.5
    assert -3 * error < float(excess.mean()) < 0.02 * expected
