"""The likelihood of images of a few grey levels: a probability of its own for each level."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_gen.core.images import level_of
from lit_gen.core.options import expect, whole_number
from lit_gen.models.likelihoods.base import Likelihood
from lit_gen.models.likelihoods.distributions import Distribution, same_shape, summed

__all__ = ["Categorical"]


@dataclass(frozen=True, eq=False)
class CategoricalDistribution:
    """P(level k) = softmax(logits)_k; level k of L is the value 2 k / (L - 1) - 1.

    Attributes:
        logits: (B, C, L, H, W).
    """

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """The expected value, in [-1, 1]."""
        count = self.logits.shape[2]
        numbers = torch.arange(count, dtype=self.logits.dtype, device=self.logits.device)
        values = numbers * (2 / (count - 1)) - 1
        return torch.einsum("bclhw,l->bchw", self.logits.softmax(2), values).clamp(-1, 1)

    def log_prob(self, x: Tensor) -> Tensor:
        """See `Distribution`; x is one of the levels, or the nearest of 256 levels."""
        same_shape(x, self.logits[:, :, 0].shape)
        number = level_of(x, self.logits.shape[2]).long()
        return summed(self.logits.log_softmax(2).gather(2, number[:, :, None])[:, :, 0])

    def sample(self, uniform: Tensor) -> Tensor:
        """See `Distribution`."""
        ends = self.logits.softmax(2).cumsum(2)[:, :, :-1]
        number = (uniform[:, :, None] >= ends).sum(2).to(self.logits.dtype)
        return number * (2 / (self.logits.shape[2] - 1)) - 1


class Categorical(Likelihood):
    """Images of a few levels, each channel of each pixel with a probability for every level.

    The decoder gives the logits of all levels of the first channel, then those of the next. A mass, as those of
    `DiscretizedLogistic` and `Bernoulli`; it does not know that neighbouring levels are alike.

    Args:
        levels: of a pixel, at least 2; taken from the data set by the command line.

    Raises:
        UserError: for fewer, or none.
    """

    discrete = True

    def __init__(self, levels: int | None = None) -> None:
        super().__init__()
        expect(levels is not None and levels >= 2, "model.likelihood.levels", levels, whole_number(2))
        assert levels is not None
        self.levels = levels

    def channels(self, image_channels: int) -> int:
        """See `Likelihood`."""
        return self.levels * image_channels

    def distribution(self, outputs: Tensor) -> Distribution:
        """See `Likelihood`."""
        return CategoricalDistribution(outputs.unflatten(1, (-1, self.levels)))

    def check(self, x: Tensor) -> None:
        """See `Likelihood`."""
        super().check(x)
        self._check_levels(x, self.levels)
