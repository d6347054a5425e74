import pytest
import torch
from torch import nn

from lit_gen.gan import ema


def test_closed_form_for_a_constant_source():
    """e_k = s + (e_0 - s) * prod(beta_t), for a source that stands still."""
    source, average = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()
    start = average.weight.detach().clone()
    factor = 1.0
    for step in range(50):
        beta = ema.decay_at(0.9, step)
        factor *= beta
        ema.update(average, source, beta)
    expected = source.weight + (start - source.weight) * factor
    assert torch.allclose(average.weight, expected, rtol=1e-12, atol=0)


def test_warm_up_reaches_the_decay():
    assert ema.decay_at(0.999, 0) == pytest.approx(0.1)
    assert ema.decay_at(0.999, 10**6) == 0.999
    assert all(ema.decay_at(0.999, t) <= ema.decay_at(0.999, t + 1) for t in range(20_000))


def test_buffers_are_copied_not_averaged():
    source, average = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    source(torch.randn(8, 2))
    ema.update(average, source, 0.9)
    assert torch.equal(average.running_mean, source.running_mean)
    assert average.num_batches_tracked == source.num_batches_tracked == 1
