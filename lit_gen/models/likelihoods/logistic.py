"""Likelihoods of images of many levels from -1 to 1, 256 of 8-bit images: logistics rounded to them, one or a mixture.

See `distributions.py` for what `log_prob`, `mean` and `sample` are.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_gen.core.images import level_of
from lit_gen.core.options import at_least
from lit_gen.models.likelihoods.base import Likelihood
from lit_gen.models.likelihoods.distributions import EPS, Distribution, same_shape, summed
from lit_gen.models.likelihoods.numerics import soften

__all__ = ["DiscretizedLogistic", "MixtureOfLogistics"]


@dataclass(frozen=True, eq=False)
class DiscretizedLogisticDistribution:
    """A logistic distribution rounded to the levels of the images; the outermost levels have the tails.

    Kingma et al., 2016, https://arxiv.org/abs/1606.04934; Salimans et al., 2017, https://arxiv.org/abs/1701.05517.

    Attributes:
        location: (B, C, H, W), in the units of x.
        log_scale: (B, C, H, W).
        levels: of a pixel, evenly from -1 to 1.
    """

    location: Tensor
    log_scale: Tensor
    levels: int = 256

    @property
    def mean(self) -> Tensor:
        """See `distributions.Distribution`."""
        return _logistic_mean(self.location, self.log_scale)

    def log_prob(self, x: Tensor) -> Tensor:
        """See `distributions.Distribution`; x is one of the levels."""
        same_shape(x, self.location.shape)
        return summed(_log_mass(x, self.location, self.log_scale, self.levels))

    def sample(self, uniform: Tensor) -> Tensor:
        """See `distributions.Distribution`."""
        return _logistic_level(uniform, self.location, self.log_scale, self.levels)


@dataclass(frozen=True, eq=False)
class MixtureOfLogisticsDistribution:
    """At each pixel one of k components for all channels together: sum_k pi_k prod_c DiscretizedLogistic(x_c).

    Salimans et al., 2017 (PixelCNN++), https://arxiv.org/abs/1701.05517, without their linear dependence of green on
    red and of blue on both: channels depend on each other only through the component.

    Attributes:
        logits: (B, k, H, W), of the components.
        location: (B, k, C, H, W).
        log_scale: (B, k, C, H, W).
        levels: of a pixel, evenly from -1 to 1.
    """

    logits: Tensor
    location: Tensor
    log_scale: Tensor
    levels: int = 256

    @property
    def mean(self) -> Tensor:
        """See `distributions.Distribution`."""
        return (self.logits.softmax(1)[:, :, None] * _logistic_mean(self.location, self.log_scale)).sum(1)

    def log_prob(self, x: Tensor) -> Tensor:
        """See `distributions.Distribution`; x is one of the levels."""
        same_shape(x, self.location[:, 0].shape)
        of_component = _log_mass(x[:, None], self.location, self.log_scale, self.levels).sum(2)  # (B, k, H, W)
        return summed(torch.logsumexp(self.logits.log_softmax(1) + of_component, 1))

    def sample(self, uniform: Tensor) -> Tensor:
        """See `distributions.Distribution`; the first channel's noise chooses the component.

        Given the choice, where in its share of [0, 1) the noise lies is uniform again: that makes the channel.
        """
        pi = self.logits.softmax(1)
        ends = pi.cumsum(1)  # (B, k, H, W)
        chosen = (uniform[:, :1] >= ends[:, :-1]).sum(1, keepdim=True)  # (B, 1, H, W)
        share, end = pi.gather(1, chosen), ends.gather(1, chosen)
        left = ((uniform[:, :1] - (end - share)) / share).clamp(0, 1)
        noise = torch.cat([left, uniform[:, 1:]], 1)
        at = chosen[:, :, None].expand(-1, -1, self.location.shape[2], -1, -1)
        location, log_scale = (x.gather(1, at)[:, 0] for x in (self.location, self.log_scale))
        return _logistic_level(noise, location, log_scale, self.levels)


def _log_mass(x: Tensor, location: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Nats of each level: log(F(x + h) - F(x - h)), at the ends log F(x + h) and log(1 - F(x - h)); h is half a level.

    With F = sigmoid, sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^(b - a)) holds for any a > b, even for
    extreme or very close values: no case needs an approximation.
    """
    half = 1 / (levels - 1)  # of the distance of two levels
    if levels != 256:  # which may come as the nearest of 256
        x = level_of(x, levels) * (2 * half) - 1
    precision = torch.exp(-log_scale)
    above = F.logsigmoid((x - location + half) * precision)
    below = F.logsigmoid((location - x + half) * precision)
    inside = torch.log(-torch.expm1(-2 * half * precision))
    return torch.where(x < -1 + half, above, torch.where(x > 1 - half, below, above + below + inside))


