"""Documents in rows of one length: several of them packed into a row for training, one a row for evaluation.

Which documents share a row is a function of (seed, pass over the data), and a step's rows are one of its number: any
number of ranks and micro-batches sees the same. A document's tokens never read another's: `TokenBatch.documents` says
which is which.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from lit_gen.core import randomness
from lit_gen.core.batches import Batches
from lit_gen.core.errors import UserError
from lit_gen.protocols.text import TokenBatch

OPEN = 32
"""Rows that are being filled at the same time: a short document finds room in one that a long one did not fit."""


@dataclass(frozen=True)
class Documents:
    """Tokens of documents, and which of them are scored.

    Attributes:
        tokens: int32 (N,), of all documents.
        scored: bool (N,).
        begins: int64 (documents + 1,), where each begins, and N.
    """

    tokens: np.ndarray
    scored: np.ndarray
    begins: np.ndarray

    def __len__(self) -> int:
        return len(self.begins) - 1

    @property
    def lengths(self) -> np.ndarray:
        """int64 (documents,)."""
        return np.diff(self.begins)

    def rows(self, rows: list[np.ndarray], width: int, filling: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of ``width`` tokens that hold the documents of these numbers, one after the other.

        Returns:
            Tokens, int64 (rows, width), ``filling`` behind the documents; which of them are scored, bool; the place of
            each token's document in its row, int64, -1 behind them.
        """
        tokens = np.full((len(rows), width), filling, dtype=np.int64)
        scored, places = np.zeros((len(rows), width), dtype=bool), np.full((len(rows), width), -1, dtype=np.int64)
        for row, held in enumerate(rows):
            at = 0
            for place, number in enumerate(held):
                begin, end = self.begins[number], self.begins[number + 1]
                here = slice(at, at + end - begin)
                tokens[row, here], scored[row, here] = self.tokens[begin:end], self.scored[begin:end]
                places[row, here] = place
                at = here.stop
        return tokens, scored, places


def pack(lengths: np.ndarray, order: np.ndarray, width: int) -> list[np.ndarray]:
    """Rows of at most ``width`` tokens: each document in turn goes into the first open row with room for it.

    Args:
        lengths: of all documents, none above ``width``.
        order: the documents' numbers.
        width: tokens of a row.

    Returns:
        The numbers of the documents in each row, in the order in which the rows were closed.
    """
    rooms: list[int] = []
    held: list[list[int]] = []
    closed = []
    for number, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        row = next((i for i, room in enumerate(rooms) if length <= room), len(rooms))
        if row == len(rooms):
            rooms.append(width)
            held.append([])
        rooms[row] -= length
        held[row].append(number)
        if len(rooms) > OPEN:
            rooms.pop(0)
            closed.append(held.pop(0))
    return [np.array(row) for row in closed + held]


