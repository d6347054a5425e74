"""Where the rows of a batch interact: what another division into ranks and micro-batches changes."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from lit_gen.core.batches import Batches
from lit_gen.training.batch_norm import SYNCHRONIZED, SynchronizedBatchNorm


@runtime_checkable
class Meeting(Protocol):
    """A part of a model in which rows of a batch interact."""

    def meets(self, batches: Batches) -> str | None:
        """What differs from one undivided batch, in words; None if nothing does."""
        ...


def meetings(parts: Iterable[Any], batches: Batches, synchronized: bool) -> list[str]:
    """What differs from one undivided batch, in words; empty if only rounding errors do.

    Args:
        parts: modules of a network, and other objects that may be a `Meeting`.
        batches: how the batch is divided.
        synchronized: whether batch norm runs over all ranks.
    """
    return list(dict.fromkeys(_found(parts, batches, synchronized)))


def _found(parts: Iterable[Any], batches: Batches, synchronized: bool) -> Iterator[str]:
    each, alone = parts_of(batches, ranks=True), parts_of(batches, ranks=False)
    for part in parts:
        if isinstance(part, _BatchNorm):
            over_ranks = isinstance(part, SynchronizedBatchNorm) or (synchronized and type(part) in SYNCHRONIZED)
            if split := alone if over_ranks else each:
                yield f"batch norm per {split}"
        elif each and _drops(part):
            yield f"dropout per {each}"
        elif alone and iterates(part):
            yield "spectral norm's power iterations per micro-batch"
        elif isinstance(part, Meeting) and (words := part.meets(batches)):
            yield words


def parts_of(batches: Batches, ranks: bool) -> str:
    """What the batch is divided into, ``rank and micro-batch``; empty if it is not divided.

    Args:
        batches: how it is divided.
        ranks: whether ranks count: what runs over all ranks is not divided by them.
    """
    named = {"rank": ranks and batches.world > 1, "micro-batch": batches.micro_batches > 1}
    return " and ".join(name for name, there in named.items() if there)


def iterates(part: Any) -> bool:
    """Whether a module makes a power iteration in each pass: either of torch's ways."""
    hooks = part._forward_pre_hooks.values() if isinstance(part, nn.Module) else ()
    return isinstance(part, _SpectralNorm) or any(isinstance(hook, SpectralNorm) for hook in hooks)


def _drops(part: Any) -> bool:
    """Whether a module has dropout; recurrent layers and attention have it as a number."""
    share = part.p if isinstance(part, _DropoutNd) else getattr(part, "dropout", 0.0)
    return isinstance(part, nn.Module) and isinstance(share, int | float) and share > 0
