"""Solvers with a fixed number of steps: order against the exact solution, ends, what they count and refuse."""

import math

import pytest
import torch
from support.exact_diffusion import PATHS
from support.solving import Guided, Unknown, block, block_draws, gaussian, slope, start

from lit_gen.core.errors import UserError
from lit_gen.models.diffusion.paths import DDPM, EDM, Linear, VariancePreserving
from lit_gen.models.diffusion.solvers.adaptive import Adaptive
from lit_gen.models.diffusion.solvers.names import SOLVERS, solver_of
from lit_gen.models.diffusion.solvers.ode import DPMSolver, Euler, Heun
from lit_gen.models.diffusion.solvers.sde import DDIM, Ancestral, Stochastic

STEPWISE = [Euler, Heun, DDIM, DPMSolver, Ancestral, Stochastic]


@pytest.mark.parametrize(
    ("solver", "path", "span", "order", "within"),
    [
        (Euler, "linear", (1.0, 0.0), 1, 0.05),
        (Euler, "edm", (80.0, 0.5), 1, 0.05),
        (Euler, "vp", (1.0, 0.01), 1, 0.05),
        (Euler, "linear", (0.0, 1.0), 1, 0.05),
        (Heun, "linear", (1.0, 0.0), 2, 0.1),
        (Heun, "edm", (80.0, 0.5), 2, 0.1),
        (Heun, "vp", (1.0, 0.01), 2, 0.1),
        (Heun, "linear", (0.0, 1.0), 2, 0.1),
        (Heun, "vp", (0.01, 1.0), 2, 0.1),
        (DDIM, "linear", (1.0, 0.0), 1, 0.05),
        (DDIM, "vp", (1.0, 0.01), 1, 0.05),
        (DDIM, "edm", (0.5, 80.0), 1, 0.05),
        (DPMSolver, "edm", (80.0, 0.5), 2, 0.1),
        (DPMSolver, "vp", (1.0, 0.01), 2, 0.1),
        (DPMSolver, "linear", (0.9, 0.1), 2, 0.1),
    ],
)
def test_a_solver_has_its_order(solver, path, span, order, within):
    assert abs(slope(solver, path, span) - order) < within


@pytest.mark.parametrize("spacing", ["karras", "log_snr"])
def test_spacings_by_noise_keep_the_order(spacing):
    assert abs(slope(DPMSolver, "vp", (1.0, 0.01), spacing) - 2) < 0.1
    assert abs(slope(Heun, "vp", (1.0, 0.01), spacing) - 2) < 0.1


