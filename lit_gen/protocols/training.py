"""The contracts of training."""

from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

Network = Literal["discriminator", "generator"]


class Terms(NamedTuple):
    """The loss of one micro-batch, with what else is known of it; all but the total are detached scalars."""

    total: Tensor
    """What is minimized."""
    values: dict[str, Tensor]
    """The loss's terms by the names of the log, which shows their means since the last entry."""
    watched: dict[str, Tensor]
    """Means over the batch that the log shows of its own step only."""
    signals: dict[str, Tensor]
    """What steers a controller, such as ADA's; never logged."""


@runtime_checkable
class Announcing(Protocol):
    """A callback that says which numbers it logs: what it logs, the module leaves to it."""

    def announced(self, data: Any) -> list[str]:
        """Public names of the numbers, without the split, from options alone.

        Args:
            data: the data module.
        """
        ...
