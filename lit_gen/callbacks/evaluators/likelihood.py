"""The negative log-likelihood by importance sampling: every held-out image once, the same at any world size."""

import math
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from lit_gen.callbacks.evaluators.posteriors import Block, LatentEvaluator, seed_of
from lit_gen.core import data as datasets
from lit_gen.core import distributed
from lit_gen.core.errors import under
from lit_gen.core.options import at_least
from lit_gen.core.randomness import latents
from lit_gen.evaluation.names import suffix_of
from lit_gen.evaluation.result import Result
from lit_gen.metrics.importance import ImportanceWeights, summarize
from lit_gen.protocols.data import Split
from lit_gen.protocols.images import Weights
from lit_gen.protocols.latents import LatentVariableModel


class ImportanceNLL(LatentEvaluator):
    """-log p(x) in nats, bounded from above with k samples of q(z|x): ``val/nll_iw100``, ``val/bits_per_dim_iw100``.

    ``val/nll_iw100_se`` is the standard error of the mean over the images, ``val/ess_iw100`` the mean effective sample
    size, from 1 to k: see `lit_gen.metrics.importance`. The number of samples is part of the name, and so is the number
    of images if it is not the whole split: ``val/nll_iw100_count1k``. Papers take 5,000 samples of the whole test
    set. Bits per dimension exist only for 8-bit images.

    Sample s of image i has noise that depends on ``(seed, i, s)``, and every forward pass has 64 images and ``chunk``
    samples of each (what exceeds ``samples`` in the last one is dropped). So the numbers have the same bits on any
    number of ranks. With another ``chunk``, which the record names, the noise is the same, but sums are rounded
    differently, and networks may round differently too. Float32 convolutions on a CPU gave the same bits with chunks of
    1, 7, 10 and 50, and numbers that agreed to 1e-13, relative.

    Args:
        samples: k, of each image.
        every: steps between two evaluations; 0 for none by steps.
        every_epochs: epochs between two evaluations; 0 for none by epochs.
        at_end: evaluate after the last step too.
        count: number of images, the first ones of the split; null for all.
        weights: the moving average, or the raw weights: ``val/nll_iw100_raw``.
        chunk: samples of an image that are decoded at once; the decoder then gets 64 times this number of images.

    Raises:
        UserError: for a number out of range.
    """

    def __init__(
        self,
        samples: int = 100,
        every: int = 0,
        every_epochs: int = 0,
        at_end: bool = True,
        count: int | None = None,
        weights: Weights = "ema",
        chunk: int = 10,
    ) -> None:
        super().__init__(f"nll-iw{samples}", every, every_epochs, at_end, count, weights)
        at_least(1, f"{self.option}.", samples=samples, chunk=chunk)
        self.samples, self.chunk = samples, min(chunk, samples)

    def announced(self, data: Any) -> list[str]:
        """See `Evaluator`; bits per dimension exist only for 8-bit images."""
        name, raw = f"iw{self.samples}{self.count_suffix}", suffix_of(self.weights)
        return [f"{n}{raw}" for n in (f"nll_{name}", f"bits_per_dim_{name}", f"nll_{name}_se", f"ess_{name}")]

    def measure_block(self, module: LatentVariableModel, block: Block) -> tuple[list[float], list[float]]:
        """Bounds and effective sample sizes of the block's images that count."""
        weights: ImportanceWeights | None = None
        for first in range(0, self.samples, self.chunk):
            noise = importance_noise(seed_of(module), block.indices, module.latent_dim, first, self.chunk)
            log_weights = module.log_weights(block.images, noise.to(block.images.device), block.labels, self.weights)
            some = ImportanceWeights.of(log_weights[:, : self.samples - first])
            weights = some if weights is None else weights.joined(some)
            distributed.look()
        assert weights is not None
        return weights.bound[: block.rows].tolist(), weights.effective_samples[: block.rows].tolist()

    def evaluate(self, trainer: Trainer, module: LightningModule, split: Split) -> Result:
        """Compute this rank's blocks, and add up those of all ranks."""
        assert isinstance(module, LatentVariableModel)
        blocks = self.measure_blocks(trainer, module, split)
        bounds, sizes = (distributed.gather([x for block in blocks for x in block[i]]) for i in (0, 1))
        if len(bounds) != self.images(trainer, split):
            raise AssertionError(f"{len(bounds)} of {self.images(trainer, split)} images were weighed")
        with under(f"{self.option}: "):
            found = summarize(bounds, sizes)
        name = f"iw{self.samples}{self.suffix}"
        values = {f"nll_{name}": found.nll}
        images = datasets.images_of(trainer).split(split).images
        if images.dtype == torch.uint8:
            values[f"bits_per_dim_{name}"] = module.bits_per_dim(found.nll, math.prod(images.shape[1:]))
        values |= {f"nll_{name}_se": found.standard_error, f"ess_{name}": found.effective_samples}
        record = {
            "metrics": {"nll": {"k": self.samples, "chunk": self.chunk, "estimator": "logsumexp(log w) - log k"}},
            "least_effective_samples": found.least_effective_samples,
            **self.record(trainer, module, split),
        }
        return Result({f"{n}{suffix_of(self.weights)}": value for n, value in values.items()}, {}, record)


def importance_noise(seed: int, indices: Tensor, dim: int, first: int, samples: int) -> Tensor:
    """Standard normal noise of samples ``first`` to ``first + samples`` of each image.

    Args:
        seed: the run's seed.
        indices: int64 (B,), the images.
        dim: the latent dimension.
        first: number of the first sample.
        samples: how many.

    Returns:
        float32 (B, samples, dim) on the CPU; row (i, s) depends only on ``(seed, indices[i], first + s)``.
    """
    drawn = [latents(seed, indices, dim, f"importance {s}") for s in range(first, first + samples)]
    return torch.stack(drawn, dim=1)
