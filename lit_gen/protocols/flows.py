"""The contract of a normalizing flow's transform: a bijection whose log-determinant is known."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class FlowTransform(Protocol):
    """A bijection between data x (B, C, H, W) and z (B, D), D = C * H * W; an ``nn.Module``.

    Points and vectors of D numbers are (B, D, 1, 1). One with ``num_classes`` gets labels, int64 (B,), as its last
    argument, in both directions.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """X to z, and log|det dz/dx| in nats, (B,)."""
        ...

    def inverse(self, z: Tensor) -> Tensor:
        """Z to x."""
        ...


@runtime_checkable
class DensityModel(Protocol):
    """A module that knows the density, or the probability, of data exactly or as an unbiased estimate of a bound."""

    def log_prob(self, images: Tensor, indices: Tensor, labels: Tensor | None = None) -> Tensor:
        """Nats (B,) of images (B, C, H, W) in [-1, 1], or points; ``indices`` (B,) name the noise of each, if any."""
        ...