def test_the_grids_are_what_their_names_say():
    vp, edm = PATHS["vp"], PATHS["edm"]
    assert Euler(4, "uniform").times(edm, (80.0, 0.0)) == [80.0, 60.0, 40.0, 20.0, 0.0]
    levels = [(80 ** (1 / 7) + i / 3 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(4)]
    for spacing in ("path", "karras"):
        assert Euler(4, spacing).times(edm, (80.0, 0.0)) == pytest.approx([*levels, 0.0], rel=1e-12)
    times = torch.tensor(Euler(6, "log_snr").times(vp, (1.0, 0.0)), dtype=torch.float64)
    assert (times[0], times[-1]) == (1, 0)
    assert float(times[-2]) == pytest.approx(vp.start, rel=1e-9)
    gaps = (vp.sigma(times[:-1]) / vp.alpha(times[:-1])).log().diff()
    assert gaps == pytest.approx(gaps[0].repeat(5), rel=1e-9)
    assert Euler(3, "log_snr").times(edm, (8.0, 1.0)) == pytest.approx([8.0, 4.0, 2.0, 1.0])
    assert Euler(3, "log_snr").times(edm, (1.0, 8.0)) == pytest.approx([1.0, 2.0, 4.0, 8.0])
    whole = Euler(5, "log_snr").times(DDPM(100, beta_start=1e-3, beta_end=0.2), (100.0, 0.0))
    assert whole == [float(round(t)) for t in whole]


@pytest.mark.parametrize("solver", STEPWISE)
def test_the_last_step_is_the_estimate_of_the_data(solver):
    """And the only one, where there is one step."""
    path = VariancePreserving()
    field, x = Unknown(path), block(path, 1.0)
    solved = solver(1)(field, x, (1.0, 0.0), block_draws())
    assert torch.equal(solved.x, field.denoised(x, torch.ones(64)))
    assert torch.equal(solved.calls, torch.ones(64, dtype=torch.float64))


@pytest.mark.parametrize("solver", [Euler, Heun, DDIM])
def test_the_first_step_from_data_asks_nothing(solver):
    """E[e | x_0] = 0."""
    field, path = gaussian("vp"), PATHS["vp"]
    x = start(path, 1.0)
    solved = solver(1)(field, x, (0.0, 0.3))
    assert torch.allclose(solved.x, path.alpha(torch.tensor(0.3, dtype=torch.float64)) * x)
    assert not solved.calls.any()


def test_straight_lines_are_exact_in_any_number_of_steps():
    """With one point of data every solver of the ODE on the linear path hits it, and is on the line before."""
    point = torch.tensor([[[0.25, -2.0], [1.0, 3.0]]], dtype=torch.float64)
    field, path = gaussian("linear"), PATHS["linear"]
    field.mean, field.variances = point.flatten(), torch.zeros(4, dtype=torch.float64)
    x = start(path, 1.0)
    for solver in (Euler(3), Heun(3), DDIM(3), DPMSolver(3), Adaptive()):
        assert torch.allclose(solver(field, x, (1.0, 0.0)).x, point.expand(3, -1, -1, -1))
        assert torch.allclose(solver(field, x, (1.0, 0.4)).x, 0.6 * point + 0.4 * x)


def test_data_come_back_from_their_noise():
    field, x = gaussian("linear"), start(PATHS["linear"], 1.0)
    for solver in (Heun(200), Adaptive()):
        there = solver(field, x, (0.0, 1.0)).x
        assert torch.allclose(solver(field, there, (1.0, 0.0)).x, x, atol=2e-3)


@pytest.mark.parametrize("solver", STEPWISE)
@pytest.mark.parametrize("path", [Linear(), VariancePreserving(), EDM(), DDPM(20, beta_start=0.005, beta_end=0.3)])
def test_calls_are_those_of_the_network(solver, path):
    field, free = Guided(path), DDPM in type(path).__mro__
    solved = solver(7)(field, block(path, path.end), (path.end, 0.0), block_draws())
    times = torch.stack(field.asked)
    assert solved.x.isfinite().all()
    assert torch.equal(solved.calls, (1 + (times > path.end / 2).double()).sum(0))
    assert len(times) == (13 if issubclass(solver, Heun) else 7)
    assert not free or torch.equal(times, times.round())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Euler(0), "model.solver.steps: 0 was found, a whole number of at least 1 is expected"),
        (lambda: Heun(5, "log-snr"), "model.solver.spacing: 'log-snr' was found.*did you mean .log_snr"),
        (lambda: DDIM(eta=1.5), r"model.solver.eta: 1.5 was found, a number in \[0, 1\] is expected"),
        (lambda: DDIM(eta=math.nan), "model.solver.eta: nan"),
        (lambda: Ancestral(variance="larg"), "model.solver.variance: 'larg' was found.*large"),
        (lambda: Stochastic(s_churn=-1.0), "model.solver.s_churn: -1.0 was found"),
    ],
)
def test_options_out_of_range_are_refused(make, sentence):
    with pytest.raises(UserError, match=sentence):
        make()


