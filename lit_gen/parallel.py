"""The few collectives that training and evaluation need. With one process each is the identity and costs nothing."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def world_size() -> int:
    """Number of ranks of the current process group, 1 where there is none."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter], extras: Tensor) -> Tensor:
    """Average the gradients of ``parameters`` over the ranks in one flat all-reduce, and ``extras`` along with them.

    One collective per optimizer step, whatever the graph of the loss: no bookkeeping of unused parameters, and double
    backward and several backward passes are no special cases. The loss rides along as an extra, so that every rank sees
    the same value and stops at the same step if it is not finite.

    Args:
        parameters: the stepping optimizer's parameters; each has a gradient, the same set on every rank.
        extras: (k,) scalars to average too.

    Returns:
        The averaged extras (k,).
    """
    world = world_size()
    if world == 1:
        return extras
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1).float() for g in gradients] + [extras.float()])
    dist.all_reduce(flat)
    flat /= world
    offset = 0
    for g in gradients:
        g.copy_(flat[offset : offset + g.numel()].view(g.shape))
        offset += g.numel()
    return flat[offset:]


@torch.no_grad()
def broadcast_buffers(module: nn.Module) -> None:
    """Give every rank the buffers of rank 0, whose checkpoint is written: batch statistics differ between ranks."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


class _MeanOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        mean = x.clone()
        dist.all_reduce(mean)
        return mean / dist.get_world_size()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Every rank's loss depends on every rank's x; gradients are then averaged over the ranks like all others.
        return mean_over_ranks(gradient)


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean of ``x`` over the ranks, with its gradient (of any order)."""
    if world_size() == 1:
        return x
    mean: Tensor = _MeanOverRanks.apply(x)
    return mean


def gather(values: list[float]) -> list[float]:
    """Every rank's values in one list, on every rank. Their `math.fsum` is the same in any order."""
    world = world_size()
    if world == 1:
        return values
    gathered: list[list[float]] = [[] for _ in range(world)]
    dist.all_gather_object(gathered, values)
    return [value for rank in gathered for value in rank]


def agree(flag: bool, where: torch.device) -> bool:
    """Whether ``flag`` is set on any rank."""
    if world_size() == 1:
        return flag
    raised = torch.tensor([float(flag)], device=where)
    dist.all_reduce(raised)
    return bool(raised.item() > 0)
