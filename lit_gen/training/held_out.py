"""Sums over held-out data, exact at any world size: the validation of VAEs, flows and diffusion models."""

import math
from typing import Literal

from torch import Tensor

from lit_gen.core import distributed
from lit_gen.training.automatic import Automatic


class RowSums:
    """Sums of terms over rows, of all ranks."""

    def __init__(self) -> None:
        self._blocks: list[tuple[float, ...]] = []

    def add(self, *terms: Tensor) -> None:
        """Add terms of the rows of a batch, (B,) each, in float64."""
        self._blocks.append((*(x.cpu().double().sum().item() for x in terms), len(terms[0])))

    def collect(self) -> tuple[list[float], int]:
        """The sums and the number of rows over all ranks, which is 0 if there were none; called on every rank."""
        every, self._blocks = distributed.gather(self._blocks), []
        *sums, count = (math.fsum(column) for column in zip(*every, strict=True)) if every else (0,)
        return sums, int(count)


class HeldOutSums(Automatic):
    """Base of modules that validate by sums over rows: their steps call `add_held_out`, `log_held_out` gets the sums.

    Lightning calls ``test_step`` for a test: a module sets it to its ``validation_step``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held_out = RowSums()

    def add_held_out(self, *terms: Tensor) -> None:
        """Add terms of the rows of a batch, (B,) each, in float64."""
        self._held_out.add(*terms)

    def log_held_out(self, split: Literal["val", "test"], sums: list[float], count: int) -> None:
        """Log what the sums over all ranks say; called on every rank.

        Args:
            split: of the data.
            sums: of the terms, over all rows of all ranks.
            count: those rows.
        """
        raise NotImplementedError

    def on_validation_epoch_start(self) -> None:
        """Forget what an interrupted evaluation left."""
        self._held_out = RowSums()

    def on_validation_epoch_end(self) -> None:
        """Add up the ranks, and log."""
        self._add_up("val")

    on_test_epoch_start = on_validation_epoch_start

    def on_test_epoch_end(self) -> None:
        """As for validation."""
        self._add_up("test")

    def _add_up(self, split: Literal["val", "test"]) -> None:
        sums, count = self._held_out.collect()
        if count and not self.trainer.sanity_checking:
            self.log_held_out(split, sums, count)