@pytest.mark.parametrize(
    ("solver", "path", "span", "sentence"),
    [
        (Euler(5), "linear", (1.5, 0.0), r"span: \(1.5, 0.0\) was found, times from 0 to 1 are expected"),
        (Euler(5), "linear", (math.nan, 0.0), "span: .*nan.* was found, times from 0 to 1"),
        (Adaptive(), "linear", (1.0, -0.1), "span: .*times from 0 to 1"),
        (Euler(5), "linear", (0.5, 0.5), "span: .*two different times"),
        (Euler(5), "ddpm", (500.5, 0.0), "span: .*whole numbers are expected"),
        (Euler(1001), "ddpm", (1000.0, 0.0), "model.solver.steps: 1001 was found, .*DDPM has 1000 steps.*at most 1000"),
        (Euler(300, "karras"), "ddpm", (1000.0, 0.0), "model.solver.steps: 300 was found, .*'karras' on the path DDPM"),
        (Euler(5, "log_snr"), "linear", (1.0, 0.0), "spacing: 'log_snr' was found, but the path Linear has no least"),
        (Euler(5, "karras"), "linear", (1.0, 0.1), "the path Linear is nothing but noise at time 1; path or uniform"),
        (DPMSolver(5), "edm", (0.0, 80.0), r"span: \(0.0, 80.0\) was found, a larger time first .*DPMSolver"),
        (Ancestral(5), "edm", (0.0, 80.0), "a larger time first .*Ancestral"),
        (Stochastic(5), "edm", (0.0, 80.0), "a larger time first .*Stochastic"),
        (DDIM(5, eta=0.1), "edm", (0.0, 80.0), "a larger time first .*DDIM"),
        (Ancestral(5), "edm", (80.0, 0.0), "draws: None was found, draws by index are expected"),
        (DDIM(5, eta=0.1), "edm", (80.0, 0.0), "draws: None was found"),
        (Stochastic(5), "edm", (80.0, 0.0), "draws: None was found"),
    ],
)
def test_what_a_path_cannot_do_is_refused(solver, path, span, sentence):
    with pytest.raises(UserError, match=sentence):
        solver(gaussian(path), torch.zeros(3, 1, 2, 2), span)


def test_check_tells_before_anything_is_drawn():
    for solver in (Heun(5), DDIM(5), Adaptive()):
        for path in PATHS.values():
            solver.check(path)
    with pytest.raises(UserError, match="has no least level"):
        DPMSolver(5, "log_snr").check(Linear())


def test_settings_are_class_and_arguments():
    assert Heun(20).settings == {"class": "Heun", "steps": 20, "spacing": "path"}
    assert DDIM(20, eta=0.5).settings == {"class": "DDIM", "steps": 20, "spacing": "path", "eta": 0.5}
    assert Adaptive(1e-3).settings == {"class": "Adaptive", "rtol": 1e-3, "atol": 1e-5, "max_calls": 10_000}
    assert Stochastic(5, s_max=None).settings["s_max"] is None


def test_a_name_and_steps_choose_a_solver():
    default = Heun(30, "uniform")
    kinds = [Euler, Heun, Ancestral, DDIM, DPMSolver, Stochastic, Adaptive]
    assert [type(solver_of(name, None, Adaptive())) for name in SOLVERS] == kinds
    assert solver_of(None, None, default) is default
    assert solver_of("heun", None, default) is default  # whose other options are kept
    assert solver_of("heun", 7, default).settings == {"class": "Heun", "steps": 7, "spacing": "uniform"}
    assert solver_of(None, 7, default).settings == {"class": "Heun", "steps": 7, "spacing": "uniform"}
    assert default.steps == 30
    assert solver_of("ddim", 7, default).settings == DDIM(7).settings
    assert solver_of("ddim", None, default).settings == DDIM().settings


@pytest.mark.parametrize(
    ("name", "steps", "sentence"),
    [
        ("huen", None, "--solver: 'huen' was found, one of euler, heun, .* is expected; did you mean .heun"),
        ("heun", 0, "--steps: 0 was found, a whole number of at least 1 is expected"),
        ("heun", 2.5, "--steps: 2.5 was found"),
        ("heun", "x", "--steps: 'x' was found"),
        ("adaptive", 20, "--steps: 20 was found, but Adaptive chooses its steps; of --solver euler, "),
    ],
)
def test_a_name_that_is_none_is_refused(name, steps, sentence):
    with pytest.raises(UserError, match=sentence):
        solver_of(name, steps, Euler(5))
