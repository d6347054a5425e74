"""Means of the loss terms since the last log entry, and the first step that was not finite."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lit_gen.protocols.training import Network

NETWORKS: tuple[Network, Network] = ("discriminator", "generator")


class Monitor(nn.Module):
    """Sums of each loss term since the last log entry, on the device and in the checkpoint.

    Args:
        terms: for each network the names of its loss terms, the adversarial loss first.
    """

    sums: Tensor
    counts: Tensor
    first_bad: Tensor

    def __init__(self, terms: dict[Network, list[str]]) -> None:
        super().__init__()
        self.names = [name for network in NETWORKS for name in terms[network]]
        self._offset = {"discriminator": 0, "generator": len(terms["discriminator"])}
        self._places: dict[tuple[int, ...], Tensor] = {}
        self.register_buffer("sums", torch.zeros(len(self.names)))
        self.register_buffer("counts", torch.zeros(len(self.names)))
        self.register_buffer("first_bad", torch.full((2,), math.inf))  # step, for each network

    def add(self, network: Network, due: list[int], values: Tensor, step: int) -> None:
        """Note the terms of one update, without waiting for the device.

        Args:
            network: which was updated.
            due: which of its terms were evaluated.
            values: theirs, (len(due),), the same on every rank.
            step: which step this is, from 1.
        """
        places = tuple(self._offset[network] + i for i in due)
        if places not in self._places or self._places[places].device != values.device:
            self._places[places] = torch.tensor(places, device=values.device)
        where = self._places[places]
        self.sums.index_add_(0, where, values)
        self.counts.index_add_(0, where, torch.ones_like(values))
        mine = NETWORKS.index(network)
        now = torch.where(torch.isfinite(values).all(), math.inf, float(step))
        self.first_bad[mine] = torch.minimum(self.first_bad[mine], now)

    def failure(self) -> tuple[int, Network] | None:
        """The first step and network whose loss was not finite; waits for the device."""
        steps = self.first_bad.tolist()
        first = min(steps)
        return (int(first), NETWORKS[steps.index(first)]) if math.isfinite(first) else None

    def collect(self, others: dict[str, Tensor]) -> dict[str, float]:
        """The means since the last call and scalars of this step, in one wait for the device."""
        values = torch.cat([self.sums, self.counts, *(v.reshape(1) for v in others.values())]).tolist()
        self.sums.zero_()
        self.counts.zero_()
        n = len(self.names)
        means = {name: values[i] / values[n + i] for i, name in enumerate(self.names) if values[n + i]}
        return means | dict(zip(others, values[2 * n :], strict=True))


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The norm of all gradients together."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
