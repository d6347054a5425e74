"""Every transform, support and dequantization against its Jacobian, in float64, and a density against its integral."""

import math

import pytest
import torch
from support.flow import CLASSES, jacobian, scattered
from torch.distributions import AffineTransform, ComposeTransform, SigmoidTransform

from lit_gen.core.images import level_of, of_level, to_float
from lit_gen.data.images.digits8 import Digits8
from lit_gen.models.flow import dequantization, support, vectors
from lit_gen.models.flow.density import Density

CONDITIONAL = {"conditioning": "concat", "num_classes": CLASSES}
SMALL = {"transforms": 3, "hidden_features": (8,)}
CASES = {  # every transform needs an entry: the options it is tried with
    "RealNVP": [SMALL, SMALL | CONDITIONAL, SMALL | {"dropout": 0.5}],
    "MAF": [SMALL, SMALL | CONDITIONAL],
    "IAF": [SMALL, SMALL | CONDITIONAL],
    "NSF": [SMALL, SMALL | CONDITIONAL, SMALL | {"autoregressive": True, "bins": 3}],
    "LULinear": [{}],
}
FOUND = [(name, options) for name, each in CASES.items() for options in each]
every = pytest.mark.parametrize(("name", "options"), FOUND, ids=[f"{n}-{len(o)}" for n, o in FOUND])


def made(name, shape, options):
    torch.manual_seed(0)
    return getattr(vectors, name)(shape=shape, **options).double().eval()


