"""An adapter on the networks of a module in training: its penalty, its steps and its numbers in the log."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lit_gen.training.adapters.adapter import Adapter
from lit_gen.training.adapters.change import Change, adapted, all_adapted


class Attached:
    """An adapter, and the changes of all layers that are trained.

    Args:
        adapter: is applied.
        network: what it is applied to, see `Adapter.apply`; its weights may be loaded later.

    Attributes:
        changes: of all layers.
        averaged: those of the averaged networks.

    Raises:
        UserError: for an adapter that does not fit.
    """

    def __init__(self, adapter: Adapter, network: nn.Module) -> None:
        adapter.apply(network, filled=False)
        self.adapter, self.changes = adapter, _changes(network)
        self.averaged: list[Change] = []
        self._penalty = torch.zeros(())  # of the last update

    def average(self, networks: Sequence[nn.Module]) -> None:
        """Take note of the averages of the networks."""
        self.averaged = [change for network in networks for change in _changes(network)]

    def among(self, parameters: Sequence[nn.Parameter]) -> bool:
        """Whether it is among what an optimizer trains."""
        mine = next(self.changes[0].parameters())
        return any(parameter is mine for parameter in parameters)

    def penalized(self, loss: Tensor) -> Tensor:
        """The loss of an update with the penalty; call it for one micro-batch of the update."""
        penalty = self.adapter.penalty(self.changes)
        if penalty is None:
            return loss
        self._penalty = penalty.detach()
        return loss + penalty.to(loss.dtype)

    def updated(self, step: int) -> None:
        """Act after the optimizer's step, before the gradients are gone.

        Args:
            step: which step it was, from 1.
        """
        self.adapter.after_update(self.changes, step)

    def averages_updated(self) -> None:
        """Act after the averages were updated."""
        self.adapter.average(self.averaged)

    @property
    def names(self) -> list[str]:
        """The names of its numbers in a log entry."""
        return [*(["orthogonality"] if self.adapter.penalized else []), *self.adapter.logged]

    def scalars(self) -> dict[str, float]:
        """Its numbers in a log entry: the penalty of that step, with its factor, and the adapter's own."""
        penalty = {"orthogonality": float(self._penalty)} if self.adapter.penalized else {}
        return penalty | self.adapter.scalars(self.changes)


def _changes(network: nn.Module) -> list[Change]:
    return [adapted(layer) for _, layer in all_adapted(network)]
