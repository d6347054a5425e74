"""What the network predicts, on every path: all choices say the same of exact networks, and lose no digits."""

import numpy as np
import pytest
import torch
from support.draws import normal
from support.exact_diffusion import PATHS, ExactNetwork, Gaussian, between, floor

from lit_gen.core.errors import UserError
from lit_gen.models.diffusion.denoiser import Denoiser
from lit_gen.models.diffusion.parametrizations import (
    Data,
    Noise,
    Parametrization,
    Preconditioned,
    Velocity,
    VPrediction,
)
from lit_gen.models.diffusion.paths import EDM, Linear, VariancePreserving

ALL = {
    "noise": Noise(),
    "data": Data(),
    "v": VPrediction(),
    "velocity": Velocity(),
    "preconditioned": Preconditioned(0.7),
}


def fits(path, parametrization):
    try:
        parametrization.check(path)
    except UserError:
        return False
    return True


FITTING = [(p, q) for p in PATHS for q in ALL if fits(PATHS[p], ALL[q])]


class ByEstimate(Parametrization):
    """Another parametrization by its estimate alone: the rest follows in the base class."""

    def __init__(self, other):
        self.estimate = other.estimate


def gaussian(path):
    mean, root = normal(2, 1, 2), normal(4, 4, seed=1)
    return Gaussian(path, mean, root @ root.T / 4)


def test_what_does_not_fit():
    assert {(p, q) for p in PATHS for q in ALL} - set(FITTING) == {
        ("linear", "noise"), ("linear", "v"), ("edm", "v"), ("ddpm", "velocity"), ("cosine", "velocity"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "parametrization", "sentence"),
    [
        (Linear(), Noise(), "Noise was found, but the path Linear ends in noise alone"),
        (EDM(), VPrediction(), r"VPrediction was found, but alpha\^2 \+ sigma\^2 is not 1 on the path EDM; Precond"),
        (PATHS["ddpm"], Velocity(), "Velocity was found, but the times of the path DDPM count steps"),
    ],
)
def test_a_parametrization_refuses_a_path(path, parametrization, sentence):
    with pytest.raises(UserError, match=r"^model\.parametrization: " + sentence):
        parametrization.check(path)


def test_the_deviation_of_data_is_above_0():
    with pytest.raises(UserError, match=r"model\.parametrization\.sigma_data: 0 was found, a number above 0"):
        Preconditioned(0)


@pytest.mark.parametrize(("path", "parametrization"), FITTING)
def test_an_exact_network_gives_the_exact_estimate_and_velocity(path, parametrization):
    path, parametrization = PATHS[path], ALL[parametrization]
    exact, t = gaussian(path), between(path)
    x = path.between(normal(5, 2, 1, 2, seed=2), normal(5, 2, 1, 2, seed=3), t)
    denoiser = Denoiser(ExactNetwork(parametrization, exact), path, parametrization)
    for found, expected in (
        (denoiser.denoised(x, t), exact.denoised(x, t)),
        (denoiser.velocity(x, t), exact.velocity(x, t)),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("path", "parametrization"), FITTING)
def test_what_is_said_twice_agrees(path, parametrization):
    """A choice's own forms are those that follow from its estimate; x_0 and e are what x_t was made of."""
    path, parametrization = PATHS[path], ALL[parametrization]
    t, data, noise = between(path), normal(5, seed=1), normal(5, seed=2)
    x = path.alpha(t) * data + path.sigma(t) * noise
    for name in ("noise", "target", "velocity"):
        found, expected = (getattr(one, name)(path, t) for one in (parametrization, ByEstimate(parametrization)))
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    target = parametrization.target(path, t)
    output = target.first * data + target.second * noise
    rates = path.alpha_rate(t) * data + path.sigma_rate(t) * noise
    for name, expected in (("estimate", data), ("noise", noise), ("velocity", rates)):
        factors = getattr(parametrization, name)(path, t)
        torch.testing.assert_close(factors.first * x + factors.second * output, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("path", "parametrization"), FITTING)
def test_float32_is_as_good_as_it_can_be_from_start_to_end(path, parametrization):
    path, parametrization = PATHS[path], ALL[parametrization]
    t = torch.tensor([max(path.start, 1e-4), path.end])
    if isinstance(parametrization, Data) and isinstance(path, Linear):
        assert parametrization.velocity(path, t).second[1] == -1
    for name in ("estimate", "noise", "target", "velocity"):
        if name == "noise" and isinstance(parametrization, Noise):
            continue
        found, expected = (getattr(parametrization, name)(path, at) for at in (t, t.double()))
        for one, exact in zip(found, expected, strict=True):
            scale = torch.maximum(expected.first.abs(), expected.second.abs())  # the larger of the two decides
            assert ((one.double() - exact).abs() <= 2e-5 * scale).all(), (name, one, exact)


