"""What training watches: means of the loss terms, the first term that is not finite, the norm of the gradients."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lit_gen.core import distributed
from lit_gen.core.errors import UserError

WAITING = 256  # the most updates whose terms lie on the device


class Monitor:
    """Sums of each loss term since the last log entry, in float64 on the host.

    Terms wait on the device until they are needed, so that no step waits for it. They are added in the order of the
    updates, so a resumed run has the sums of an undisturbed one.

    Args:
        names: of the terms, in the order of the log.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.sums, self.counts = dict.fromkeys(self.names, 0.0), dict.fromkeys(self.names, 0)
        self._bad: tuple[int, str] | None = None
        self._waiting: list[tuple[int, Mapping[str, Tensor]]] = []

    def add(self, step: int, terms: Mapping[str, Tensor]) -> None:
        """Add the terms of one micro-batch or update, detached scalars, without waiting for the device."""
        self._waiting.append((step, terms))
        if len(self._waiting) >= WAITING:
            self.settle()

    def settle(self) -> None:
        """Fetch what waits on the device."""
        waiting, self._waiting = self._waiting, []
        values = [value for _, terms in waiting for value in terms.values()]
        if all(value.is_cpu for value in values):
            fetched = iter([float(value) for value in values])
        else:
            fetched = iter(torch.stack([value.float() for value in values]).tolist())  # one copy for all
        for step, terms in waiting:
            for name in terms:
                value = next(fetched)
                self.sums[name] += value
                self.counts[name] += 1
                if self._bad is None and not math.isfinite(value):
                    self._bad = step, name

    def failure(self) -> tuple[int, str] | None:
        """The first step and term since the last call that was not finite; waits for the device."""
        self.settle()
        found, self._bad = self._bad, None
        return found

    def means(self, gathered: bool) -> dict[str, float]:
        """The means since the last call; of names that were evaluated.

        Args:
            gathered: whether to take them over all ranks; not needed if each rank has the same values.
        """
        self.settle()
        sums, ranks = self.sums, 1
        if gathered:
            ranks = distributed.world_size()
            sums = {name: math.fsum(distributed.gather([value])) for name, value in sums.items()}
        found = {name: sums[name] / count / ranks for name, count in self.counts.items() if count}
        self.sums, self.counts = dict.fromkeys(self.names, 0.0), dict.fromkeys(self.names, 0)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Each rank's sums; called on every rank."""
        self.settle()
        sums = {name: distributed.gather([value]) for name, value in self.sums.items()}
        return {"sums": sums, "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them; at another number of ranks the next entry's means leave those steps out."""
        if all(len(ranks) == distributed.world_size() for ranks in state["sums"].values()):
            known = [name for name in self.names if name in state["sums"]]
            self.sums |= {name: state["sums"][name][distributed.rank()] for name in known}
            self.counts |= {name: state["counts"][name] for name in known}


def refuse_constant(loss: Tensor, what: str) -> None:
    """Refuse a loss without a gradient, before torch does in words of its own.

    Args:
        loss: of one micro-batch.
        what: how to call it.

    Raises:
        UserError: if it does not depend on what is trained, or is no real scalar.
    """
    if loss.numel() != 1 or loss.is_complex():
        raise UserError(
            f"{what} is {str(loss.dtype).removeprefix('torch.')} {tuple(loss.shape)}, a real scalar is expected"
        )
    if not loss.requires_grad:
        raise UserError(f"{what} does not depend on what is trained: a network, a loss or a term detaches it")


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The norm of all gradients together."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
