"""The exponential moving average of the generator's weights: a copy of its own, never swapped in."""

import torch
from torch import Tensor, nn


def decay_at(decay: float, updates: int) -> float:
    """The decay of update ``updates`` (from 0): ``min(decay, (1 + t) / (10 + t))``.

    The warm-up forgets the initial weights within the first steps, so that early samples already show the training.
    """
    return min(decay, (1 + updates) / (10 + updates))


def decay_of_half_life(half_life: float, ramp: float, batch: int, images: int) -> float:
    """The decay of one update by which a weight's influence halves every ``half_life`` images: 0.5^(batch/half_life).

    Karras et al., 2019, https://arxiv.org/abs/1912.04958 and its code: while the run is young, the half-life is at most
    ``ramp`` times the images so far; 0 images give decay 0, a plain copy.

    Args:
        half_life: in generated images.
        ramp: share of the images so far, 0.05 in StyleGAN2; 0 for no ramp.
        batch: images of this update, over all ranks.
        images: images of all updates before this one.
    """
    if ramp:
        half_life = min(half_life, ramp * images)
    return 0.5 ** (batch / half_life) if half_life > 0 else 0.0


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
