"""The contracts of training, and of what is trained."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from lit_gen.protocols.images import Weights

Network = Literal["discriminator", "generator"]


class Terms(NamedTuple):
    """The loss of one micro-batch with its terms; all but the total are detached scalars."""

    total: Tensor
    """What is minimized."""
    values: dict[str, Tensor]
    """The loss's terms by the names of the log, which shows their means since the last entry."""
    watched: dict[str, Tensor]
    """Means over the batch, logged only for the step of the log entry."""
    signals: dict[str, Tensor]
    """What steers a controller, such as ADA's; never logged."""


class Exported(NamedTuple):
    """The network of a model that is useful by itself."""

    name: str
    """The constructor's argument that describes it: ``generator``."""
    network: nn.Module
    described: Mapping[str, Any] | None = None
    """Its class and arguments, if it is none of the constructor's arguments: ``{class_path, init_args}``."""


@runtime_checkable
class Exportable(Protocol):
    """A module with a network that ``lit-gen export`` writes."""

    def exported(self, weights: Weights = "ema") -> Exported:
        """The network with the averaged or the raw weights."""
        ...


@runtime_checkable
class Announcing(Protocol):
    """A callback that says which numbers it logs; the module then does not log them."""

    def announced(self, data: Any) -> list[str]:
        """Public names of the numbers, without the split, known from the options only.

        Args:
            data: the data module.
        """
        ...
