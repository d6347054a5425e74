"""Random crops of a text for training: what a step sees is a function of its number."""

from collections.abc import Iterator

import numpy as np
import torch

from lit_gen.core import randomness
from lit_gen.core.errors import UserError
from lit_gen.data.text.windows import TokenStream
from lit_gen.protocols.text import TokenBatch


class TrainCrops:
    """Crops of ``block_size + 1`` tokens, one micro-batch at a time; its state is the number of the next one.

    ``accumulate`` micro-batches make a step: item k is micro-batch ``k % accumulate`` of step ``k // accumulate``. The
    crops are drawn for the global step, laid out as (micro-batch, rank, row), so that row i of step s starts at a place
    that depends on ``(seed, s, i)`` alone: one process with 16 rows, two ranks with 8, and two micro-batches of 8 see
    the same. A crop starts at each of the N - block_size places where a whole one fits, with equal probability; an
    "epoch" is as many steps as read N tokens, and at least one.

    Args:
        stream: the training tokens.
        block_size: tokens that the network reads.
        batch_size: crops per rank and micro-batch.
        seed: names the crops.
        accumulate: micro-batches of one step.
        rank: this process's number.
        world: number of processes.
        device: where batches are put.
        on_device: keep all tokens on ``device``, 2 or 4 bytes each.

    Raises:
        UserError: if the text is shorter than one crop; when a batch is made, if its tokens are damaged.
    """

    def __init__(
        self,
        stream: TokenStream,
        block_size: int,
        batch_size: int,
        seed: int,
        *,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
        device: torch.device | None = None,
        on_device: bool = False,
    ) -> None:
        if len(stream) < block_size + 1:
            raise UserError(
                f"data.block_size: {block_size} was found, but the training text has {len(stream)} tokens; "
                f"at most {len(stream) - 1} is expected"
            )
        self.stream, self.block_size, self.batch_size, self.seed = stream, block_size, batch_size, seed
        self.accumulate, self.rank, self.world = accumulate, rank, world
        self.device = device or torch.device("cpu")
        self.tokens_per_step = accumulate * world * batch_size * block_size
        self.micro_batch = 0
        self._resident: torch.Tensor | None = None
        if on_device:
            dtype = np.int16 if stream.vocab_size <= 2**15 else np.int32
            self._resident = torch.from_numpy(stream.at(slice(None)).astype(dtype)).to(self.device)

    def __len__(self) -> int:
        return max(1, len(self.stream) // self.tokens_per_step) * self.accumulate

    @property
    def step(self) -> int:
        """The step of the next micro-batch."""
        return self.micro_batch // self.accumulate

    def state_dict(self) -> dict[str, int]:
        """The next micro-batch; the same on every rank."""
        sizes = {"accumulate": self.accumulate, "tokens_per_step": self.tokens_per_step}
        return {"micro_batch": self.micro_batch} | sizes

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at the micro-batch of ``state``; at its step, where a step has another number of them now."""
        same = state["accumulate"] == self.accumulate
        self.micro_batch = (
            state["micro_batch"] if same else state["micro_batch"] // state["accumulate"] * self.accumulate
        )

    def resume(self, state: dict[str, int], allow_changes: bool) -> None:
        """Continue at ``state``.

        Raises:
            UserError: if a step took another number of tokens, unless that is allowed.
        """
        before = state["tokens_per_step"]
        if before != self.tokens_per_step and not allow_changes:
            raise UserError(
                f"a step takes {self.tokens_per_step} tokens now but took {before} (data.batch_size, data.block_size, "
                f"trainer.accumulate_grad_batches, trainer.devices, trainer.num_nodes): a resumed run continues as it "
                f"was, or say --allow_changes true"
            )
        self.load_state_dict(state)

    def __iter__(self) -> Iterator[TokenBatch]:
        """The remaining micro-batches of the epoch."""
        epoch = self.micro_batch // len(self)
        while self.micro_batch // len(self) == epoch:
            batch = self._crops(*divmod(self.micro_batch, self.accumulate))
            self.micro_batch += 1
            yield batch

    def starts(self, step: int) -> np.ndarray:
        """Where the crops of a global step start, int64 (accumulate, world, batch_size)."""
        shape = (self.accumulate, self.world, self.batch_size)
        draws = randomness.host(self.seed, "crops", step)
        return draws.integers(0, len(self.stream) - self.block_size, size=int(np.prod(shape))).reshape(shape)

    def _crops(self, step: int, part: int) -> TokenBatch:
        starts = self.starts(step)[part, self.rank]
        rows = (part * self.world + self.rank) * self.batch_size + torch.arange(self.batch_size)
        places = starts[:, None] + np.arange(self.block_size + 1)
        if self._resident is not None:
            tokens = self._resident[torch.from_numpy(places).to(self.device)].long()
        else:
            gathered = self.stream.at(places).astype(np.int64)
            tokens = torch.from_numpy(gathered).to(self.device, non_blocking=True)
        return TokenBatch(tokens, None, rows)
