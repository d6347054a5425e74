"""The exponential moving average of the generator's weights: a copy of its own, never swapped in."""

import torch
from torch import Tensor, nn


def decay_at(decay: float, updates: int) -> float:
    """The decay of update ``updates`` (from 0): ``min(decay, (1 + t) / (10 + t))``.

    The warm-up forgets the initial weights within the first steps, so that early samples already show the training.
    """
    return min(decay, (1 + updates) / (10 + updates))


@torch.no_grad()
def update(average: nn.Module, source: nn.Module, decay: float) -> None:
    """Move ``average`` towards ``source``: e <- decay * e + (1 - decay) * s; buffers are copied.

    Buffers (batch statistics, counters) are no weights: an average of them would describe no network.
    """
    weights = zip(average.parameters(), source.parameters(), strict=True)
    pairs = [(e.data, s.data) for e, s in weights]
    averages: list[Tensor] = [e for e, _ in pairs]
    torch._foreach_lerp_(averages, [s for _, s in pairs], 1 - decay)
    for e, s in zip(average.buffers(), source.buffers(), strict=True):
        e.copy_(s)
