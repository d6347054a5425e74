"""Schedules and levels of an independent implementation, which counts steps from 0."""

import pytest
import torch

from lit_gen.models.diffusion.parametrizations import Data, Noise, Preconditioned, VPrediction
from lit_gen.models.diffusion.paths import DDPM, EDM

pytestmark = pytest.mark.slow  # the import alone takes some 10 s


@pytest.fixture(scope="module")
def schedulers():
    return pytest.importorskip("diffusers.schedulers", reason="needs diffusers", exc_type=ImportError)


@pytest.mark.parametrize(("schedule", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_steps(schedulers, schedule, theirs):
    expected = schedulers.DDPMScheduler(1000, beta_schedule=theirs).alphas_cumprod.double()  # a product of float32
    t = torch.arange(1, 1001, dtype=torch.float64)
    torch.testing.assert_close(DDPM(1000, schedule).alpha(t) ** 2, expected, rtol=2e-4, atol=1e-9)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_noise_and_targets(schedulers, kind):
    scheduler, path = schedulers.DDPMScheduler(1000, prediction_type=kind), DDPM(1000)
    parametrization = {"epsilon": Noise(), "sample": Data(), "v_prediction": VPrediction()}[kind]
    t, (x, e) = torch.tensor([1, 300, 1000]), torch.linspace(-2, 3, 6).view(2, 3, 1)
    noisy = path.between(x, e, t.float())
    torch.testing.assert_close(noisy, scheduler.add_noise(x, e, t - 1), rtol=1e-4, atol=1e-5)
    first, second = (factor[:, None] for factor in parametrization.target(path, t.float()))
    output = first * x + second * e
    expected = {"epsilon": e, "sample": x, "v_prediction": scheduler.get_velocity(x, e, t - 1)}[kind]
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [7, 50, 999])
def test_grids(schedulers, steps):
    scheduler = schedulers.DDIMScheduler(1000, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    assert DDPM(1000).grid(1000.0, steps)[:-1].tolist() == [int(t) + 1 for t in scheduler.timesteps]
    scheduler = schedulers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0)
    scheduler.set_timesteps(steps)
    torch.testing.assert_close(EDM().grid(80.0, steps).float(), scheduler.sigmas, rtol=1e-4, atol=0)


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_preconditioning(schedulers, sigma):
    scheduler, parametrization, t = schedulers.EDMEulerScheduler(), Preconditioned(0.5), torch.tensor([sigma])
    x, output = torch.tensor([1.5, -0.3]), torch.tensor([0.2, 0.9])
    skip, out = parametrization.estimate(EDM(), t)
    expected = scheduler.precondition_outputs(x, output, sigma)
    torch.testing.assert_close(skip * x + out * output, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(parametrization.scale(EDM(), t) * x, scheduler.precondition_inputs(x, sigma))
    torch.testing.assert_close(EDM().level(t)[0], scheduler.precondition_noise(sigma)[0])
