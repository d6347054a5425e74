"""What the latents carry, during training: active units, mutual information, KL by dimension."""

import math
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from lit_gen.callbacks.evaluators.posteriors import Block, LatentEvaluator, seed_of
from lit_gen.core import distributed
from lit_gen.core import images as pictures
from lit_gen.core.errors import UserError, under
from lit_gen.core.options import above
from lit_gen.core.randomness import BLOCK, latents
from lit_gen.evaluation.names import suffix_of
from lit_gen.evaluation.result import Result
from lit_gen.metrics.latents import THRESHOLD, kl_by_dimension, mutual_information, unit_variances
from lit_gen.protocols.data import Split
from lit_gen.protocols.images import Weights
from lit_gen.protocols.latents import LatentVariableModel

KNOWN = ("kl", "mean", "log_variance")


class LatentDiagnostics(LatentEvaluator):
    """Explains a rate: ``val/active_units``, ``val/mutual_information``, ``val/kl_sum`` and ``val/kl_max``, in nats.

    Active units have a posterior mean that moves with the image. A rate without active units or mutual information has
    collapsed; mutual information is at most the logarithm of the number of images. See `lit_gen.metrics.latents`. The
    record has KL and variance of every dimension, and a bar chart of KL. If a posterior does not give its KL by
    dimension, its mean or its variance, the numbers that need it are left out.

    All posteriors are gathered on one process in the order of the images, so that the numbers have the same bits on any
    number of ranks. The time for mutual information grows with the square of their number: 5 s for 10,000 images.

    Args:
        every: steps between two evaluations; 0 for none by steps.
        every_epochs: epochs between two evaluations; 0 for none by epochs.
        at_end: evaluate after the last step too.
        count: number of images, the first ones of the split; null for all.
        weights: the moving average, or the raw weights: ``val/active_units_raw``.
        threshold: variance above which a unit is active; a value other than 0.01 is part of the name.

    Raises:
        UserError: for a number out of range.
    """

    def __init__(
        self,
        every: int = 0,
        every_epochs: int = 0,
        at_end: bool = True,
        count: int | None = None,
        weights: Weights = "ema",
        threshold: float = THRESHOLD,
    ) -> None:
        other = "" if threshold == THRESHOLD else f"_threshold{threshold:g}"
        super().__init__(f"latents{other.replace('_', '-')}", every, every_epochs, at_end, count, weights)
        above(0, f"{self.option}.", finite=True, threshold=threshold)
        self.threshold, self._active = threshold, f"active_units{other}"

    def announced(self, data: Any) -> list[str]:
        """See `Evaluator`; numbers that need what the posterior does not give are left out."""
        suffix = self.count_suffix + suffix_of(self.weights)
        return [f"{name}{suffix}" for name in (self._active, "mutual_information", "kl_sum", "kl_max")]

    def measure_block(self, module: LatentVariableModel, block: Block) -> dict[str, Tensor]:
        """A sample of each posterior and what is known of it, by name, each (64, latent_dim) on the CPU.

        Raises:
            UserError: if nothing is known.
        """
        noise = latents(seed_of(module), block.indices, module.latent_dim, "posterior").to(block.images.device)
        code = module.encode(block.images, noise, block.labels, self.weights)
        known = {name: code.info[name] for name in KNOWN if name in code.info}
        if not known:
            hint = f"--{self.option} false leaves this evaluation out"
            raise UserError(f"{self.option}: the model's posterior knows none of {', '.join(KNOWN)}; {hint}")
        return {name: x.float().cpu() for name, x in {"z": code.z, **known}.items()}

    def evaluate(self, trainer: Trainer, module: LightningModule, split: Split) -> Result:
        """Encode on all ranks, compute on rank 0."""
        assert isinstance(module, LatentVariableModel)
        blocks = self.measure_blocks(trainer, module, split)
        count = self.images(trainer, split)
        names = distributed.broadcast(tuple(blocks[0]) if blocks else ())  # the first rank always has a block
        each = -(-count // (BLOCK * distributed.world_size()))
        empty = torch.zeros(BLOCK, module.latent_dim)
        gathered: dict[str, Tensor] = {}
        for name in names:
            mine = [block[name] for block in blocks]
            mine += [empty] * (each - len(mine))  # every rank gives the same number
            whole = distributed.gather_blocks(torch.stack(mine), module.device)
            if whole is not None:
                gathered[name] = whole.flatten(0, 1)[:count]
        record = self.record(trainer, module, split)
        return distributed.from_first(lambda: self._result(gathered, record))

    def _result(self, found: dict[str, Tensor], record: dict[str, Any]) -> Result:
        """The numbers of z, kl, mean and log_variance, each (N, latent_dim) if known."""
        values: dict[str, float] = {}
        by_dimension: dict[str, list[float]] = {}
        picture = None
        with under(f"{self.option}: "):
            if "mean" in found:
                variances = unit_variances(found["mean"])
                values[self._active] = float((variances > self.threshold).sum())
                by_dimension["variance_of_mean"] = variances.tolist()
            if "mean" in found and "log_variance" in found:
                values["mutual_information"] = mutual_information(found["z"], found["mean"], found["log_variance"])
            if "kl" in found:
                kl = kl_by_dimension(found["kl"])
                values |= {"kl_sum": math.fsum(kl.tolist()), "kl_max": float(kl.max())}
                by_dimension["kl"] = kl.tolist()
                picture = bar_chart(kl)
        record = {
            "metrics": {
                "active_units": {"threshold": self.threshold, "variance": "unbiased, of the posteriors' means"},
                "mutual_information": {"samples": 1, "at_most": math.log(record["count"])},
            },
            "dimensions": by_dimension,
            **record,
        }
        suffix = self.suffix + suffix_of(self.weights)
        return Result({f"{name}{suffix}": v for name, v in values.items()}, {}, record, picture=picture)


def bar_chart(kl: Tensor) -> Tensor:
    """A picture, uint8 (3, H, W), of the KL (d,) of each dimension in nats, the largest first."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), dpi=100, layout="tight")
    axes = figure.add_subplot()
    axes.bar(range(1, len(kl) + 1), kl.sort(descending=True).values.numpy(), width=1, color="C0", edgecolor="white")
    axes.set_xlabel("latent dimension, the largest first")
    axes.set_ylabel("KL (nats)")
    return pictures.of_figure(figure)
