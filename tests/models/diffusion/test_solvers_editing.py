"""Editing with an unconditional model: what is kept is kept exactly, and the rest is the posterior's."""

import pytest
import torch
from support.draws import normal
from support.exact_diffusion import PATHS, Gaussian
from support.solving import SHAPE, Unknown, block_draws, gaussian

from lit_gen.core.errors import UserError
from lit_gen.models.diffusion.paths import DDPM, EDM, Linear, VariancePreserving
from lit_gen.models.diffusion.solvers.adaptive import Adaptive
from lit_gen.models.diffusion.solvers.editing import Edited, begin, edited
from lit_gen.models.diffusion.solvers.ode import DPMSolver, Euler, Heun
from lit_gen.models.diffusion.solvers.sde import DDIM, Ancestral, Stochastic

MASK = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).view(1, 1, 2, 2).expand(64, -1, -1, -1)
SOLVERS = [Euler(8), Heun(8), DDIM(8), DDIM(8, eta=1.0), DPMSolver(8), Ancestral(8), Stochastic(8), Adaptive(1e-3)]


def given(seed=0):
    """Images and noise of a block."""
    return normal(64, *SHAPE, seed=10 + seed), normal(64, *SHAPE, seed=20 + seed)


@pytest.mark.parametrize("path", [Linear(), EDM(), VariancePreserving(), DDPM(40, beta_start=2.5e-3, beta_end=0.5)])
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: "-".join(str(v) for v in s.settings.values()))
def test_what_is_kept_is_the_image_bit_for_bit(solver, path):
    images, noise = given()
    for strength in (1.0, 0.6):
        found = edited(solver, Unknown(path), noise, images, MASK, strength, block_draws()).x
        assert torch.equal(found[MASK == 0], images[MASK == 0])
        assert not torch.isclose(found[MASK > 0], images[MASK > 0]).any()


@pytest.mark.parametrize("path", ["linear", "edm", "vp"])
def test_what_is_kept_is_on_the_line_from_its_noise_to_the_image(path):
    """At any time x is alpha x_0 + sigma e with the noise that it began with."""
    path = PATHS[path]
    images, noise = given()
    field, seen = Edited(Unknown(path), images, MASK), []

    class Seen:
        path, calls = field.path, field.calls

        def velocity(self, x, t):
            seen.append((x, t))
            return field.velocity(x, t)

        denoised = field.denoised

    x = path.between(images, noise, torch.full((64,), path.end, dtype=torch.float64))
    Adaptive(1e-9, 1e-9)(Seen(), x, (path.end, 0.1))
    for x, t in seen[-20:]:
        expected = path.between(images, noise, t)
        assert torch.allclose(x[MASK == 0], expected[MASK == 0], atol=1e-4)


def test_the_velocity_is_that_of_the_estimate():
    """Blended by a mask of any numbers."""
    path, (images, x) = VariancePreserving(), given()
    mask = normal(64, 1, 2, 2, seed=3).sigmoid()
    field, t = Edited(Unknown(path), images, mask), torch.full((64,), 0.3, dtype=torch.float64)

    class Whole(Unknown):
        def denoised(self, x, t):
            return field.denoised(x, t)

    assert torch.allclose(field.velocity(x, t), Whole(path).velocity(x, t))
    assert torch.equal(field.calls(t), torch.ones(64, dtype=torch.int64))


def test_nothing_is_left_of_what_is_filled_in():
    """At strength 1 the image does not count where the mask is 1, not even on a path that keeps all of the data."""
    images, noise = given()
    others = torch.where(MASK > 0, given(1)[0], images)
    one, other = (edited(Heun(6), Unknown(EDM()), noise, data, MASK).x for data in (images, others))
    assert torch.equal(one, other)


