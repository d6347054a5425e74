"""The mean of gradients over ranks; `tests/integration/test_ddp.py` has it between processes."""

import pytest
import torch
from torch import nn

from lit_gen.core import distributed


@pytest.fixture
def other_rank(monkeypatch):
    """A second rank, whose every number is this one's plus two."""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda flat: flat.mul_(2).add_(2))


def test_gradients_keep_their_type_and_order_and_become_the_mean(other_rank):
    shapes = [(3,), (2, 3, 4, 4), (), (5,)]
    weights = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    weights[1].data = weights[1].data.contiguous(memory_format=torch.channels_last)
    weights[3].data = weights[3].data.bfloat16()
    weights.append(nn.Parameter(torch.zeros(7)))  # without a gradient
    for weight in weights[:4]:
        weight.grad = torch.arange(weight.numel()).view(weight.shape).to(weight)
        if weight.ndim == 4:
            weight.grad = weight.grad.contiguous(memory_format=torch.channels_last)
    before = [(w.grad.clone(), w.grad.stride(), w.grad.dtype) for w in weights[:4]]
    averaged = distributed.average_gradients(weights, torch.tensor([10.0, 20.0]))
    assert averaged.tolist() == [11.0, 21.0]
    assert weights[4].grad is None
    for weight, (gradient, stride, dtype) in zip(weights, before, strict=False):
        assert torch.equal(weight.grad, gradient + 1)
        assert (weight.grad.stride(), weight.grad.dtype) == (stride, dtype)
    assert weights[0].grad.untyped_storage().data_ptr() == weights[2].grad.untyped_storage().data_ptr()
