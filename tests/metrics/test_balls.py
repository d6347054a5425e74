"""Precision and recall against brute force: near zero, far away, at ties, and where float32 cannot decide."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gen.metrics import balls, kernel, pair
from lit_gen.metrics.neighbors import precision_recall
from lit_gen.metrics.pair import Pair


@pytest.fixture(params=[16, 512], autouse=True, scope="module")
def _blocks(request):
    """Blocks of several sizes."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (balls, kernel, pair):
            patch.setattr(module, "BLOCK", request.param)
        yield


@pytest.fixture
def levels(monkeypatch):
    """At which levels rows were looked at again."""
    seen = set()
    compute = balls._squared_distances

    def watch(a, rows, b, level):
        seen.add(level)
        return compute(a, rows, b, level)

    monkeypatch.setattr(balls, "_squared_distances", watch)
    return seen


def brute(generated, real, k=3):
    """The definition, by differences in float64, as counts."""
    x, y = generated.double(), real.double()
    within = lambda a: (a[:, None] - a).square().sum(2).kthvalue(k + 1, dim=1).values  # noqa: E731  the first is itself
    between = (x[:, None] - y).square().sum(2)
    slack = 1 + 1e-13
    return (
        int((between <= within(y) * slack).any(1).sum()),
        int((between <= within(x)[:, None] * slack).any(0).sum()),
    )


def counts(generated, real, k=3):
    precision, recall = precision_recall(generated, real, k)
    return round(precision * len(generated)), round(recall * len(real))


def theirs(generated, real, k=3, **options):
    from torch_fidelity.metric_prc import prc_features_to_metric

    found = prc_features_to_metric(generated, real, prc_neighborhood=k, verbose=False, **options)
    return found["precision"], found["recall"]


def draws(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("n", "m", "d", "k"), [(700, 600, 8, 3), (300, 1100, 84, 3), (400, 300, 300, 5), (50, 4, 3, 3)]
)
def test_equals_torch_fidelity_near_zero(n, m, d, k):
    for offset, factor in ((0, 1), (1, 1.02), (3, 0.98)):
        x, y = factor * draws(n, d, 1) + offset, draws(m, d, 2) + offset
        found = precision_recall(x, y, k)
        assert found == theirs(x, y, k, save_cpu_ram=True) == theirs(x, y, k, save_cpu_ram=False)
        assert m == 4 or 0 < found.precision < 1 or 0 < found.recall < 1


@pytest.mark.parametrize("d", [4, 84])
@pytest.mark.parametrize("offset", [30, 1000, 1e6])
def test_far_features_are_judged_right(d, offset):
    """There float32 holds little of a distance from inner products: torch-fidelity's numbers are others."""
    x, y = (1.03 * draws(500, d, 1) + offset, draws(450, d, 2) + offset)
    if offset == 1e6:
        x, y = x.double() + draws(500, d, 3), y.double()  # float32 has hardly any digits left
    assert counts(x, y) == brute(x, y)
    if offset == 1000:
        assert theirs(x, y) != precision_recall(x, y)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(8, 60), m=st.integers(8, 60), d=st.integers(1, 6), k=st.integers(1, 7), seed=st.integers(0, 10**6),
    spread=st.sampled_from([0.3, 1, 3, 100]), offset=st.sampled_from([0, 7, 2**20]),
)  # fmt: skip
def test_ties_are_inside(n, m, d, k, seed, spread, offset):
    """Integers: many samples at one place, many on one sphere; all sums are exact."""
    generated, real = ((spread * draws(rows, d, seed + i)).round() + offset for i, rows in enumerate((n, m)))
    assert counts(generated, real, k) == brute(generated, real, k)


def test_equal_points(levels):
    x = torch.ones(700, 5)
    assert precision_recall(x, x) == (1, 1)
    assert precision_recall(x, x + 1) == (0, 0)
    few = draws(3, 5, 1).repeat(200, 1)
    assert precision_recall(few, few) == (1, 1)
    assert counts(few[:10], draws(300, 5, 2)) == brute(few[:10], draws(300, 5, 2))
    assert "differences" not in levels, "a radius of 0 and a copy are seen at once"


def test_a_collapsed_generator(levels):
    """A few tight clusters: their radii are far below what float32 tells apart."""
    real = draws(500, 20, 1)
    for width in (1e-3, 1e-5, 1e-9):
        generated = real.double()[:5].repeat(60, 1) + width * draws(300, 20, 2).double()
        assert counts(generated, real) == brute(generated, real)
    assert levels == {"float32", "float64", "differences"}


@pytest.mark.parametrize("gap", [1e-4, 1e-7, 1e-11])
def test_samples_close_to_a_sphere(gap, levels):
    """Pairs of real samples far apart, k = 1, and generated samples just within or just outside a ball."""
    centers, step = 100 * draws(200, 6, 1).double(), draws(200, 6, 2).double()
    real = torch.cat([centers, centers + step])
    sign = draws(200, 1, 3).double().sign()
    generated = centers - step * (1 + gap * sign)
    assert counts(generated, real, 1) == brute(generated, real, 1)
    assert round(precision_recall(generated, real, 1).precision * 200) == int((sign < 0).sum())
    assert "float32" in levels, "where all but a few balls are ruled out; differences decide of those"


def test_radii_are_exact():
    """Where the two nearest are equally far to nine digits, and all are a hundred times as far from the origin."""
    centers, step = 100 * draws(200, 6, 1).double(), draws(200, 6, 2).double()
    x = torch.cat([centers, centers + step, centers - step * (1 + 1e-9 * draws(200, 1, 3).double().sign())])
    both = Pair(x, x)
    found = balls.squared_radii(both.real, both.within_real, 1) * both.real.scale**2
    exact = (x[:, None] - x).square().sum(2).fill_diagonal_(torch.inf).amin(1)
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=0)


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e18, 1e30])
def test_features_of_any_size(factor):
    x, y = 1.1 * draws(200, 8, 1), draws(200, 8, 2)
    scaled = precision_recall((factor * x.double()).float(), (factor * y.double()).float())
    assert scaled == pytest.approx(precision_recall(x, y), abs=1 / 200)  # rounding to float32 may move one sample


def test_an_outlier_does_not_blind(levels):
    x, y = 1.1 * draws(200, 8, 1), draws(200, 8, 2)
    y[7] = 1e25
    assert counts(x, y) == brute(x, y)
    assert "differences" in levels


@pytest.mark.parametrize("level", ["float32", "float64"])
def test_the_bound_of_rounding_holds(level):
    for d, offset in ((3, 0), (84, 0), (84, 40), (2048, 3)):
        x, y = draws(60, d, 1).double() + offset, draws(50, d, 2).double()
        both = Pair(x, y)
        found, bound = balls._squared_distances(both.generated, torch.arange(60), both.real, level)
        exact, _ = balls._squared_distances(both.generated, torch.arange(60), both.real, "differences")
        error = (found.double() - exact).abs().amax(1)
        assert (error <= bound).all()
        assert bound.max() < (1e-3 if level == "float32" else 1e-11) * exact.max(), "and is not idle"


def test_the_smallest_of_groups():
    x = draws(20, 8 * 300, 1)
    x[:, 5::7] = x[:, 5:6]  # ties, within groups and across them
    values, columns = balls._smallest(x, 9)
    expected = x.topk(9, dim=1, largest=False).values
    assert torch.equal(values, expected)
    assert torch.equal(x.gather(1, columns), values)
    assert all(len(set(row)) == 9 for row in columns.tolist())
