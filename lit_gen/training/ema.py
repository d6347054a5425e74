"""The exponential moving average of weights: one option of every family, and the arithmetic of one update.

`lit_gen.training.module.TrainingModule` keeps the averaged networks; they are separate copies, never swapped in.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lit_gen.core.errors import UserError
from lit_gen.core.options import above, within


@dataclass
class EMA:
    """How averaged weights e follow the trained ones s: e <- decay * e + (1 - decay) * s after each step.

    Args:
        decay: in [0, 1), with the warm-up of `warmed_up`.
        half_life: instead of ``decay``: samples, over all ranks, after which a weight's influence has halved.
            Samples are a GAN's generated images; of any other family what its data count: images, or tokens of a text.
        ramp: early in a run, the half-life is at most this share of the samples so far; 0 for no ramp.

    Raises:
        UserError: for a number out of range.
    """

    decay: float | None = 0.999
    half_life: float | None = None
    ramp: float = 0.05

    def __post_init__(self) -> None:
        within("[0, 1)", "model.ema.", decay=self.decay)
        above(0, "model.ema.", null=True, half_life=self.half_life)
        within("[0, 1]", "model.ema.", ramp=self.ramp)
        if self.half_life is not None:
            self.decay = None
        elif self.decay is None:
            raise UserError("model.ema: neither decay nor half_life was found; set one, or model.ema to null")

    def decay_of(self, update: int, samples: int) -> float:
        """The decay of an update.

        Args:
            update: its number, from 0.
            samples: of each update, over all ranks; only used with a half-life.
        """
        if self.half_life is not None:
            return decay_of_half_life(self.half_life, self.ramp, samples, update * samples)
        assert self.decay is not None
        return warmed_up(self.decay, update)


def warmed_up(decay: float, update: int) -> float:
    """The decay of update ``update`` (from 0): ``min(decay, (1 + t) / (10 + t))``.

    The warm-up forgets the initial weights within the first steps, so that early samples already show the training.
    """
    return min(decay, (1 + update) / (10 + update))


def decay_of_half_life(half_life: float, ramp: float, batch: int, samples: int) -> float:
    """The decay of one update by which a weight's influence halves every ``half_life`` samples: 0.5^(batch/half_life).

    Karras et al., 2019, https://arxiv.org/abs/1912.04958 and its code: early in a run, the half-life is at most
    ``ramp`` times the samples so far; 0 samples give decay 0, a plain copy.

    Args:
        half_life: in samples.
        ramp: share of the samples so far, 0.05 in StyleGAN2; 0 for no ramp.
        batch: samples of this update, over all ranks.
        samples: of all updates before this one.
    """
    if ramp:
        half_life = min(half_life, ramp * samples)
    return 0.5 ** (batch / half_life) if half_life > 0 else 0.0


class Moved:
    """The weights of an average and those that it follows, listed once.

    Buffers (batch statistics, counters) are not weights: an average of them would describe no network. They are copied.

    Args:
        average: a copy of ``source``.
        source: what is trained.
    """

    def __init__(self, average: nn.Module, source: nn.Module) -> None:
        weights = list(zip(average.parameters(), source.parameters(), strict=True))
        self._averages: list[Tensor] = [e for e, _ in weights]
        self._sources: list[Tensor] = [s for _, s in weights]
        self._buffers = list(zip(average.buffers(), source.buffers(), strict=True))

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Move every average: e <- decay * e + (1 - decay) * s."""
        torch._foreach_lerp_(self._averages, self._sources, 1 - decay)
        for e, s in self._buffers:
            e.copy_(s)