def test_a_filled_pixel_knows_what_it_goes_with():
    """Of Gaussian data whose pixels are nearly equal, what is filled in is near what is kept."""
    covariance = torch.full((4, 4), 1.0, dtype=torch.float64) + 1e-4 * torch.eye(4, dtype=torch.float64)
    path = PATHS["edm"]
    field = Gaussian(path, torch.zeros(SHAPE, dtype=torch.float64), covariance)
    value = normal(64, 1, 1, 1, seed=2)
    found = edited(Ancestral(200), field, given()[1], value.expand(-1, *SHAPE), MASK, draws=block_draws()).x
    assert (found - value).abs().max() < 0.15
    assert (value.max() - value.min()) > 2


@pytest.mark.parametrize(("strength", "count"), [(1.0, 50), (0.6, 30), (0.29, 14), (0.02, 1)])
def test_strength_is_the_share_of_steps(strength, count):
    """As in diffusers, int(50 * strength), but for rounding errors."""
    path, (images, noise) = DDPM(1000), given()
    solver, time = begin(Heun(50), path, strength)
    assert solver.steps == count
    assert time == 20 * count
    field = Unknown(path)
    solved = edited(DDIM(50), field, noise, images, strength=strength)
    asked = torch.stack(field.asked)[:, 0]
    assert asked.tolist() == [20.0 * i for i in range(count, 0, -1)]
    assert torch.equal(solved.calls, torch.full((64,), float(count), dtype=torch.float64))


@pytest.mark.parametrize("spacing", ["path", "uniform", "karras", "log_snr"])
@pytest.mark.parametrize("path", [EDM(), VariancePreserving()])
def test_the_last_steps_are_those_of_all(spacing, path):
    all_times = Heun(12, spacing).times(path, (path.end, 0.0))
    solver, time = begin(Heun(12, spacing), path, 0.5)
    assert solver.times(path, (time, 0.0)) == pytest.approx(all_times[6:], rel=1e-9)


def test_the_last_steps_add_as_much_noise():
    """Gamma of algorithm 2 is s_churn by the number of all steps."""
    solver, _ = begin(Stochastic(20, s_churn=4.0), EDM(), 0.25)
    assert (solver.steps, solver.s_churn) == (5, 1.0)


def test_an_edit_begins_with_the_image_and_its_noise():
    path, (images, noise) = PATHS["linear"], given()
    field = Unknown(path)
    found = edited(Euler(10), field, noise, images, strength=0.1).x
    expected = field.denoised(0.9 * images + 0.1 * noise, torch.full((64,), 0.1, dtype=torch.float64))
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_a_solver_without_steps_begins_at_a_share_of_the_grid():
    assert begin(Adaptive(), Linear(), 0.25)[1] == pytest.approx(0.25)
    assert begin(Adaptive(), DDPM(100, beta_start=1e-3, beta_end=0.2), 0.25)[1] == 25
    assert begin(Adaptive(), EDM(), 0.5)[1] == pytest.approx(2.5, rel=0.01)
    assert begin(Adaptive(), EDM(), 1.0)[1] == 80
    assert 0 < begin(Adaptive(), EDM(), 1e-6)[1] < 0.0021


def test_a_weak_edit_is_near_the_image_and_a_strong_one_is_not():
    field, (images, noise) = gaussian("linear"), given()
    images = field.mean.view(SHAPE) + images * field.variances.sqrt().view(SHAPE)
    far = [(edited(Heun(40), field, noise, images, strength=s).x - images).abs().mean() for s in (0.05, 0.3, 1.0)]
    assert far[0] < 0.1 < far[1] < far[2]


@pytest.mark.parametrize(
    ("strength", "told"),
    [
        (0.0, "--strength: 0.0 was found, a number above 0, at most 1, is expected"),
        (1.1, "--strength: 1.1 was found"),
        (float("nan"), "--strength: nan was found"),
        (0.01, "--strength: 0.01 was found, at least 0.05 is expected: one of 20 steps"),
    ],
)
def test_a_strength_out_of_range_is_refused(strength, told):
    with pytest.raises(UserError, match=told):
        begin(Heun(20), EDM(), strength)