def given(transform, n=3):
    """Points, and labels where the transform takes them."""
    x = torch.randn(n, *transform.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x, () if transform.num_classes is None else (torch.arange(n) % CLASSES,)


def test_every_transform_is_a_case():
    assert set(vectors.__all__) == set(CASES)


@every
@pytest.mark.parametrize("shape", [(1, 2, 3), (5, 1, 1), (1, 1, 1)])
def test_a_transform_is_a_bijection_with_its_log_determinant(name, options, shape):
    transform = scattered(made(name, shape, options))
    x, labels = given(transform)
    z, log_det = transform(x, *labels)
    assert z.shape == (3, math.prod(shape))
    assert log_det.abs().min() > 1e-3  # far from the identity
    for i in range(len(x)):
        row = [label[i : i + 1] for label in labels]
        slope = jacobian(lambda v, row=row: transform(v, *row)[0], x[i : i + 1])
        torch.testing.assert_close(slope.slogdet().logabsdet, log_det[i], rtol=0, atol=1e-9)
    torch.testing.assert_close(transform.inverse(z, *labels), x, rtol=0, atol=1e-8)


@every
def test_a_transform_begins_as_the_identity(name, options):
    transform = made(name, (1, 2, 3), options)
    x, labels = given(transform)
    density = Density(transform, support=support.Interval(-9, 9))
    coordinates, of_support = density.support(x)
    expected = torch.distributions.Normal(0, 1).log_prob(coordinates).flatten(1).sum(1) + of_support
    torch.testing.assert_close(density.log_prob(x, None, *labels), expected, rtol=0, atol=1e-9)


def test_splines_leave_what_is_outside_of_their_interval():
    transform = scattered(made("NSF", (2, 1, 1), SMALL))
    x = torch.tensor([[5.1, -7.0], [4.9, 0.0]], dtype=torch.float64).view(2, 2, 1, 1)
    z, log_det = transform(x)
    assert torch.equal(z[0], x[0].flatten())
    assert log_det[0] == 0
    assert log_det[1] != 0
    assert transform.interval == 5


SUPPORTS = {
    "RealLine": [lambda: support.RealLine()],
    "Interval": [lambda: support.Interval(-2, 3, 0.0), lambda: support.Interval(-1, 1, 0.01, bound=5.0)],
    "Logit": [lambda: support.Logit(17), lambda: support.Logit(17, 1e-4, bound=5.0)],
    "Standardize": [lambda: standardize()],
}


def standardize():
    made = support.Standardize((1, 2, 2))
    made.fit(torch.arange(4.0).view(1, 2, 2), torch.tensor([0.5, 2.0, 3.0, 4.0]).view(1, 2, 2))
    return made


def test_every_support_is_a_case():
    assert set(SUPPORTS) == set(support.__all__) - {"Support"}


@pytest.mark.parametrize("make", [m for each in SUPPORTS.values() for m in each])
def test_a_support_is_a_bijection_with_its_log_determinant(make):
    one = make().double()
    low, high = getattr(one, "low", -3.0), getattr(one, "high", 3.0)
    x = low + (high - low) * torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    one.check(x)
    coordinates, log_det = one(x)
    for i in range(len(x)):
        slope = jacobian(lambda v: one(v)[0], x[i : i + 1])
        torch.testing.assert_close(slope.slogdet().logabsdet, log_det[i], rtol=0, atol=1e-9)
    torch.testing.assert_close(one.inverse(coordinates), x, rtol=0, atol=1e-9)
    if one.largest is not None:
        ends, _ = one(torch.tensor([low, high], dtype=torch.float64).view(2, 1, 1, 1))
        torch.testing.assert_close(
            ends.flatten(), torch.tensor([-one.largest, one.largest], dtype=torch.float64), rtol=0, atol=1e-9
        )


def test_logit_is_that_of_torch():
    one = support.Logit(17, 0.01, bound=5.0)
    x = 17 * torch.rand(4, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole = ComposeTransform(
        [AffineTransform(0.01, 0.98 / 17), SigmoidTransform().inv, AffineTransform(0.0, 5 / math.log(99))]
    )
    coordinates, log_det = one(x)
    torch.testing.assert_close(coordinates, whole(x), rtol=0, atol=1e-9)
    expected = whole.log_abs_det_jacobian(x, coordinates).flatten(1).sum(1)
    torch.testing.assert_close(log_det, expected, rtol=0, atol=1e-9)


def test_variational_noise_has_its_density():
    one = scattered(dequantization.Variational(17, (1, 2, 2), width=8)).double()
    numbers = torch.arange(12.0, dtype=torch.float64).view(3, 1, 2, 2)
    noise = torch.randn(3, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    u, log_q = one(numbers, noise)
    assert ((u > 0) & (u < 1)).all()
    for i in range(3):
        slope = jacobian(lambda e, i=i: one(numbers[i : i + 1], e)[0], noise[i : i + 1])
        expected = torch.distributions.Normal(0, 1).log_prob(noise[i]).sum() - slope.slogdet().logabsdet
        torch.testing.assert_close(log_q[i], expected, rtol=0, atol=1e-9)
    first = dequantization.Variational(17, (1, 2, 2))(numbers.float(), noise.float())[1]
    assert first.abs().max() < 4 * 0.5  # nearly uniform at first


def test_the_density_with_variational_noise_is_that_of_y_over_that_of_u():
    transform = scattered(made("LULinear", (2, 1, 1), {}), 0.5)
    noise = scattered(dequantization.Variational(3, (2, 1, 1), width=8)).double()
    density = Density(transform, dequantization=noise, support=support.Logit(3))
    plain = Density(transform, support=support.Interval(0.0, 3.0, 0.05))
    numbers = torch.tensor([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]], dtype=torch.float64).view(3, 2, 1, 1)
    drawn = torch.randn(3, 2, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        u, log_q = noise(numbers, drawn)
        found = density.log_prob(of_level(numbers, 3).double(), drawn)
        torch.testing.assert_close(found, plain.log_prob(numbers + u) - log_q, rtol=0, atol=1e-9)
    assert log_q.abs().min() > 0.01


@pytest.mark.parametrize("name", ["RealNVP", "MAF", "NSF"])
def test_a_density_integrates_to_one_on_a_box(name):
    transform = scattered(made(name, (2, 1, 1), SMALL | CONDITIONAL), 0.3)
    density = Density(transform, support=support.Interval(-1.0, 2.0, 0.0))
    ticks = (torch.arange(400, dtype=torch.float64) + 0.5) * (3 / 400) - 1
    points = torch.cartesian_prod(ticks, ticks).view(-1, 2, 1, 1)
    with torch.no_grad():
        nats = density.log_prob(points, None, torch.full((len(points),), 1))
    assert float(nats.exp().sum() * (3 / 400) ** 2) == pytest.approx(1, abs=5e-4)


def test_samples_are_rounded_down_to_a_level():
    density = Density(vectors.LULinear((1, 2, 2)), dequantization=dequantization.Uniform(17))  # the identity
    drawn = density(torch.tensor([[3.7, -0.2, 16.9, 40.0]]))
    assert level_of(drawn, 17).flatten().tolist() == [3, 0, 16, 16]


def test_affine_flows_reach_the_gaussian():
    """Of all digits: the expectation over uniform noise is exact, of mean level + 1/2 and with 1/12 more variance."""
    digits = Digits8()
    train, test = (level_of(to_float(digits.split(s).images), 17).flatten(1).double() for s in ("train", "test"))
    center, size = train.mean(0) + 0.5, train.shape[1]
    covariance = (train + 0.5 - center).T @ (train + 0.5 - center) / len(train) + torch.eye(size) / 12

    def gaussian(second):
        """Nats of points with these second moments around ``center``, of which only the trace of a product counts."""
        of = torch.linalg.solve(covariance, second).trace() + covariance.logdet() + size * math.log(2 * math.pi)
        return float(of / 2)

    transform = vectors.LULinear((1, 8, 8)).double()
    scale = covariance.diagonal().sqrt()

    def nll(mean, root):
        """Of points with this mean and root L of their covariance LL': an affine f takes them to f(mean), f(columns).

        Coordinates are standardized, with the log-determinant counted.
        """
        both = torch.cat([mean[None], mean + root.T]) - center
        z, log_det = transform((both / scale).view(-1, 1, 8, 8))
        squares = z[0].square().sum() + (z[1:] - z[0]).square().sum()
        return squares / 2 + size / 2 * math.log(2 * math.pi) - log_det[0] + scale.log().sum()

    root = torch.linalg.cholesky(covariance)
    optimizer = torch.optim.LBFGS(
        transform.parameters(), max_iter=3000, history_size=100, tolerance_grad=1e-9, tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        optimizer.zero_grad()
        loss = nll(center, root)
        loss.backward()
        return loss

    optimizer.step(closure)
    held_out = test + 0.5 - test.mean(0) - 0.5
    of_test = held_out.T @ held_out / len(test) + torch.eye(size) / 12
    away = (test.mean(0) + 0.5 - center)[:, None]
    with torch.no_grad():
        assert float(nll(center, root)) == pytest.approx(gaussian(covariance), abs=1e-6)
        found = float(nll(test.mean(0) + 0.5, torch.linalg.cholesky(of_test)))
    assert found == pytest.approx(gaussian(of_test + away @ away.T), abs=1e-3)
    assert gaussian(of_test + away @ away.T) == pytest.approx(131.506, abs=1e-3)
