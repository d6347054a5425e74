"""Dequantization: levels, which are whole numbers, to real numbers, so that a density of them has a bound.

A density can be as high as it likes at 17 points: the likelihood of undequantized levels has no upper bound, and grows
while samples get worse (Theis et al., 2016, https://arxiv.org/abs/1511.01844). With y = level + u and u in [0, 1)^D
from q(u|level), the mean of log p(y) - log q(u|level) is at most log P(level), the logarithm of a probability mass.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gen.core import randomness
from lit_gen.core.options import at_least
from lit_gen.core.randomness import Rows

__all__ = ["Dequantization", "Uniform", "Variational"]


class Dequantization(nn.Module):
    """Base: numbers of levels and noise to u in [0, 1), and log q(u|level).

    Args:
        levels: of a pixel; taken from the data set by the command line.

    Raises:
        UserError: for fewer than two levels.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        at_least(2, "model.dequantization.", levels=levels)
        self.levels = levels

    def draw(self, rows: Rows, count: int, shape: tuple[int, ...]) -> Tensor:
        """Noise (count, *shape) of a training batch."""
        raise NotImplementedError

    def draw_by_index(self, seed: int, indices: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Noise (n, *shape) of an evaluation, on the CPU; row i depends on ``(seed, indices[i])`` only."""
        raise NotImplementedError

    def forward(self, numbers: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of levels (B, C, H, W) and noise of that shape to u in [0, 1), and log q(u|level), (B,)."""
        raise NotImplementedError


class Uniform(Dequantization):
    """U[0, 1), the same for all levels: log q is 0. Uria et al., 2013, https://arxiv.org/abs/1306.0186."""

    def draw(self, rows: Rows, count: int, shape: tuple[int, ...]) -> Tensor:
        """See `Dequantization`."""
        return rows.uniform(count, *shape)

    def draw_by_index(self, seed: int, indices: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `Dequantization`."""
        return randomness.uniforms(seed, indices, math.prod(shape), "dequantization").view(-1, *shape)

    def forward(self, numbers: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See `Dequantization`."""
        return noise, noise.new_zeros(len(noise))


class Variational(Dequantization):
    """A learned q(u|x): u = sigmoid(m(x) + s(x) e), each pixel with its own m and s from all of x, and e from N(0, I).

    Ho et al., 2019, Flow++, https://arxiv.org/abs/1902.00275, whose q is a flow; here its pixels are independent given
    x. The density of u is exact, so the number remains a bound, and a tighter one than with uniform noise.

    Args:
        levels: of a pixel; taken from the data set by the command line.
        shape: sample shape (C, H, W); taken from the data set by the command line.
        width: units of each of the two hidden layers.

    Raises:
        UserError: for a number out of range.
    """

    def __init__(self, levels: int, shape: tuple[int, int, int], width: int = 128) -> None:
        super().__init__(levels)
        at_least(1, "model.dequantization.", width=width)
        self.shape, self.width = tuple(shape), width
        size = math.prod(shape)
        last = nn.Linear(width, 2 * size)
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([0.0, math.log(1.6)]).repeat_interleave(size))  # nearly uniform at first
        self.layers = nn.Sequential(nn.Linear(size, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)

    def draw(self, rows: Rows, count: int, shape: tuple[int, ...]) -> Tensor:
        """See `Dequantization`."""
        return rows.normal(count, *shape)

    def draw_by_index(self, seed: int, indices: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `Dequantization`."""
        return randomness.latents(seed, indices, math.prod(shape), "dequantization").view(-1, *shape)

    def forward(self, numbers: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See `Dequantization`."""
        mean, log_scale = self.layers(2 * numbers.flatten(1) / (self.levels - 1) - 1).chunk(2, dim=1)
        normal = noise.flatten(1)
        v = mean + log_scale.exp() * normal
        log_normal = -0.5 * (normal.square() + math.log(2 * math.pi)) - log_scale  # of v
        log_q = log_normal - F.logsigmoid(v) - F.logsigmoid(-v)  # over the slope of the sigmoid
        return v.sigmoid().view_as(noise), log_q.sum(1)
