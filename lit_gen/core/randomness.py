"""Randomness as a function, not a stream: every draw is named by ``(seed, purpose, step, index)``.

No generator state is ever saved. A resumed run draws at step s what the undisturbed run drew at step s, and each of W
ranks takes its own rows of the draw that one rank would make for the whole global batch. That draw falls into blocks of
rows, each with its own generator, so that a rank draws only the blocks that hold its rows.

Two sources, both keyed by the same name:

- `host`: a counter-based NumPy generator (Philox, https://doi.org/10.1145/2063384.2063405). Its draws are the same on
  every machine and device: data order, flips, crops, evaluation latents.
- `device`: a torch generator on the training device, for noise drawn in every training step.
"""

import hashlib
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

BLOCK = 64
"""Rows of one evaluation block. A network's output is bit-equal only for equal batch shapes, so evaluation always runs
whole blocks of this many global indices; a batch-size option changes how many run at once, not what is in one."""


NUMBERS = 32768
"""The most numbers (of four bytes) in one block of a training draw, unless one row has more. What a rank draws without
need at either end of its rows then takes some tens of microseconds."""


def key(seed: int, purpose: str, step: int = 0, index: int = 0) -> int:
    """A 64-bit key for the draw of that name; equal names give equal keys on every machine."""
    name = f"{seed}/{purpose}/{step}/{index}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def host(seed: int, purpose: str, step: int = 0, index: int = 0) -> np.random.Generator:
    """A device-independent generator for the draw of that name."""
    return np.random.Generator(np.random.Philox(key(seed, purpose, step, index)))


def numpys(seed: int) -> np.random.RandomState:
    """NumPy's former generator, whose draws never change: for what must be drawn as another tool draws it."""
    return np.random.RandomState(seed)


