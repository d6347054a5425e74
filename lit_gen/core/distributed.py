"""The few collectives that training and evaluation need. With one process each is the identity and costs nothing."""

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lit_gen.core.errors import UserError

T = TypeVar("T")


class Parts(Protocol):
    """How ranks that each work on their own part learn that the run should stop; see `interrupting`."""

    def do(self, make: Callable[[], None]) -> None:
        """Call ``make()``, then wait until the other ranks have done their parts; raises on all ranks or on none."""

    def look(self) -> None:
        """Called within ``make()`` now and then, any number of times on each rank."""


_parts: Parts | None = None


def world_size() -> int:
    """Number of ranks of the current process group, 1 without a group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number in the current process group, 0 without a group."""
    return dist.get_rank() if world_size() > 1 else 0


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter], extras: Tensor) -> Tensor:
    """Average the gradients of ``parameters`` over the ranks in one flat all-reduce, and ``extras`` along with them.

    One collective per optimizer step, for any graph of the loss: no bookkeeping of unused parameters, and double
    backward and several backward passes are not special cases. The loss is one of the extras, so every rank sees the
    same value and stops at the same step if it is not finite.

    Args:
        parameters: the stepping optimizer's parameters; each has a gradient, the same set on every rank. Contiguous
            gradients become views of what was reduced.
        extras: (k,) scalars to average too.

    Returns:
        The averaged extras (k,).
    """
    if world_size() == 1:
        return extras
    trained = [(p, p.grad) for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1).float() for _, g in trained] + [extras.float()])
    dist.all_reduce(flat)
    flat /= world_size()
    parts: list[Tensor] = list(flat.split([*(g.numel() for _, g in trained), len(extras)]))
    for (p, g), mean in zip(trained, parts, strict=False):
        if g.dtype == flat.dtype and g.is_contiguous():
            p.grad = mean.view(g.shape)
        else:  # optimizers expect the order of the parameter
            g.copy_(mean.view(g.shape))
    return parts[-1]


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


def stack_over_ranks(x: Tensor) -> Tensor:
    """Every rank's ``x``, (ranks, *x.shape), on every rank; without a gradient."""
    if world_size() == 1:
        return x[None]
    every = [torch.empty_like(x) for _ in range(world_size())]
    dist.all_gather(every, x)
    return torch.stack(every)


def gather(values: Sequence[T]) -> list[T]:
    """Every rank's values in one list, on every rank. The `math.fsum` of numbers is the same in any order."""
    if world_size() == 1:
        return list(values)
    gathered: list[list[T]] = [[] for _ in range(world_size())]
    dist.all_gather_object(gathered, list(values))
    return [value for rank in gathered for value in rank]


def total(x: Tensor, where: torch.device) -> Tensor:
    """The sum of the ranks' ``x``, on the CPU of every rank; ``where`` is the device they communicate through."""
    if world_size() == 1:
        return x
    summed = x.to(where, copy=True)
    dist.all_reduce(summed)
    return summed.cpu()


def summed(x: Tensor) -> Tensor:
    """The sum of the ranks' ``x``, on its device, without waiting for it there."""
    if world_size() == 1:
        return x
    whole = x.clone()
    dist.all_reduce(whole)
    return whole


def leave() -> None:
    """Leave the process group, if there is one, while the interpreter still runs.

    Gloo's threads hold the tensors of the last collectives. A thread that releases them while the interpreter shuts
    down aborts the process, after all work is done (https://github.com/pytorch/pytorch/pull/179291).
    """
    if dist.is_available() and dist.is_initialized():
        gc.collect()  # a wrapped model that only a cycle keeps alive would keep the group alive
        dist.destroy_process_group()


def broadcast(value: T) -> T:
    """Rank 0's value, any plain object, on every rank; the others wait for it."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather_blocks(blocks: Tensor, where: torch.device) -> Tensor | None:
    """Blocks that the ranks took in turn, in global order, on rank 0; None on the others.

    Args:
        blocks: (k, b, ...) this rank's blocks, block j of rank r being global block r + j * world; every rank has the
            same number of blocks, of the same shape.
        where: the device that this process communicates through.

    Returns:
        (k * world, b, ...) on the CPU.
    """
    if world_size() == 1:
        return blocks.cpu()
    mine = blocks.to(where).contiguous()
    gathered = [torch.empty_like(mine) for _ in range(world_size())] if rank() == 0 else None
    dist.gather(mine, gathered)
    return torch.stack(gathered, dim=1).flatten(0, 1).cpu() if gathered is not None else None


@contextlib.contextmanager
def interrupting(parts: Parts) -> Iterator[None]:
    """While the block runs, `from_first` and `together` do through ``parts`` what holds no collective."""
    global _parts
    _parts = parts
    try:
        yield
    finally:
        _parts = None


def look() -> None:
    """Between two pieces of what `from_first` or `together` does: whether any rank was asked to stop."""
    if _parts is not None:
        _parts.look()


def from_first(make: Callable[[], T]) -> T:
    """``make()`` of rank 0 on every rank, and its failure too: the others wait, and none of them hangs.

    Args:
        make: holds no collective.

    Raises:
        UserError: the one that rank 0 met; there any other error as it is, elsewhere a RuntimeError that quotes it.
    """
    if world_size() == 1:
        return make()
    value, failure = _tried(make if rank() == 0 else lambda: None)
    value, told = broadcast((value, _told(failure)))
    _raise(failure, told)
    made: T = value
    return made


def together(make: Callable[[], T]) -> T:
    """``make()`` on every rank; where one fails, all do.

    Args:
        make: holds no collective.

    Returns:
        This rank's.

    Raises:
        UserError: or RuntimeError, as `from_first`.
    """
    if world_size() == 1:
        return make()
    value, failure = _tried(make)
    every: list[tuple[bool, str] | None] = [None] * world_size()
    dist.all_gather_object(every, _told(failure))
    _raise(failure, next(filter(None, every), None))
    made: T = value
    return made


def _tried(make: Callable[[], Any]) -> tuple[Any, Exception | None]:
    value: Any = None
    failure: Exception | None = None

    def attempt() -> None:
        nonlocal value, failure
        try:
            value = make()
        except Exception as error:
            failure = error

    attempt() if _parts is None else _parts.do(attempt)
    return value, failure


def _told(failure: Exception | None) -> tuple[bool, str] | None:
    return None if failure is None else (isinstance(failure, UserError), str(failure) or type(failure).__name__)


def _raise(failure: Exception | None, told: tuple[bool, str] | None) -> None:
    if failure is not None:
        raise failure
    if told is not None:
        raise UserError(told[1]) if told[0] else RuntimeError(f"another rank failed: {told[1]}")
