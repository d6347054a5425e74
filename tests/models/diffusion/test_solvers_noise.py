"""Solvers that add noise: exact variances, algorithm 2 of EDM in NumPy, and rows that depend on their index only."""

import numpy as np
import pytest
import torch
from support.solving import SHAPE, Unknown, block, block_draws, gaussian

from lit_gen.core.randomness import BLOCK
from lit_gen.models.diffusion.paths import DDPM, EDM, Linear, VariancePreserving
from lit_gen.models.diffusion.solvers.adaptive import Adaptive
from lit_gen.models.diffusion.solvers.base import Asked
from lit_gen.models.diffusion.solvers.ode import DPMSolver, Euler, Heun
from lit_gen.models.diffusion.solvers.sde import DDIM, Ancestral, Stochastic


class OneEach:
    """Draws that are 0, but 1 for row i at step i, so that a linear solver shows what becomes of each step's noise."""

    def __init__(self, rows):
        self.rows = rows

    def normal(self, purpose, step, *shape):
        return (torch.arange(self.rows) == step).double().view(-1, *(1,) * len(shape)).expand(-1, *shape)


def moments(solver, field):
    """The mean and variance of what a solver draws of Gaussian data with independent axes, by superposition.

    The estimate is linear in x, so that a sample is a sum of independent parts: of the start, and of each step's noise.
    """
    path, steps = field.path, solver.steps
    x = torch.zeros(steps + 2, *SHAPE, dtype=torch.float64)
    x[steps] = path.sigma(torch.tensor([path.end], dtype=torch.float64))
    drawn = solver(field, x, (path.end, 0.0), OneEach(steps + 2)).x.flatten(1)
    return drawn[-1], (drawn[:-1] - drawn[-1]).square().sum(0)


@pytest.mark.parametrize("path", [DDPM(12, beta_start=0.01, beta_end=0.6), VariancePreserving(), EDM(), Linear()])
def test_ancestral_samples_have_the_variance_of_a_recursion(path):
    field = gaussian(path)
    _, found = moments(Ancestral(12), field)
    times = torch.tensor(Ancestral(12).times(path, (path.end, 0.0)), dtype=torch.float64)
    alpha, sigma = path.alpha(times), path.sigma(times)
    data = field.covariance.diag()
    here = sigma[0] ** 2 * torch.ones(4, dtype=torch.float64)
    for i in range(12):  # x_then = mean of q(x_then | x_now, D x_now) + its noise, as a matrix inverse has it
        of_then, of_now = 1 / sigma[i + 1] ** 2, (alpha[i] / alpha[i + 1]) ** 2
        of_now = of_now / (sigma[i] ** 2 - of_now * sigma[i + 1] ** 2)
        shrink = alpha[i] * data / (alpha[i] ** 2 * data + sigma[i] ** 2)
        if i == 11:
            here = shrink**2 * here
        else:
            left = 1 / (of_then + of_now)
            gain = (
                left * (of_now * alpha[i + 1] / alpha[i] + of_then * alpha[i + 1] * shrink)
                if alpha[i]
                else (alpha[i + 1] * shrink)
            )
            here = gain**2 * here + left
    assert torch.allclose(found, here, rtol=1e-8)


def test_ancestral_samples_are_those_of_the_data_in_the_limit():
    field = gaussian("vp")
    mean, found = moments(Ancestral(1000, "log_snr"), field)
    assert torch.allclose(found, field.covariance.diag(), rtol=0.015)
    assert torch.allclose(mean, field.mean, atol=0.01)


def test_ddim_with_all_noise_is_ancestral():
    path, x = VariancePreserving(), block(VariancePreserving(), 1.0)

    class Same:
        def normal(self, purpose, step, *shape):
            return block_draws().normal("same", step, *shape)

    one = DDIM(9, eta=1.0)(Unknown(path), x, (1.0, 0.0), Same()).x
    other = Ancestral(9)(Unknown(path), x, (1.0, 0.0), Same()).x
    assert torch.allclose(one, other, atol=1e-5)


