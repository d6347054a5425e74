"""The contract of a normalizing flow's transform: a bijection whose log-determinant is known."""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from lit_gen.protocols.images import Weights


@runtime_checkable
class FlowTransform(Protocol):
    """A bijection between data x (B, C, H, W) and z (B, D), D = C * H * W; an ``nn.Module``.

    Points and vectors of D numbers are (B, D, 1, 1). One whose ``num_classes`` is a number gets labels, int64 (B,), as
    its last argument, in both directions. What it gets are coordinates on the real line; see `lit_gen.models.flow`.

    It may have further attributes:

    - ``initialize(x, labels)``: called once, without gradients, with all coordinates that this rank reads in the first
      step (labels only as above); what it derives it reduces over ranks itself. The result is in the checkpoint.
    - ``interval``: a number; beyond it in absolute value the transform is the identity.
    """

    shape: tuple[int, int, int]
    """(C, H, W) of x."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """X to z, and log|det dz/dx| in nats, (B,)."""
        ...

    def inverse(self, z: Tensor) -> Tensor:
        """Z to x."""
        ...


@runtime_checkable
class DensityModel(Protocol):
    """A module that knows the density, or the probability, of data exactly or as an unbiased estimate of a bound."""

    def log_prob(
        self, images: Tensor, indices: Tensor, labels: Tensor | None = None, weights: Weights = "ema"
    ) -> Tensor:
        """Nats (B,) in evaluation mode.

        Args:
            images: (B, C, H, W) in [-1, 1], or points.
            indices: int64 (B,); they name the noise of each image, if there is any.
            labels: int64 (B,) of a conditional model.
            weights: the moving average, or the raw weights.

        Raises:
            UserError: for data that the density is not of.
        """
        ...


@runtime_checkable
class DensityRecorder(Protocol):
    """A `DensityModel` that says how its nats are computed."""

    def scoring_record(self) -> dict[str, Any]:
        """What a record of nats says of how they were computed."""
        ...
