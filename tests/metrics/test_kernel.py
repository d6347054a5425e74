"""The kernel distance: by hand, and of one law."""

import pytest
import torch

from lit_gen.core.errors import UserError
from lit_gen.metrics.kernel import kernel_distance
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
