"""Where data can lie, and the map from there to the real line, on which a flow's transform works.

A transform puts density on the whole line; of data within bounds, some of it would lie where no data can be, and pixels
that are constant in training would be squeezed onto a point. The map's log-determinant is part of the likelihood.
Points are in the data's own units; images with L levels are y in [0, L): see `lit_gen.models.flow.dequantization`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gen.core.errors import UserError
from lit_gen.core.options import above, expect

__all__ = ["Interval", "Logit", "RealLine", "Standardize", "Support"]


class Support(nn.Module):
    """Base: a map with a known derivative for each number of x.

    Attributes:
        largest: no coordinate of data within the support is larger in absolute value; None where that is not known.
    """

    largest: float | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """X (B, C, H, W) to coordinates of that shape, and log|det| in nats, (B,)."""
        raise NotImplementedError

    def inverse(self, coordinates: Tensor) -> Tensor:
        """Coordinates to x."""
        raise NotImplementedError

    def check(self, x: Tensor) -> None:
        """Refuse data outside the support; reads every number, which costs a synchronization.

        Raises:
            UserError: names the number.
        """
        if not torch.isfinite(x).all():
            raise UserError("model.support: data that are not finite were found, finite numbers are expected")

    def fit(self, mean: Tensor, variance: Tensor) -> None:
        """Take what the map needs from the training data, before the first step; most need nothing.

        Args:
            mean: (C, H, W), of the training split, in float64 where the device has it.
            variance: the same.
        """


class RealLine(Support):
    """Any real number: the identity."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Support`."""
        return x, x.new_zeros(len(x))

    def inverse(self, coordinates: Tensor) -> Tensor:
        """See `Support`."""
        return coordinates


class Interval(Support):
    """Numbers of [low, high], by the logit of alpha + (1 - 2 alpha) (x - low) / (high - low).

    Dinh et al., 2017, https://arxiv.org/abs/1605.08803, 4.1. With an alpha above 0 the ends of the interval have finite
    coordinates, and the model's density reaches over them by a share of about alpha; with 0 it ends there, and
    so must the data, which may then not lie on them.

    Args:
        low: lower end.
        high: upper end.
        alpha: see above.
        bound: scale the coordinates so that those of the ends are -bound and bound: 5 or less for splines, which are
            the identity beyond 5. null: as they are, the largest is log(1 / alpha - 1). Needs an alpha above 0.

    Raises:
        UserError: for a number out of range.
    """

    def __init__(self, low: float = 0.0, high: float = 1.0, alpha: float = 1e-3, bound: float | None = None) -> None:
        super().__init__()
        expect(-math.inf < low < high < math.inf, "model.support.high", high, f"a number above low ({low:g})")
        expect(0 <= alpha < 0.5, "model.support.alpha", alpha, "a number in [0, 0.5)")
        above(0, "model.support.", null=True, bound=bound)
        if bound is not None:
            expect(alpha > 0, "model.support.alpha", alpha, "a number above 0", ", since model.support.bound is set")
        self.low, self.high, self.alpha, self.bound = low, high, alpha, bound
        own = math.log(1 / alpha - 1) if alpha else None
        self._factor = 1.0 if bound is None or own is None else bound / own
        self.largest = own if bound is None else bound

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Support`."""
        share = (1 - 2 * self.alpha) / (self.high - self.low)
        p = self.alpha + share * (x - self.low)
        v = p.log() - torch.log1p(-p)
        slope = -F.logsigmoid(v) - F.logsigmoid(-v) + math.log(share * self._factor)
        return self._factor * v, slope.flatten(1).sum(1)

    def inverse(self, coordinates: Tensor) -> Tensor:
        """See `Support`."""
        p = (coordinates / self._factor).sigmoid()
        return self.low + (p - self.alpha) * ((self.high - self.low) / (1 - 2 * self.alpha))

    def check(self, x: Tensor) -> None:
        """See `Support`."""
        super().check(x)
        low, high = float(x.min()), float(x.max())
        inside = self.low <= low and high <= self.high
        if not inside or (self.alpha == 0 and not self.low < low <= high < self.high):
            ends = f"[{self.low:g}, {self.high:g}]" if self.alpha else f"({self.low:g}, {self.high:g})"
            raise UserError(f"model.support: data from {low:g} to {high:g} were found, numbers in {ends} are expected")


class Logit(Interval):
    """Numbers of [0, levels): dequantized images. See `Interval`.

    Args:
        levels: of a pixel; taken from the data set by the command line.
        alpha: see `Interval`.
        bound: see `Interval`.

    Raises:
        UserError: for a number out of range.
    """

    def __init__(self, levels: int, alpha: float = 0.05, bound: float | None = None) -> None:
        expect(0 < alpha < 0.5, "model.support.alpha", alpha, "a number in (0, 0.5)")  # levels begin at 0
        super().__init__(0.0, float(levels), alpha, bound)
        self.levels = levels


class Standardize(Support):
    """Any real number, each coordinate minus its mean over the training split, divided by its standard deviation.

    Args:
        shape: sample shape (C, H, W); taken from the data set by the command line.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.register_buffer("mean", torch.zeros(self.shape))
        self.register_buffer("scale", torch.ones(self.shape))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        self.mean: Tensor
        self.scale: Tensor
        self.fitted: Tensor

    def fit(self, mean: Tensor, variance: Tensor) -> None:
        """Keep both, once: a resumed run has them from its checkpoint.

        Raises:
            UserError: for a coordinate that is constant in training, whose likelihood would have no bound.
        """
        if bool(self.fitted):
            return
        constant = (variance <= 0).flatten().nonzero().flatten().tolist()
        if constant:
            which = ", ".join(str(i) for i in constant[:8]) + (", ..." if len(constant) > 8 else "")
            raise UserError(
                f"model.support: Standardize found {len(constant)} of {variance.numel()} coordinates constant in the "
                f"training split ({which}), where a density has no upper bound; data that vary are expected"
            )
        self.mean.copy_(mean)
        self.scale.copy_(variance.sqrt())
        self.fitted.fill_(True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Support`."""
        return (x - self.mean) / self.scale, -self.scale.log().sum().expand(len(x))

    def inverse(self, coordinates: Tensor) -> Tensor:
        """See `Support`."""
        return coordinates * self.scale + self.mean