def algorithm_2(denoised, x, steps, draws, s_churn, s_min, s_max, s_noise):
    """Karras et al., 2022, algorithm 2, in NumPy float64."""
    t = (80 ** (1 / 7) + np.arange(steps) / (steps - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    t = np.append(t, 0)
    for i in range(steps):
        gamma = min(s_churn / steps, np.sqrt(2) - 1) if s_min <= t[i] <= s_max else 0
        raised = t[i] + gamma * t[i]
        x = x + np.sqrt(raised**2 - t[i] ** 2) * s_noise * draws(i)
        slope = (x - denoised(x, raised)) / raised
        ahead = x + (t[i + 1] - raised) * slope
        if t[i + 1]:
            slope = (slope + (ahead - denoised(ahead, t[i + 1])) / t[i + 1]) / 2
            ahead = x + (t[i + 1] - raised) * slope
        x = ahead
    return x


@pytest.mark.parametrize(("s_churn", "s_max"), [(0.0, 50.0), (3.0, 50.0), (40.0, 5.0)])
def test_edm_is_algorithm_2(s_churn, s_max):
    path, x = EDM(), block(EDM(), 80.0).double()
    field, draws = Unknown(path), block_draws()

    def denoised(y, t):
        return field.denoised(torch.from_numpy(y), torch.full((BLOCK,), t, dtype=torch.float64)).numpy()

    noise = [draws.normal("churn", i, *SHAPE).double().numpy() for i in range(18)]
    expected = algorithm_2(denoised, x.numpy(), 18, noise.__getitem__, s_churn, 0.05, s_max, 1.003)
    solver = Stochastic(18, s_churn=s_churn, s_min=0.05, s_max=s_max, s_noise=1.003)
    found = solver(Unknown(path), x, (80.0, 0.0), draws).x
    assert np.allclose(found.numpy(), expected, rtol=1e-8, atol=1e-10)
    if not s_churn:
        assert torch.equal(found, Heun(18)(Unknown(path), x, (80.0, 0.0)).x)


def test_noise_is_raised_on_any_path_but_not_above_its_end():
    for path in (VariancePreserving(), DDPM(50, beta_start=2e-3, beta_end=0.3), EDM(), Linear()):
        field = Unknown(path)
        Stochastic(6, s_min=0.0, s_max=None)(field, block(path, path.end), (path.end, 0.0), block_draws())
        asked = torch.stack(field.asked)[:, 0]
        grid = Stochastic(6).times(path, (path.end, 0.0))
        assert asked.max() <= path.end
        assert asked[2] > grid[1] + 1e-3  # Heun asks twice in the first step
        assert path.steps is None or torch.equal(asked, asked.round())


def test_raised_noise_is_the_noise_of_its_time():
    """What x_0 is in x stays in it, and the noise in x has the variance of the higher level."""
    path, solver = VariancePreserving(), Stochastic(4, s_churn=1.0, s_min=0.0, s_max=None, s_noise=1.0)
    seen = []

    class Seen(Unknown):
        def velocity(self, x, t):
            seen.append((x, t))
            return super().velocity(x, t)

    x = torch.full((1, *SHAPE), 2.0, dtype=torch.float64)
    solver(Seen(path), torch.cat([x, x]), (0.5, 0.0), OneEach(2))
    (moved, still), t = seen[0][0], seen[0][1][:1]
    now = torch.tensor([0.5], dtype=torch.float64)
    kept = path.alpha(t) / path.alpha(now)
    assert path.sigma(t) / path.alpha(t) == pytest.approx(1.25 * path.sigma(now) / path.alpha(now))
    assert torch.allclose(still, kept * x)
    assert torch.allclose((moved - still) ** 2 + (kept * path.sigma(now)) ** 2, path.sigma(t) ** 2)


def test_whole_times_are_like_others():
    """Of a discrete path they come as ints."""
    asked = Asked(Unknown(DDPM(1000)), torch.zeros(1, *SHAPE))
    assert asked.alpha(214) == asked.alpha(214.0) == pytest.approx(0.788, abs=1e-3)
    assert asked.sigma(214) == asked.sigma(214.0) == pytest.approx(0.615, abs=1e-3)


NOISY = [Ancestral(6), DDIM(6, eta=0.7), Stochastic(6, s_max=None)]


@pytest.mark.parametrize("solver", NOISY, ids=["ancestral", "ddim", "stochastic"])
def test_noise_depends_on_block_and_step(solver):
    path = VariancePreserving()
    field, x = Unknown(path), block(path, 1.0)
    one, same, other = (solver(field, x, (1.0, 0.0), block_draws(i)).x for i in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.isclose(one, other).all(1).any()
    names = []

    class Named:
        def normal(self, purpose, step, *shape):
            names.append((purpose, step))
            return block_draws().normal(purpose, step, *shape)

    solver(field, x, (1.0, 0.0), Named())
    assert len(set(names)) == len(names) >= 5


@pytest.mark.parametrize(
    "solver",
    [*NOISY, Euler(6), Heun(6), DDIM(6), DPMSolver(6), Adaptive(1e-3)],
    ids=["ancestral", "ddim-noisy", "stochastic", "euler", "heun", "ddim", "dpm", "adaptive"],
)
def test_a_row_depends_on_no_other(solver):
    """Bit for bit: other rows change, become NaN or infinite, as do the numbers of their calls."""
    path = VariancePreserving()
    x = block(path, 1.0)
    others = block(path, 1.0, seed=6)
    others[7], others[3], others[4] = x[7], torch.nan, torch.inf
    one, other = (solver(Unknown(path), rows, (1.0, 0.0), block_draws()) for rows in (x, others))
    assert torch.equal(one.x[7], other.x[7])
    assert one.calls[7] == other.calls[7]
    assert other.x[3].isnan().all()
    assert other.x[torch.arange(BLOCK) > 4].isfinite().all()
