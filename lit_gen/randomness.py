"""Randomness as a function, not a stream: every draw is named by ``(seed, purpose, step, index)``.

No generator state is ever saved. A resumed run draws at step s what the undisturbed run drew at step s, and each of W
ranks takes its own rows of the draw that one rank would make for the whole global batch.

Two sources, both keyed by the same name:

- `host`: a counter-based NumPy generator (Philox, https://doi.org/10.1145/2063384.2063405). Its draws are the same on
  every machine and device: data order, flips, crops, evaluation latents.
- `device`: a torch generator on the training device, for noise drawn in every training step.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

BLOCK = 64
"""Rows of one evaluation block. A network's output is bit-equal only for equal batch shapes, so evaluation always runs
whole blocks of this many global indices; a batch-size option changes how many run at once, not what is in one."""


def key(seed: int, purpose: str, step: int = 0, index: int = 0) -> int:
    """A 64-bit key for the draw of that name; equal names give equal keys on every machine."""
    name = f"{seed}/{purpose}/{step}/{index}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def host(seed: int, purpose: str, step: int = 0, index: int = 0) -> np.random.Generator:
    """A device-independent generator for the draw of that name."""
    return np.random.Generator(np.random.Philox(key(seed, purpose, step, index)))


def device(where: torch.device, seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """A torch generator on device ``where`` for the draw of that name."""
    generator = torch.Generator(where)
    generator.manual_seed(key(seed, purpose, step) >> 1)  # 63 bits: accepted by every backend
    return generator


def training_noise(
    shape: tuple[int, ...],
    where: torch.device,
    seed: int,
    purpose: str,
    step: int,
    rank: int = 0,
    world: int = 1,
) -> Tensor:
    """Standard normal noise of ``shape`` (B, ...): this rank's rows of the draw for all ranks (world * B, ...)."""
    generator = device(where, seed, purpose, step)
    whole = torch.randn((world * shape[0], *shape[1:]), generator=generator, device=where)
    return whole[rank * shape[0] : (rank + 1) * shape[0]]


def latents(seed: int, indices: Tensor, dim: int, purpose: str = "latents") -> Tensor:
    """Evaluation latents: row i depends on ``(seed, purpose, indices[i])`` alone, on every machine.

    Args:
        seed: the run's seed.
        indices: int64 (n,), global sample indices, none negative.
        dim: the latent dimension.
        purpose: names an independent family of latents.

    Returns:
        float32 (n, dim) on the CPU.
    """
    wanted = indices.cpu().numpy()
    rows = np.empty((len(wanted), dim), dtype=np.float32)
    for block in np.unique(wanted // BLOCK):
        drawn = host(seed, purpose, index=int(block)).standard_normal((BLOCK, dim), dtype=np.float32)
        mine = wanted // BLOCK == block
        rows[mine] = drawn[wanted[mine] % BLOCK]
    return torch.from_numpy(rows)


def whole_blocks(indices: Tensor) -> tuple[Tensor, Tensor]:
    """The indices of every block that ``indices`` (n,) touch, and the position of each index among them."""
    blocks, block = torch.unique(indices.cpu() // BLOCK, return_inverse=True)
    rows = (blocks[:, None] * BLOCK + torch.arange(BLOCK)).flatten()
    return rows, block * BLOCK + indices.cpu() % BLOCK


def seed_global(seed: int, step: int, rank: int) -> None:
    """Seed torch's global generators for one training step of one rank.

    Dropout, and a user's own code that draws without a generator, thereby resumes exactly. These draws alone depend on
    the world size.
    """
    torch.manual_seed(key(seed, "global", step, rank) >> 1)