class HostRows:
    """Some rows of what is drawn on the host for whole global batches.

    Args:
        seed: the run's seed.
        rows: int64 (n,), places in the global batch.
        total: rows of the global batch.
    """

    def __init__(self, seed: int, rows: Tensor, total: int) -> None:
        self._seed, self._rows, self._total = seed, rows.numpy(), total
        self._plans: dict[int, tuple[list[int], np.ndarray | None]] = {}

    def draw(
        self, purpose: str, step: int, draw: Callable[[np.random.Generator, int], np.ndarray], numbers: int = 1
    ) -> Tensor:
        """Draw the blocks that hold the rows.

        Args:
            purpose: what the draw is for.
            step: the step that it is for.
            draw: from a generator and a number of rows to an array with that many rows.
            numbers: of four bytes in a row, on which the size of a block depends.

        Returns:
            (n, ...) on the CPU; row i depends on the name, ``rows[i]`` and ``total`` only.
        """
        size = rows_of_block(numbers)
        if size not in self._plans:
            self._plans[size] = self._plan(size)
        blocks, places = self._plans[size]
        drawn = [draw(host(self._seed, purpose, step, b), min(size, self._total - b * size)) for b in blocks]
        together = drawn[0] if len(drawn) == 1 else np.concatenate(drawn)
        return torch.from_numpy(together if places is None else together[places])

    def _plan(self, size: int) -> tuple[list[int], np.ndarray | None]:
        """The blocks of ``size`` rows that are drawn, and where in them the rows are; None: all of them, in order."""
        blocks, which = np.unique(self._rows // size, return_inverse=True)
        places = which * size + self._rows % size
        drawn = sum(min(size, self._total - int(b) * size) for b in blocks)
        return blocks.tolist(), None if np.array_equal(places, np.arange(drawn)) else places


def rows_of_block(numbers: int) -> int:
    """Rows of one block of a training draw, by the numbers in a row: 64, more of short rows, fewer of long ones.

    Each block costs some 3 us on a CPU in addition to its numbers, so a batch of short rows should be one block.
    """
    return max(1, min(max(BLOCK, 2048 // max(1, numbers)), NUMBERS // max(1, numbers)))


def on(where: torch.device) -> torch.Generator:
    """A torch generator on device ``where``: every generator of a device is made here."""
    return torch.Generator(where)


def device(where: torch.device, seed: int, purpose: str, step: int = 0, index: int = 0) -> torch.Generator:
    """A torch generator on device ``where`` for the draw of that name."""
    generator = on(where)
    generator.manual_seed(key(seed, purpose, step, index) >> 1)  # 63 bits: accepted by every backend
    return generator


class Rows:
    """Draws for the rows of one training batch: this part's rows of what is drawn for the whole global batch.

    The global batch is divided into equal parts, one for each micro-batch and rank. Each draw is divided into blocks of
    rows, and a part draws the blocks that hold its rows. It draws them whole: eight normal numbers are not a prefix of
    sixteen. So two ranks with half the batch, or two micro-batches of half the size, get what one batch gets, and the
    cost on a rank does not grow with the number of ranks. The same calls in the same order give the same values.

    Args:
        where: device of the draws.
        seed: the run's seed.
        purpose: what the draws are for; another purpose is independent.
        step: the step or update they are for.
        part: which part of the global batch.
        parts: number of its parts.
    """

    def __init__(self, where: torch.device, seed: int, purpose: str, step: int, part: int = 0, parts: int = 1) -> None:
        self.device, self.part, self.parts = where, part, parts
        self._seed, self._purpose, self._step, self._calls = seed, purpose, step, 0
        self._generator = on(where)

    def normal(self, rows: int, *shape: int) -> Tensor:
        """Standard normal draws (rows, *shape)."""
        return self._mine(torch.randn, rows, shape)

    def uniform(self, rows: int, *shape: int) -> Tensor:
        """Uniform draws (rows, *shape) from [0, 1)."""
        return self._mine(torch.rand, rows, shape)

    def _mine(self, draw: Callable[..., Tensor], rows: int, shape: tuple[int, ...]) -> Tensor:
        purpose = f"{self._purpose}, draw {self._calls}" if self._calls else self._purpose
        self._calls += 1
        size, first, total = rows_of_block(math.prod(shape)), self.part * rows, self.parts * rows
        last, mine = first + rows, torch.empty((rows, *shape), device=self.device)
        for start in range(first - first % size, last, size):
            end = min(start + size, total)
            self._generator.manual_seed(key(self._seed, purpose, self._step, start // size) >> 1)
            if first <= start and end <= last:
                draw((end - start, *shape), generator=self._generator, out=mine[start - first : end - first])
            else:
                block = draw((end - start, *shape), generator=self._generator, device=self.device)
                mine[max(start, first) - first : min(end, last) - first] = block[max(first - start, 0) : last - start]
        return mine


class Draws(NamedTuple):
    """Where in a run a micro-batch is: its random draws are named by this."""

    seed: int
    """The run's seed."""
    update: int
    """How many updates the network has had."""
    part: int
    """Which part of the update's global batch this is, counting micro-batches and ranks."""
    parts: int
    """How many parts there are."""

    def rows(self, purpose: str, where: torch.device) -> Rows:
        """Draws for this part's rows."""
        return Rows(where, self.seed, purpose, self.update, self.part, self.parts)


def latents(seed: int, indices: Tensor, dim: int, purpose: str = "latents") -> Tensor:
    """Evaluation latents: row i depends only on ``(seed, purpose, indices[i])``, on every machine.

    Args:
        seed: the run's seed.
        indices: int64 (n,), global sample indices, none negative.
        dim: the latent dimension.
        purpose: names an independent family of latents.

    Returns:
        float32 (n, dim) on the CPU.
    """
    return _by_index(seed, indices, dim, purpose, np.random.Generator.standard_normal)


def uniforms(seed: int, indices: Tensor, dim: int, purpose: str) -> Tensor:
    """As `latents`, from [0, 1)."""
    return _by_index(seed, indices, dim, purpose, np.random.Generator.random)


def _by_index(seed: int, indices: Tensor, dim: int, purpose: str, draw: Callable[..., object]) -> Tensor:
    wanted = indices.cpu().numpy()
    blocks, which = np.unique(wanted // BLOCK, return_inverse=True)
    drawn = np.empty((len(blocks), BLOCK, dim), dtype=np.float32)
    for place, block in enumerate(blocks.tolist()):
        draw(host(seed, purpose, index=block), dtype=np.float32, out=drawn[place])
    return torch.from_numpy(drawn.reshape(-1, dim)[which * BLOCK + wanted % BLOCK])


class BlockDraws(NamedTuple):
    """Noise within a sampler that iterates: `lit_gen.protocols.images.IndexedDraws` of one evaluation block."""

    seed: int
    """The run's seed."""
    block: int
    """Which block: global indices from 64 * block on."""
    where: torch.device
    """Device of the draws: they are the same on every machine with that kind of device."""

    def normal(self, purpose: str, step: int, *shape: int) -> Tensor:
        """Standard normal draws (64, *shape) of that name, independent of the order of calls."""
        generator = device(self.where, self.seed, f"sampler: {purpose}", step, self.block)
        return torch.randn((BLOCK, *shape), generator=generator, device=self.where)


def seed_global(seed: int, step: int, rank: int, where: torch.device) -> None:
    """Seed torch's global generators for one training step of one rank.

    Dropout, and a user's own code that draws without a generator, thereby resumes exactly. Only these draws depend on
    the world size.
    """
    _seed_global(key(seed, "global", step, rank) >> 1, where)


def seed_block(seed: int, block: int, where: torch.device) -> None:
    """Seed torch's global generators for one evaluation block, for networks that draw their own noise."""
    _seed_global(key(seed, "block", index=block) >> 1, where)


def _seed_global(value: int, where: torch.device) -> None:
    """Seed the CPU's generator and that of device ``where``, as `torch.manual_seed` would.

    That function also visits every backend that is not in use: 160 to 800 us a call in a CUDA build without a GPU,
    where this takes 2.
    """
    torch.default_generator.manual_seed(value)
    if where.type == "cuda":
        with torch.cuda.device(where):
            torch.cuda.manual_seed(value)
    elif where.type != "cpu":
        torch.get_device_module(where).manual_seed(value)
