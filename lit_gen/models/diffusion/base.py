"""What all paths from data to noise share; the paths are in ``paths.py`` and ``discrete.py``."""

import numpy as np
import torch
from torch import Tensor


class Path:
    """Base: a path says `alpha`, `sigma`, their rates and `time_of`; see `lit_gen.protocols.diffusion.Marginal`.

    Time 0 is data, as in DDPM and EDM; papers on flow matching have it the other way round.

    Attributes:
        start: the least time at which the network is trained and asked.
        end: the time of the noise, which samplers begin with.
        steps: of a discrete path, whose times are 1 to ``steps``; None of a continuous one.
    """

    start: float
    end: float
    steps: int | None = None

    def alpha(self, t: Tensor) -> Tensor:
        """What is left of the data at times (B,)."""
        raise NotImplementedError

    def sigma(self, t: Tensor) -> Tensor:
        """The standard deviation of the noise at times (B,)."""
        raise NotImplementedError

    def alpha_rate(self, t: Tensor) -> Tensor:
        """The derivative of `alpha`."""
        raise NotImplementedError

    def sigma_rate(self, t: Tensor) -> Tensor:
        """The derivative of `sigma`."""
        raise NotImplementedError

    def time_of(self, ratio: Tensor) -> Tensor:
        """The time at which sigma / alpha is ``ratio``."""
        raise NotImplementedError

    def at_share(self, share: Tensor) -> Tensor:
        """Times that are evenly spread over the path: shares in [0, 1) to times."""
        return self.start + (self.end - self.start) * share

    def grid(self, first: float, steps: int, last: float = 0.0) -> Tensor:
        """See `lit_gen.protocols.diffusion.Marginal`: evenly spread."""
        return torch.from_numpy(np.linspace(first, last, steps + 1))

    def level(self, t: Tensor) -> Tensor:
        """What the network gets for the time: its share of the path, in [0, 1]."""
        return t / self.end

    def scale(self, t: Tensor) -> Tensor:
        """What the network's input is multiplied with: 1 where x_t has about the data's variance at all times."""
        return torch.ones_like(t)

    def between(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t, for data and noise (B, C, H, W) and times (B,)."""
        return column(self.alpha(t), x) * x + column(self.sigma(t), x) * noise


def exactly(*numbers: float) -> Tensor:
    """Numbers in float64 on the host, where the coefficients of a solver's step are computed."""
    return torch.from_numpy(np.array(numbers, dtype=float))


def column(values: Tensor, x: Tensor) -> Tensor:
    """Values (B,) as (B, 1, ..., 1), in the precision of ``x``, to be multiplied with it."""
    return values.to(x.dtype).view(-1, *(1,) * (x.ndim - 1))