def _logistic_mean(location: Tensor, log_scale: Tensor) -> Tensor:
    """The mean of a logistic variable confined to [-1, 1], within half a level that of the rounded one.

    -1 plus the integral of 1 - F over [-1, 1].
    """
    scale = torch.exp(log_scale)
    upper, lower = F.softplus((location + 1) / scale), F.softplus((location - 1) / scale)
    return (scale * (upper - lower) - 1).clamp(-1, 1)


def _logistic_level(uniform: Tensor, location: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    x, scale = location + torch.exp(log_scale) * torch.logit(uniform, eps=EPS), (levels - 1) / 2
    return ((x.clamp(-1, 1) + 1) * scale).round() / scale - 1


def _levels(levels: int | None) -> int:
    at_least(2, "model.likelihood.", levels=levels)
    return 256 if levels is None else levels


class DiscretizedLogistic(Likelihood):
    """8-bit images, each channel of each pixel a logistic rounded to the levels.

    The decoder gives the locations of all channels, then their log-scales; see `DiscretizedLogisticDistribution`.
    Log-scales are taken as they are within [-7, 7].

    Args:
        levels: of a pixel, at least 2; taken from the data set by the command line, else 256.

    Raises:
        UserError: for fewer.
    """

    discrete = True
    parameters_per_channel = 2

    def __init__(self, levels: int | None = None) -> None:
        super().__init__()
        self.levels = _levels(levels)

    def distribution(self, outputs: Tensor) -> Distribution:
        """See `Likelihood`."""
        location, log_scale = outputs.chunk(2, 1)
        return DiscretizedLogisticDistribution(location, soften(log_scale, -7, 7), self.levels)

    def check(self, x: Tensor) -> None:
        """See `Likelihood`."""
        super().check(x)
        self._check_levels(x, self.levels)


class MixtureOfLogistics(Likelihood):
    """8-bit images, each pixel a mixture of k discretized logistics; see `MixtureOfLogisticsDistribution`.

    The decoder gives k logits of the components, then k * C locations, then k * C log-scales.

    Args:
        k: components, at least 1; 10 in PixelCNN++.
        levels: of a pixel, at least 2; taken from the data set by the command line, else 256.

    Raises:
        UserError: for a smaller number.
    """

    discrete = True

    def __init__(self, k: int = 10, levels: int | None = None) -> None:
        super().__init__()
        at_least(1, "model.likelihood.", k=k)
        self.k, self.levels = k, _levels(levels)

    def channels(self, image_channels: int) -> int:
        """See `Likelihood`."""
        return self.k * (1 + 2 * image_channels)

    def distribution(self, outputs: Tensor) -> Distribution:
        """See `Likelihood`."""
        location, log_scale = outputs[:, self.k :].unflatten(1, (2, self.k, -1)).unbind(1)  # (B, k, C, H, W)
        return MixtureOfLogisticsDistribution(outputs[:, : self.k], location, soften(log_scale, -7, 7), self.levels)

    def check(self, x: Tensor) -> None:
        """See `Likelihood`."""
        super().check(x)
        self._check_levels(x, self.levels)