class TrainRows:
    """Rows of documents for training, one batch for each step; its state is the number of the next step.

    All documents are read once before any is read again. A step may hold the last rows of one pass over the data and
    the first of the next; an "epoch" is the number of whole steps of the first pass, at least one.

    Args:
        documents: none longer than ``block_size + 1``.
        block_size: tokens that the network reads.
        batches: how the rows of a step are divided among ranks and micro-batches.
        seed: names the order.
        packing: whether a row holds several documents.
        filling: the id behind a row's documents.
        rank: this process's number.
        device: where batches are put.
    """

    def __init__(
        self,
        documents: Documents,
        block_size: int,
        batches: Batches,
        seed: int,
        *,
        packing: bool = True,
        filling: int = 0,
        rank: int = 0,
        device: torch.device | None = None,
    ) -> None:
        self.documents, self.block_size, self.batches, self.seed = documents, block_size, batches, seed
        self.packing, self.filling, self.device = packing, filling, device or torch.device("cpu")
        self.tokens_per_step = batches.per_step * block_size
        self.step, self._mine = 0, batches.of_rank(rank)
        self._ends = [0]  # the number of the first row of each pass so far, and of the next
        self._plan: tuple[int, list[np.ndarray]] = (-1, [])  # of the last pass that was asked for

    def __len__(self) -> int:
        return max(1, self._end(0) // self.batches.per_step)

    def state_dict(self) -> dict[str, int]:
        """The next step; the same on every rank, and for every division of a step's rows."""
        per_step, rows = self.batches.per_step, self._end(0)
        return {"step": self.step, "tokens_per_step": self.tokens_per_step, "rows_per_step": per_step, "rows": rows}

    def resume(self, state: dict[str, int], allow_changes: bool) -> None:
        """Continue at ``state``.

        Raises:
            UserError: if a step took another number of tokens or rows, or a pass over the data another number of rows,
                unless that is allowed.
        """
        before = state["tokens_per_step"]
        if before != self.tokens_per_step and not allow_changes:
            raise UserError(
                f"a step takes {self.tokens_per_step} tokens now but took {before} (data.batch_size, data.block_size): "
                f"a resumed run continues as it was, or say --allow_changes true"
            )
        now = self.state_dict()
        for name, what in (("rows_per_step", "a step takes"), ("rows", "a pass over the data takes")):
            if state[name] != now[name] and not allow_changes:
                raise UserError(
                    f"{what} {now[name]} rows now but took {state[name]} (data.batch_size, data.packing, data.long): "
                    f"a resumed run continues as it was, or say --allow_changes true"
                )
        self.step = state["step"]

    def __iter__(self) -> Iterator[TokenBatch]:
        """The remaining batches of the epoch."""
        epoch = self.step // len(self)
        while self.step // len(self) == epoch:
            batch = self._batch(self.step)
            self.step += 1
            yield batch

    def row(self, number: int) -> np.ndarray:
        """The documents of a row, by its number since the run began."""
        turn = 0
        while number >= self._end(turn):
            turn += 1
        return self._packed(turn)[number - self._ends[turn]]

    def _end(self, turn: int) -> int:
        """The number of the first row after pass ``turn``."""
        while len(self._ends) < turn + 2:
            self._ends.append(self._ends[-1] + len(self._packed(len(self._ends) - 1)))
        return self._ends[turn + 1]

    def _packed(self, turn: int) -> list[np.ndarray]:
        if self._plan[0] != turn:
            order = randomness.host(self.seed, "documents", turn).permutation(len(self.documents))
            rows = pack(self.documents.lengths, order, self.block_size + 1) if self.packing else [*order[:, None]]
            self._plan = turn, rows
        return self._plan[1]

    def _batch(self, step: int) -> TokenBatch:
        rows = [self.row(step * self.batches.per_step + place) for place in self._mine.tolist()]
        made = self.documents.rows(rows, self.block_size + 1, self.filling)
        tokens, scored, places = (torch.from_numpy(x).to(self.device, non_blocking=True) for x in made)
        # the first token of a document is never scored, so that no target is of another one
        return TokenBatch(
            tokens, scored[:, 1:], self._mine, self.batches.micro_batches, places[:, :-1] if self.packing else None
        )


class DocumentLoader:
    """Every document once, one a row, in blocks of one fixed shape, block k on rank k % world.

    What fills up a block is never scored, and has the index -1. Every rank gets equally many blocks, at least one.

    Args:
        documents: what is scored.
        rows: documents in a block.
        filling: the id behind a document.
        rank: this process's number.
        world: number of processes.
        device: where batches are put.

    Yields:
        `TokenBatch`: tokens (rows, longest document), scored (rows, longest - 1), indices (rows,).
    """

    def __init__(
        self,
        documents: Documents,
        rows: int,
        filling: int = 0,
        *,
        rank: int = 0,
        world: int = 1,
        device: torch.device | None = None,
    ) -> None:
        self.documents, self.at_once, self.filling = documents, rows, filling
        self.rank, self.world, self.device = rank, world, device or torch.device("cpu")
        self.width = max(2, int(documents.lengths.max(initial=0)))

    def __len__(self) -> int:
        return max(1, math.ceil(len(self.documents) / (self.at_once * self.world)))

    def __iter__(self) -> Iterator[TokenBatch]:
        """This rank's blocks."""
        for k in range(len(self)):
            first = (self.rank + k * self.world) * self.at_once
            numbers = np.arange(first, first + self.at_once)
            indices = np.where(numbers < len(self.documents), numbers, -1)
            rows = [np.array([i] if i >= 0 else [], dtype=np.int64) for i in indices.tolist()]
            tokens, scored, _ = map(torch.from_numpy, self.documents.rows(rows, self.width, self.filling))
            yield TokenBatch(tokens.to(self.device), scored[:, 1:].to(self.device), torch.from_numpy(indices))
