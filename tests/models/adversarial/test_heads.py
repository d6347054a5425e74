"""Minibatch deviation against an independent computation."""

import numpy as np
import pytest
import torch

from lit_gen.models.adversarial.heads import MinibatchStd


def test_minibatch_std_is_the_mean_deviation_of_each_group():
    x = torch.randn(8, 3, 2, 5)
    out = MinibatchStd(group=4)(x)
    assert torch.equal(out[:, :3], x)
    for start in (0, 4):
        expected = np.sqrt(x[start : start + 4].numpy().var(axis=0) + 1e-8).mean()
        np.testing.assert_allclose(out[start : start + 4, 3].numpy(), expected, rtol=1e-5)


def test_minibatch_std_does_not_depend_on_how_rows_are_spread_over_ranks():
    x, layer = torch.randn(16, 3, 2, 2), MinibatchStd(group=4)
    torch.testing.assert_close(layer(x), torch.cat([layer(part) for part in x.split(8)]), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("batch", "group"), [(6, 3), (8, 4), (2, 2), (1, 1), (7, 1)])
def test_minibatch_std_of_an_uneven_batch_takes_the_largest_divisor(batch, group):
    x = torch.randn(batch, 3, 2, 2)
    out = MinibatchStd(group=4)(x)
    assert torch.equal(out, MinibatchStd(group=group)(x))
    assert (out[:, 3] == 0).all() == (group == 1)


def test_minibatch_std_has_finite_derivatives_where_nothing_varies():
    x = torch.ones(4, 3, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(MinibatchStd()(x).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert torch.isfinite(gradient).all()
    assert torch.isfinite(x.grad).all()
