"""Batch norm over ranks against an independent computation."""

import copy
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lit_gen.models.nn.conditioning import ConditionalBatchNorm2d
from lit_gen.training.batch_norm import SynchronizedBatchNorm, has_batch_norm, synchronize


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize(("reference", "shape"), [(nn.BatchNorm1d, (6, 5)), (nn.BatchNorm2d, (6, 5, 4, 3))])
def test_with_one_process_it_is_batch_norm(reference, shape, momentum):
    network = nn.Sequential(reference(5, momentum=momentum)).double()
    nn.init.normal_(network[0].weight)
    nn.init.normal_(network[0].bias)
    ours = copy.deepcopy(network)
    synchronize(ours)
    assert type(ours[0]) is SynchronizedBatchNorm
    for _ in range(3):
        x = 2 * torch.randn(shape, dtype=torch.float64) + 1
        results = []
        for each in (network, ours):
            given = x.clone().requires_grad_()
            out = each(given)
            (gradient,) = torch.autograd.grad(out.pow(3).sum(), given, create_graph=True)
            each.zero_grad()
            gradient.square().sum().backward()
            second = [given.grad, *(p.grad for p in each.parameters())]
            plain = torch.autograd.grad(each(given).pow(3).sum(), [given, *each.parameters()])
            results.append([out, gradient, *second, *plain])
        for found, expected in zip(results[1], results[0], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        assert list(network.state_dict()) == list(ours.state_dict())
        torch.testing.assert_close(ours.state_dict(), network.state_dict(), rtol=0, atol=1e-12)
    x = torch.randn(shape)
    network, ours = network.float(), ours.float()
    torch.testing.assert_close(ours(x), network(x), rtol=0, atol=1e-6)
    ours.load_state_dict(network.state_dict())
    assert torch.equal(ours.eval()(x), network.eval()(x))


def test_synchronized_batch_norm_has_second_derivatives():
    norm = SynchronizedBatchNorm(2).double()
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, x)
    assert torch.autograd.gradgradcheck(norm, x)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_without_weights_and_in_any_memory_format(layout):
    x = torch.randn((6, 5, 4, 3), dtype=torch.float64).to(memory_format=layout)
    found = []
    for norm in (SynchronizedBatchNorm(5, affine=False).double(), nn.BatchNorm2d(5, affine=False).double()):
        given = x.clone().requires_grad_()
        out = norm(given)
        found.append((out, *torch.autograd.grad(out.pow(3).sum(), given)))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


def test_half_precision_maps_are_normalised_in_float():
    norm, x = SynchronizedBatchNorm(2), torch.randn(8, 2, 4, 4) + 100
    out = norm(x.bfloat16())
    assert out.dtype == torch.bfloat16
    expected = F.batch_norm(x.bfloat16().float(), None, None, training=True)
    torch.testing.assert_close(out.float(), expected, rtol=1e-2, atol=1e-2)
    assert torch.equal(norm.bfloat16().train()(x.bfloat16()), out)  # weights of half precision too


def test_synchronize_reaches_every_batch_norm_and_keeps_its_parameters():
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), nn.BatchNorm1d(3), nn.ReLU()).eval()
    network.add_module("conditional", ConditionalBatchNorm2d(4, 2))
    before = {name: id(p) for name, p in network.named_parameters()}
    synchronize(network)
    assert {name: id(p) for name, p in network.named_parameters()} == before
    assert sum(isinstance(m, SynchronizedBatchNorm) for m in network.modules()) == 3
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in network.modules())
    assert not network[1].training
    assert network.conditional.norm.training
    assert has_batch_norm(network)
    assert not has_batch_norm(nn.Sequential(nn.Conv2d(3, 4, 1)))
    names = [name for name, _ in network.named_children()]
    assert names == ["0", "1", "2", "conditional"]


PROGRAM = """
import sys
import torch
import torch.distributed as dist
from torch import nn
from lit_gen.core import distributed as parallel
from lit_gen.models.nn.conditioning import ConditionalBatchNorm2d
from lit_gen.training.batch_norm import synchronize

torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), sys.argv[2]

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.by_class = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), ConditionalBatchNorm2d(3, 2)
        self.last = nn.Linear(3, 1)
    def forward(self, x, labels):
        x = self.by_class(torch.tanh(self.norm(self.conv(x))), labels)
        return self.last(torch.tanh(x).mean([2, 3])).squeeze(1)

def losses(network, x, labels):
    x = x.clone().requires_grad_()
    logits = network(x, labels)
    gradient, = torch.autograd.grad(logits.sum(), x, create_graph=True)
    (nn.functional.softplus(logits).mean() + gradient.square().sum([1, 2, 3]).mean()).backward()
    return logits.detach(), gradient.detach()

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
network, x, labels = Network(), torch.randn(8, 2, 6, 6), torch.arange(8) % 2
expected = losses(network, x, labels)
whole = {n: p.grad.clone() for n, p in network.named_parameters()}
buffers = {n: b.clone() for n, b in network.named_buffers()}

torch.manual_seed(0)
network, x, labels = Network(), torch.randn(8, 2, 6, 6), torch.arange(8) % 2
synchronize(network)
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
mine = slice(4 * rank, 4 * rank + 4)
found = losses(network, x[mine], labels[mine])
parallel.average_gradients(network.parameters(), torch.zeros(1))
for a, b in zip(found, expected):
    torch.testing.assert_close(a, b[mine], rtol=1e-9, atol=1e-9)
for name, p in network.named_parameters():  # these are averaged in float
    torch.testing.assert_close(p.grad, whole[name], rtol=1e-5, atol=1e-6)
for name, b in network.named_buffers():
    torch.testing.assert_close(b, buffers[name], rtol=1e-9, atol=1e-9)
dist.barrier()
dist.destroy_process_group()
"""


def test_two_ranks_with_half_the_batch_are_one_with_the_whole(tmp_path):
    started = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(errors)
