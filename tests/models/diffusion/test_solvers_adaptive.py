"""The adaptive solver against SciPy's of the same method: the same steps for every row, within the tolerance."""

import numpy as np
import pytest
import torch
from support.exact_diffusion import PATHS
from support.solving import SHAPE, Guided, Unknown, gaussian, start

from lit_gen.core.errors import UserError
from lit_gen.models.diffusion.paths import VariancePreserving, column
from lit_gen.models.diffusion.solvers.adaptive import Adaptive


def scipys(field, row, first, last, tolerance):
    """SciPy's solution of one row, and its calls."""
    integrate = pytest.importorskip("scipy.integrate")

    def velocity(t, x):
        return (
            field.velocity(torch.from_numpy(x).view(1, *SHAPE), torch.tensor([t], dtype=torch.float64))
            .flatten()
            .numpy()
        )

    found = integrate.solve_ivp(
        velocity, (first, last), row.flatten().numpy(), method="RK45", rtol=tolerance, atol=tolerance
    )
    return found.y[:, -1], found.nfev


@pytest.mark.parametrize(("path", "first", "last"), [("vp", 1.0, 0.01), ("edm", 80.0, 0.002), ("linear", 0.1, 1.0)])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
def test_every_row_goes_as_scipy_goes_with_it_alone(path, first, last, tolerance):
    field = gaussian(path)
    x = start(PATHS[path], first) * torch.tensor([0.1, 1.0, 5.0]).view(3, 1, 1, 1)
    solved = Adaptive(tolerance, tolerance)(field, x, (first, last))
    for i in range(3):
        expected, calls = scipys(field, x[i], first, last, tolerance)
        assert np.allclose(solved.x[i].flatten(), expected, rtol=1e-9, atol=1e-9)
        assert solved.calls[i] == calls


def test_the_error_is_of_the_size_of_the_tolerance():
    field, x = gaussian("vp"), start(PATHS["vp"], 1.0)
    exact = field.solution(x, 1.0, 0.01)
    for tolerance in (1e-3, 1e-5, 1e-7):
        error = (Adaptive(tolerance, tolerance)(field, x, (1.0, 0.01)).x - exact).abs().max()
        assert error < 20 * tolerance


@pytest.mark.parametrize("path", ["vp", "edm", "linear", "ddpm"])
def test_the_ends_are_at_the_least_time(path):
    """Down to data and up from them; Gaussian data, so that the exact solution is known."""
    field, path = gaussian(path), PATHS[path]
    x = start(path, path.end)
    found = Adaptive(1e-6, 1e-6)(field, x, (path.end, 0.0)).x
    assert torch.allclose(found, field.solution(x, path.end, 0.0), atol=2e-3)
    data = found.clone()
    up = Adaptive(1e-6, 1e-6)(field, data, (0.0, path.end)).x
    assert torch.allclose(up, x, rtol=0, atol=2e-3 * path.end if path.end == 80 else 1e-2)


def test_spans_below_the_least_time():
    field, path = Unknown(PATHS["vp"]), PATHS["vp"]
    x, t = start(path, 1.0), torch.full((3,), 5e-4, dtype=torch.float64)
    down = Adaptive()(field, x, (5e-4, 0.0))
    assert torch.equal(down.x, field.denoised(x, t))
    assert torch.equal(down.calls, torch.ones(3, dtype=torch.float64))
    up = Adaptive()(field, x, (0.0, 5e-4))
    assert torch.equal(up.x, column(path.alpha(t), x) * x)
    assert not up.calls.any()


def test_calls_of_a_row_are_those_it_needs():
    """As many for a row alone as beside others, and twice as many where guidance doubles them."""
    path = VariancePreserving()
    x = start(path, 1.0) * torch.tensor([0.01, 1.0, 30.0]).view(3, 1, 1, 1)
    together = Adaptive(1e-4, 1e-4)(Unknown(path), x, (1.0, 0.0))
    alone = [Adaptive(1e-4, 1e-4)(Unknown(path), x[i : i + 1], (1.0, 0.0)) for i in range(3)]
    assert together.calls.tolist() == [float(one.calls) for one in alone]
    assert len(set(together.calls.tolist())) == 2
    field = Guided(path)
    solved = Adaptive(1e-4, 1e-4)(field, x[1:2], (1.0, 0.0))
    times = torch.cat(field.asked)
    assert float(solved.calls) == len(times) + int((times > 0.5).sum())


def test_a_row_that_is_solved_stays_as_it_is():
    """Others go on; the field is asked for it too, at its last time."""
    path = VariancePreserving()
    field, x = Unknown(path), start(path, 1.0) * torch.tensor([0.01, 1.0, 30.0]).view(3, 1, 1, 1)
    solved = Adaptive(1e-6, 1e-6)(field, x, (1.0, 0.1))
    done = int(solved.calls.argmin())
    late = torch.stack(field.asked)[int(solved.calls.min()) :, done]
    assert len(late)
    assert torch.equal(late, torch.full_like(late, 0.1))
    assert torch.equal(solved.x[done], Adaptive(1e-6, 1e-6)(Unknown(path), x[done : done + 1], (1.0, 0.1)).x[0])


class Rough(Unknown):
    """A field that no step is small enough for."""

    def velocity(self, x, t):
        return torch.sin(1e9 * x) * 1e3


def test_too_many_calls_are_told():
    path = VariancePreserving()
    with pytest.raises(UserError, match=r"model.solver.max_calls: after 50 calls .* 3 of 3 samples .* at time 1; "):
        Adaptive(max_calls=50)(Rough(path), start(path, 1.0), (1.0, 0.0))


@pytest.mark.parametrize("name", ["rtol", "atol", "max_calls"])
def test_numbers_out_of_range_are_refused(name):
    with pytest.raises(UserError, match=f"model.solver.{name}: 0 was found"):
        Adaptive(**{name: 0})
