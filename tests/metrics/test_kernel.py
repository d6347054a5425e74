"""The kernel distance: by hand, and of one law."""

import pytest
import torch

from lit_gen.core.errors import UserError
from lit_gen.metrics import kernel
from lit_gen.metrics.kernel import kernel_distance, pair_kernel_distance
from lit_gen.metrics.neighbors import pair_precision_recall
from lit_gen.metrics.pair import Pair, Products
from tests.metrics.test_neighbors import _small_blocks  # noqa: F401  a fixture


def test_kernel_distance_by_hand():
    """One subset that is the whole of both sides, as plain sums."""
    x, y = torch.randn(6, 3), 1 + torch.randn(6, 3)
    k = lambda a, b: (torch.dot(a, b).item() / 3 + 1) ** 3  # noqa: E731
    within = sum(k(a, b) for s in (x, y) for i, a in enumerate(s) for j, b in enumerate(s) if i != j) / (6 * 5)
    between = sum(k(a, b) for a in x for b in y) / 36
    found = kernel_distance(x, y, subsets=3)
    assert found.mean == pytest.approx(within - 2 * between, rel=1e-5)
    assert found.std is None, "there is one subset only"
    assert kernel_distance(x, y[:5], subsets=3).std > 0
    assert found.subset_size == 6


def test_kernel_distance_of_one_law_is_about_zero():
    x, y = torch.randn(2, 4000, 16)
    same = kernel_distance(x, y, subsets=40, subset_size=200)
    assert abs(same.mean) < 3 * same.std / 40**0.5
    other = kernel_distance(x, 1.3 * y, subsets=40, subset_size=200)
    assert other.mean > 10 * same.std / 40**0.5


def test_kernel_subsets_are_no_larger_than_the_smaller_set():
    x, y = torch.randn(50, 4), torch.randn(30, 4)
    assert [kernel_distance(x, y, 2, size).subset_size for size in (1000, 31, 30, 29)] == [30, 30, 30, 29]
    assert kernel_distance(x, y) == kernel_distance(x, y)  # no state, no global generator
    for subsets, size in ((0, 10), (10, 1)):
        with pytest.raises(UserError, match=f"found {subsets} subsets of {size} samples"):
            kernel_distance(x, y, subsets, size)


# torch-fidelity


def theirs(x, y, subsets, size):
    from torch_fidelity.metric_kid import kid_features_to_metric

    found = kid_features_to_metric(x, y, kid_subsets=subsets, kid_subset_size=size, rng_seed=2020, verbose=False)
    return found["kernel_inception_distance_mean"], found["kernel_inception_distance_std"]


def draws(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def ways(monkeypatch):
    """How subsets were computed: all from the products of the whole sets, or each by itself."""
    seen = []
    of_subset = kernel._Cube.of_subset
    monkeypatch.setattr(kernel._Cube, "of_subset", lambda *inputs: seen.append("each") or of_subset(*inputs))
    return seen


@pytest.mark.parametrize("d", [5, 84, 300])
@pytest.mark.parametrize(("subsets", "size"), [(30, 100), (4, 60)])
def test_equals_torch_fidelity_in_float64(ways, d, subsets, size):
    """Wherever the features are, to a millionth of the distance, or of its spread where it is smaller than that."""
    for offset in (0, 1, 30, 1000):
        for shift in (0, 0.3):
            x, y = draws(331, d, 1) + offset + shift, draws(290, d, 2) + offset
            mean, std = theirs(x.double(), y.double(), subsets, size)
            found = kernel_distance(x, y, subsets, size)
            assert found.mean == pytest.approx(mean, rel=1e-6, abs=1e-6 * std), (offset, shift)
            assert found.std == pytest.approx(std, rel=1e-6), (offset, shift)
    assert bool(ways) == (subsets == 4)


def test_equals_torch_fidelity_in_float32_near_zero():
    """The mean where it is no small difference of large sums; theirs are float32."""
    x, y = draws(331, 84, 1).abs() + 0.3, draws(290, 84, 2).abs()
    mean, std = theirs(x, y, 30, 100)
    found = kernel_distance(x, y, 30, 100)
    assert found.mean == pytest.approx(mean, rel=1e-6)
    assert found.std == pytest.approx(std, rel=1e-5)


@pytest.mark.parametrize("factor", [1e-12, 1e-3, 1e6, 1e15])
def test_features_of_any_size(factor):
    x, y = factor * (draws(80, 8, 1).double() + 1), factor * draws(70, 8, 2).double()
    mean, std = theirs(x, y, 5, 50)
    found = kernel_distance(x, y, 5, 50)
    assert found.mean == pytest.approx(mean, rel=1e-6, abs=1e-14)  # that tool's 1 + 1 - 2 is inexact
    assert found.std == pytest.approx(std, rel=1e-6, abs=1e-14)


def test_features_that_never_vary():
    zero = torch.zeros(20, 4)
    assert kernel_distance(zero, zero, 3, 10) == (0, 0, 10)
    assert kernel_distance(zero + 1, zero, 3, 10).mean == pytest.approx(8 + 1 - 2, rel=1e-7)
    assert kernel_distance(zero + 1, zero + 1, 3, 10).mean == 0


def test_a_pair_gives_the_same_whatever_was_computed_before():
    """Products that are kept are the same ones, on any number of threads."""
    x, y = draws(700, 300, 1), draws(650, 300, 2)
    first, threads = Pair(x, y), torch.get_num_threads()
    kid, prc = pair_kernel_distance(first, 20, 500), pair_precision_recall(first)
    try:
        torch.set_num_threads(2)
        second = Pair(x, y)
        assert second.keeps
        assert pair_precision_recall(second) == prc
        assert pair_kernel_distance(second, 20, 500) == kid == kernel_distance(x, y, 20, 500)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("keep", [False, True])
def test_blocks_of_products(keep):
    x, y = draws(40, 6, 1), draws(35, 6, 2)
    for a, b in ((x, y), (x, x)):
        blocks = [(i, block.clone()) for i, block in Products(a, b, keep)]
        assert [i for i, _ in blocks] == [0, 16, 32]
        torch.testing.assert_close(torch.cat([block for _, block in blocks]), a @ b.T)
    for i, block in Products(x, x, keep).upper():
        torch.testing.assert_close(block, (x @ x.T)[i : i + 16, i:])
