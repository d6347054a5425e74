"""Every token of a text scored exactly once, with sliding windows of a fixed shape.

Baevski & Auli, 2019, https://arxiv.org/abs/1809.10853, section 5: a window of `context` tokens moves by `stride`; the
first scores all its targets, each later one only those that the one before it did not reach. With stride = context the
windows are disjoint; a smaller stride gives every token more context, and a lower perplexity: both belong in the name
of the number.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lit_gen.core.options import expect
from lit_gen.data.text.token_file import check_ids
from lit_gen.protocols.text import TokenBatch


@dataclass(frozen=True)
class TokenStream:
    """The tokens of one split, in order.

    Attributes:
        tokens: the ids, (N,), unsigned integers, as a rule a memory map.
        prefix: a token that precedes the first one: the end of text for documents, the last training token for the
            held-out tail of a text; None where nothing precedes.
        text_bytes: UTF-8 bytes of the original text.
        characters: characters of the original text.
        documents: how many documents it holds; 0 for a text without end.
        end_of_text: the id that ends each document; None where none does.
        vocab_size: number of ids.
        path: the file that the ids are read from, for messages; None where they are from no file.
        lost: how text that the tokens do not hold comes back; empty where they hold all of it.
    """

    tokens: np.ndarray
    prefix: int | None
    text_bytes: int
    characters: int
    documents: int
    end_of_text: int | None
    vocab_size: int
    path: Path | None = None
    lost: str = ""

    def __len__(self) -> int:
        return len(self.tokens)

    def at(self, places: np.ndarray | slice) -> np.ndarray:
        """The ids at ``places``.

        Raises:
            UserError: if one of them is not in the vocabulary: the file is damaged.
        """
        return check_ids(self.tokens[places], self.vocab_size, self.path)

    @property
    def counts(self) -> dict[str, int]:
        """What records say of it."""
        sizes = {"characters": self.characters, "bytes": self.text_bytes, "tokens": len(self)}
        return sizes | ({"documents": self.documents} if self.documents else {})

    @property
    def targets(self) -> int:
        """How many tokens have one before them: all, or all but the first where there is no `prefix`."""
        return max(0, len(self.tokens) - (self.prefix is None))


def cover(n: int, context: int, stride: int, full: bool = False) -> np.ndarray:
    """Windows that score each of ``n`` targets exactly once.

    Target j is the token after position j. A window reads the positions ``begin`` to ``end`` (exclusive) and scores the
    targets ``first_scored`` to ``end``: the first window scores all its tokens, the others their last ``stride`` or,
    at the ragged end, fewer.

    Args:
        n: number of targets.
        context: the most tokens that a window reads.
        stride: how far each window is from the one before, 1 to ``context``.
        full: let the last window end at the last target but be as long as the others, as lm-evaluation-harness does;
            else it begins a stride after the one before, and is as long as what is left.

    Returns:
        int64 (windows, 3): begin, first_scored, end.

    Raises:
        UserError: if ``stride`` is not in 1..context.
    """
    expect(1 <= stride <= context, "stride", stride, f"1 to {context} (the context)")
    if n <= 0:
        return np.zeros((0, 3), dtype=np.int64)
    begin = stride * np.arange(1 + math.ceil(max(0, n - context) / stride), dtype=np.int64)
    end = np.minimum(begin + context, n)
    if full:
        begin[-1] = max(0, n - context)
    return np.stack([begin, np.concatenate([[0], end[:-1]]), end], axis=1)


class WindowLoader:
    """Windows over a stream in blocks of one fixed shape, block k on rank k % world.

    The network's output is bit-equal only for equal shapes, so ``rows`` belongs to the protocol and not to the machine.
    What fills up a block is never scored, and has the index -1. Every rank gets equally many blocks, at least one, so
    that none misses a collective.

    Args:
        stream: the tokens.
        context: tokens that a window reads.
        stride: how far each window is from the one before, 1 to ``context``.
        rows: windows in a block.
        rank: this process's number.
        world: number of processes.
        device: where batches are put.
        full: see `cover`.

    Yields:
        `TokenBatch`: tokens (rows, context + 1), scored (rows, context), indices (rows,) the windows' numbers.

    Raises:
        UserError: when a batch is made, if its tokens are damaged.
    """

    def __init__(
        self,
        stream: TokenStream,
        context: int,
        stride: int,
        rows: int,
        *,
        rank: int = 0,
        world: int = 1,
        device: torch.device | None = None,
        full: bool = False,
    ) -> None:
        self.stream, self.context, self.stride, self.rows = stream, context, stride, rows
        self.rank, self.world, self.device = rank, world, device or torch.device("cpu")
        self.windows = cover(stream.targets, context, stride, full)

    def __len__(self) -> int:
        return max(1, math.ceil(len(self.windows) / (self.rows * self.world)))

    def __iter__(self) -> Iterator[TokenBatch]:
        """This rank's blocks."""
        for k in range(len(self)):
            yield self._block(self.rank + k * self.world)

    def _block(self, number: int) -> TokenBatch:
        first = number * self.rows
        mine = self.windows[first : first + self.rows]
        padding = ((0, self.rows - len(mine)), (0, 0))
        begin, first_scored, end = np.pad(mine, padding).T[:, :, None]  # padding is (0, 0, 0): nothing of it is scored
        targets = begin + np.arange(self.context)
        scored = (first_scored <= targets) & (targets < end)
        indices = np.full(self.rows, -1)
        indices[: len(mine)] = np.arange(first, first + len(mine))
        tokens = torch.from_numpy(self._tokens(begin, end))
        return TokenBatch(tokens.to(self.device), torch.from_numpy(scored).to(self.device), torch.from_numpy(indices))

    def _tokens(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """int64 (rows, context + 1), zero beyond the last target of each row."""
        positions = begin + np.arange(self.context + 1)  # in [prefix] + tokens
        inside = (positions <= end) & (end > 0)
        places = np.where(inside, positions - (self.stream.prefix is not None), 0)
        found = np.where(inside & (places >= 0), self.stream.at(np.maximum(places, 0)) if len(self.stream) else 0, 0)
        return np.where(places < 0, self.stream.prefix or 0, found).astype(np.int64)