@pytest.mark.parametrize(("path", "parametrization"), FITTING)
def test_nothing_is_undefined_at_data(path, parametrization):
    """Where x_0 = x_t, at t = 0, and at the end."""
    path, parametrization = PATHS[path], ALL[parametrization]
    for time in (0.0, path.end):
        t = torch.tensor([time])
        estimate, target = parametrization.estimate(path, t), parametrization.target(path, t)
        values = [*estimate, parametrization.scale(path, t)]
        rates_exist = time > 0 or isinstance(path, Linear | EDM)
        values += [] if isinstance(parametrization, Velocity) and not rates_exist else target
        values += parametrization.velocity(path, t) if rates_exist and not isinstance(parametrization, Data) else []
        if isinstance(parametrization, Velocity) and not rates_exist:
            values = values[2:]
        assert torch.stack(values).isfinite().all()


@pytest.mark.parametrize("sigma", [0.002, 0.1, 1.0, 80.0])
def test_preconditioning_is_that_of_edm(sigma):
    """The table of the paper, as its published code has it, and the weight with which that code makes the loss."""
    data, t = Preconditioned().sigma_data, torch.tensor([sigma], dtype=torch.float64)
    assert data == 0.5
    skip, out = Preconditioned(data).estimate(EDM(), t)
    expected = [data**2 / (sigma**2 + data**2), sigma * data / np.sqrt(sigma**2 + data**2)]
    expected += [1 / np.sqrt(sigma**2 + data**2), np.log(sigma) / 4]
    found = [skip, out, Preconditioned(data).scale(EDM(), t), EDM().level(t)]
    np.testing.assert_allclose(torch.cat(found), expected, rtol=1e-12)
    weight = (sigma**2 + data**2) / (sigma * data) ** 2
    assert weight * float(out) ** 2 == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("path", ["edm", "linear", "vp"])
def test_preconditioned_input_and_target_have_unit_variance(path):
    path, parametrization, data = PATHS[path], Preconditioned(0.7), 0.7
    t = between(path)
    of_data, of_noise = parametrization.target(path, t)
    of_input = parametrization.scale(path, t).square() * ((path.alpha(t) * data) ** 2 + path.sigma(t) ** 2)
    torch.testing.assert_close((of_data * data) ** 2 + of_noise**2, torch.ones_like(t))
    torch.testing.assert_close(of_input, torch.ones_like(t))


@pytest.mark.parametrize(("path", "parametrization"), FITTING)
def test_the_floor_of_the_loss_is_that_of_the_exact_network(path, parametrization):
    """By sums over a quadrature that is exact for Gaussians: x_0 and e at plus and minus sqrt(3), and 0."""
    path, parametrization = PATHS[path], ALL[parametrization]
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = torch.from_numpy(np.outer(weights, weights).flatten()) / (2 * np.pi)
    data, noise = (torch.from_numpy(a.flatten()) for a in np.meshgrid(nodes, nodes))
    variance, t = 0.3, between(path, 3)
    exact = Gaussian(path, torch.zeros(1, 1, 1), torch.tensor([variance]))
    exact.variances = torch.tensor([variance], dtype=torch.float64)
    denoiser = Denoiser(ExactNetwork(parametrization, exact), path, parametrization)
    for i, least in enumerate(floor(parametrization, path, exact.variances, t)):
        rows = [a.view(-1, 1, 1, 1) for a in (variance**0.5 * data, noise)]
        errors = denoiser.errors(*rows, t[i].expand(9))
        assert float((weights * errors).sum()) == pytest.approx(float(least), rel=1e-6)


def test_the_equivalence_of_variance_preserving_forms():
    """F of `VPrediction` is dx/d(angle), for alpha = cos(angle), as in its paper."""
    path = VariancePreserving()
    t = between(path)
    angle_rate = torch.autograd.functional.jacobian(lambda s: torch.atan2(path.sigma(s), path.alpha(s)).sum(), t)
    factors = VPrediction().velocity(path, t)
    torch.testing.assert_close(factors.first, torch.zeros_like(t), atol=1e-12, rtol=0)
    torch.testing.assert_close(factors.second, angle_rate)
