"""Random crops of a text for training: what a step sees is a function of its number."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from lit_gen.core import randomness
from lit_gen.core.batches import Batches
from lit_gen.core.errors import UserError
from lit_gen.data.text.windows import TokenStream
from lit_gen.protocols.text import TokenBatch

MOST_STEPS = 32
"""The most steps whose crops are gathered at once. After a step of training the processor's caches hold nothing of this
code, and a batch takes 0.4 ms instead of the 0.03 that it takes after another."""
MOST_BYTES = 1 << 18
"""The most bytes of what is gathered at once: a large batch is gathered by itself."""


class TrainCrops:
    """Crops of ``block_size + 1`` tokens, one batch for each step; its state is the number of the next step.

    Row i of step s starts at a place that depends on ``(seed, s, i)`` and the total batch only: one process with 16
    rows, two ranks with 8, and two micro-batches of 8 see the same. A crop starts at each of the N - block_size places
    where a whole one fits, with equal probability; an "epoch" is the number of steps that read N tokens, at least one.

    Args:
        stream: the training tokens.
        block_size: tokens that the network reads.
        batches: how the crops of a step are divided among ranks and micro-batches; a rank's come in one batch,
            (micro_batches * rows, block_size + 1).
        seed: names the crops.
        rank: this process's number.
        device: where batches are put.
        on_device: keep all tokens on ``device``, 2 or 4 bytes each.

    Raises:
        UserError: if the text is shorter than one crop; when a batch is made, if its tokens are damaged.
    """

    def __init__(
        self,
        stream: TokenStream,
        block_size: int,
        batches: Batches,
        seed: int,
        *,
        rank: int = 0,
        device: torch.device | None = None,
        on_device: bool = False,
    ) -> None:
        if len(stream) < block_size + 1:
            raise UserError(
                f"data.block_size: {block_size} was found, but the training text has {len(stream)} tokens; "
                f"at most {len(stream) - 1} is expected"
            )
        self.stream, self.block_size, self.batches, self.seed = stream, block_size, batches, seed
        self.device = device or torch.device("cpu")
        self.tokens_per_step = batches.per_step * block_size
        self.step, self._rows = 0, batches.of_rank(rank)
        self._at_once = max(1, min(MOST_STEPS, MOST_BYTES // (8 * len(self._rows) * (block_size + 1))))
        self._ahead: dict[int, torch.Tensor] = {}
        self._resident: torch.Tensor | None = None
        if on_device:
            dtype = np.int16 if stream.vocab_size <= 2**15 else np.int32
            self._resident = torch.from_numpy(stream.at(slice(None)).astype(dtype)).to(self.device)

    def __len__(self) -> int:
        return max(1, len(self.stream) // self.tokens_per_step)

    def state_dict(self) -> dict[str, int]:
        """The next step; the same on every rank, and for every division of a step's crops."""
        return {"step": self.step, "tokens_per_step": self.tokens_per_step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at the step of ``state``; earlier versions counted micro-batches."""
        self.step = state["step"] if "step" in state else state["micro_batch"] // state["accumulate"]

    def resume(self, state: dict[str, int], allow_changes: bool) -> None:
        """Continue at ``state``.

        Raises:
            UserError: if a step took another number of tokens, unless that is allowed.
        """
        before = state["tokens_per_step"]
        if before != self.tokens_per_step and not allow_changes:
            raise UserError(
                f"a step takes {self.tokens_per_step} tokens now but took {before} (data.batch_size, data.block_size): "
                f"a resumed run continues as it was, or say --allow_changes true"
            )
        self.load_state_dict(state)

    def __iter__(self) -> Iterator[TokenBatch]:
        """The remaining batches of the epoch."""
        epoch = self.step // len(self)
        while self.step // len(self) == epoch:
            batch = self._crops(self.step)
            self.step += 1
            yield batch

    def starts(self, step: int) -> np.ndarray:
        """Where all crops of a step start, int64 (crops,)."""
        draws = randomness.host(self.seed, "crops", step)
        return draws.integers(0, len(self.stream) - self.block_size, size=self.batches.per_step)

    def _crops(self, step: int) -> TokenBatch:
        if step not in self._ahead:
            steps = range(step, step + self._at_once)
            self._ahead = dict(zip(steps, self._gather(steps), strict=True))
        return TokenBatch(self._ahead.pop(step), None, self._rows, self.batches.micro_batches)

    def _gather(self, steps: range) -> Sequence[torch.Tensor]:
        """The tokens of each step, in one gather."""
        rows = self._rows.numpy()
        starts = np.stack([self.starts(step)[rows] for step in steps])
        places = starts[:, :, None] + np.arange(self.block_size + 1)
        if self._resident is not None:
            return self._resident[torch.from_numpy(places).to(self.device)].long().unbind()
        gathered = self.stream.at(places).astype(np.int64)
        return [torch.from_numpy(tokens).to(self.device, non_blocking=True) for tokens in gathered]
