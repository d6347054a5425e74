"""Solvers against the schedulers of diffusers, an independent implementation, with the same denoiser and noise."""

import pytest
import torch
from support.draws import normal
from support.solving import SHAPE, Unknown, start

from lit_gen.models.diffusion.paths import DDPM, EDM, column
from lit_gen.models.diffusion.solvers.ode import DPMSolver, Euler
from lit_gen.models.diffusion.solvers.sde import DDIM, Ancestral

pytestmark = [
    pytest.mark.slow,  # the import of diffusers alone takes some 10 s
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


@pytest.fixture(scope="module")
def diffusers():
    return pytest.importorskip("diffusers")


class Draws:
    """Noise of a step, for any number of rows."""

    def normal(self, purpose, step, *shape):
        return normal(3, *shape, seed=100 + step)


def scheduled(scheduler, path, steps, **options):
    """What a scheduler makes of the noise: it is given the noise that the denoiser leaves, and counts from 0."""
    field, x = Unknown(path), start(path, path.end)
    scheduler.set_timesteps(steps)
    for i, step in enumerate(scheduler.timesteps):
        t = torch.full((3,), float(step) + 1, dtype=torch.float64)
        noise = (x - column(path.alpha(t), x) * field.denoised(x, t)) / column(path.sigma(t), x)
        x = scheduler.step(noise, step, x, **{name: value(i) for name, value in options.items()}).prev_sample
    return x


def solved(solver, path):
    return solver(Unknown(path), start(path, path.end), (path.end, 0.0), Draws()).x


def close(found, expected):
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def noise_of(step):
    return normal(3, *SHAPE, seed=100 + step)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_ddim(diffusers, schedule, eta):
    scheduler = diffusers.DDIMScheduler(
        beta_schedule=SCHEDULES[schedule], beta_start=1e-4, clip_sample=False, timestep_spacing="trailing"
    )
    expected = scheduled(
        scheduler, DDPM(1000, schedule), 20, eta=lambda _: eta, variance_noise=lambda i: noise_of(i) if eta else None
    )
    close(solved(DDIM(20, eta=eta), DDPM(1000, schedule)), expected)


@pytest.mark.parametrize(("steps", "variance"), [(50, "small"), (200, "large")])
def test_ancestral(diffusers, monkeypatch, steps, variance):
    """200 are all steps; with fewer the scheduler's larger variance adds noise to data."""
    path = DDPM(200, beta_start=5e-4, beta_end=0.1)
    scheduler = diffusers.DDPMScheduler(
        200, 5e-4, 0.1, variance_type=f"fixed_{variance}", clip_sample=False, timestep_spacing="trailing"
    )
    counted = iter(range(steps))
    module = "diffusers.schedulers.scheduling_ddpm.randn_tensor"
    monkeypatch.setattr(module, lambda *_, **__: noise_of(next(counted)))
    close(solved(Ancestral(steps, variance=variance), path), scheduled(scheduler, path, steps))


@pytest.mark.parametrize("steps", [10, 25])  # fewer than 15 end with lower order by another rule
def test_dpm_solver(diffusers, steps):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        beta_start=1e-4, timestep_spacing="trailing", algorithm_type="dpmsolver++", solver_order=2
    )
    close(solved(DPMSolver(steps), DDPM(1000)), scheduled(scheduler, DDPM(1000), steps))


def test_ddim_is_euler_in_the_level_of_noise(diffusers):
    """The scheduler holds x / alpha, whose velocity is the noise."""
    path, field = DDPM(1000), Unknown(DDPM(1000))
    scheduler = diffusers.EulerDiscreteScheduler(beta_start=1e-4, timestep_spacing="trailing")
    scheduler.set_timesteps(20)
    x = start(path, 1000) / float(path.alpha(torch.tensor([1000.0], dtype=torch.float64)))
    for step in scheduler.timesteps:
        t = torch.full((3,), float(step) + 1, dtype=torch.float64)
        alpha = column(path.alpha(t), x)
        data = field.denoised(alpha * x, t)
        scheduler.is_scale_input_called = True
        x = scheduler.step((x - data) / (column(path.sigma(t), x) / alpha), step, x).prev_sample
    close(solved(DDIM(20), path), x)


@pytest.mark.parametrize(
    ("solver", "name"), [(Euler, "EDMEulerScheduler"), (DPMSolver, "EDMDPMSolverMultistepScheduler")]
)
def test_on_the_path_of_edm(diffusers, solver, name):
    path, field = EDM(), Unknown(EDM())
    scheduler = getattr(diffusers, name)(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5)
    scheduler.set_timesteps(20)
    x = start(path, 80.0)
    for i, step in enumerate(scheduler.timesteps):
        t = torch.full((3,), float(scheduler.sigmas[i]), dtype=torch.float64)
        kept, out = (0.25 / (t**2 + 0.25), t * 0.5 / (t**2 + 0.25).sqrt())
        scheduler.is_scale_input_called = True
        x = scheduler.step((field.denoised(x, t) - column(kept, x) * x) / column(out, x), step, x).prev_sample
    close(solved(solver(20), path), x)
