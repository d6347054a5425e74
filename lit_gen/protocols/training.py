"""The contracts of training."""

from typing import Literal, NamedTuple

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
