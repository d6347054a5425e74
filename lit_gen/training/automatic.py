"""What families share that lightning optimizes itself, with one optimizer: rates, log entries, a loss gone wrong."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lit_gen.core import distributed, randomness
from lit_gen.core.errors import UserError
from lit_gen.training.module import Rebuildable
from lit_gen.training.schedules import Schedule


class Automatic(Rebuildable):
    """Mixin of a module with one optimizer, before LightningModule.

    A log entry holds the means since the last one, over all micro-batches and ranks, and is written before any callback
    saves a checkpoint, so that a resumed run writes the entries that the undisturbed one would have written.

    Attributes:
        terms: names of what `note` is given, in the order in which one that is not finite is named.
        schedule: factor of the learning rates as a function of the step, or None.
        seed: names dropout.
    """

    terms: Sequence[str] = ("loss",)
    schedule: Schedule | None
    seed: int

    def __init__(self) -> None:
        super().__init__()
        self._sums, self._count = torch.zeros(len(self.terms)), 0  # since the last log entry
        self._norm = torch.zeros(())
        self._rates: list[float] = []

    # ---- what a module calls

    def made(self, optimizer: Any, parameters: Any) -> torch.optim.Optimizer:
        """The optimizer of ``parameters``, its rates noted.

        Raises:
            UserError: if it cannot be made.
        """
        try:
            found: torch.optim.Optimizer = optimizer(parameters)
        except ValueError as error:
            raise UserError(f"model.optimizer: {error}") from error
        self._rates = [group["lr"] for group in found.param_groups]
        return found

    def begin(self, batch_idx: int) -> tuple[int, int, int]:
        """Seed torch's generators and set the rates for a micro-batch.

        Returns:
            The step, from 0; which part of its global batch this is; the number of parts.
        """
        module: Any = self
        step, accumulate, world = (
            module.trainer.global_step,
            module.trainer.accumulate_grad_batches,
            module.trainer.world_size,
        )
        micro = batch_idx % accumulate
        randomness.seed_global(self.seed, step * accumulate + micro, module.global_rank, module.device)
        if self.schedule is not None:
            factor = self.schedule(step)
            for group, rate in zip(module.optimizers().param_groups, self._rates, strict=True):
                group["lr"] = rate * factor
        return step, micro * world + module.global_rank, accumulate * world

    def note(self, values: Tensor) -> None:
        """Add the terms (k,) of a micro-batch to the next log entry.

        Raises:
            NonFiniteLossError: on one CPU at once; elsewhere the next log entry raises it, on all ranks at once.
        """
        module: Any = self
        values = values.detach()
        self._sums = self._sums.to(values.device) + values
        self._count += 1
        if values.device.type == "cpu" and module.trainer.world_size == 1:
            self._stop_if_not_finite(values.tolist(), module.trainer.global_step + 1)

    def more(self, step: int) -> dict[str, float]:
        """Further scalars of a log entry, of step ``step``, by name."""
        return {}

    def announced(self, limit_val_batches: float | None = None) -> list[str]:
        """Names of what is logged, split included; a module adds those of `more` and of its validation.

        Args:
            limit_val_batches: the trainer's option; 0 for no validation.
        """
        return [f"train/{name}" for name in (*self.terms, "gradient_norm", "lr")]

    # ---- what lightning calls

    def on_train_start(self) -> None:
        """Refuse an epoch that ends in the middle of a step.

        Raises:
            UserError: if the number of its batches is no multiple of those that a step takes.
        """
        trainer: Any = self.trainer  # type: ignore[attr-defined]
        batches, accumulate = trainer.num_training_batches, trainer.accumulate_grad_batches
        if accumulate > 1 and batches != math.inf and batches % accumulate:
            raise UserError(
                f"trainer.accumulate_grad_batches: {accumulate} was found, but an epoch has {batches} batches "
                f"(trainer.limit_train_batches, or the train loader), which is no multiple of it"
            )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note the gradient's norm, before it is clipped, where a log entry follows."""
        module: Any = self
        if self._detailed(module.trainer.global_step + 1):
            self._norm = nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One update; then the log entry, if it is due."""
        module: Any = self
        super().optimizer_step(*args, **kwargs)  # type: ignore[misc]  # LightningModule's
        step = module.trainer.global_step + 1  # lightning counts it when this returns
        if not self._detailed(step):
            return
        sums = [math.fsum(distributed.gather([value])) for value in self._sums.tolist()]
        means = [value / self._count / module.trainer.world_size for value in sums]
        self._sums, self._count = torch.zeros_like(self._sums), 0
        self._stop_if_not_finite(means, step)
        values = dict(zip(self.terms, means, strict=True)) | self.more(step)
        values |= {"gradient_norm": float(self._norm), "lr": module.optimizers().param_groups[0]["lr"]}
        self.log_scalars({f"train/{name}": value for name, value in values.items()}, step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store each rank's part of the next log entry too."""
        super().on_save_checkpoint(checkpoint)
        ranks = [distributed.gather([value]) for value in self._sums.tolist()]
        checkpoint["since_log"] = {"sums": ranks, "count": self._count}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        noted = checkpoint.get("since_log", {"sums": [[]]})
        if len(noted["sums"][0]) == distributed.world_size():  # else the next entry's means leave those steps out
            self._sums = torch.tensor([ranks[distributed.rank()] for ranks in noted["sums"]])
            self._count = noted["count"]

    def _detailed(self, step: int) -> bool:
        module: Any = self
        every: int = module.trainer.log_every_n_steps
        return every > 0 and step % every == 0

    def _stop_if_not_finite(self, values: list[float], step: int) -> None:
        for name, value in zip(self.terms, values, strict=True):
            if not math.isfinite(value):
                self.stop_non_finite(f"the {name} became NaN or infinite at step {step}")
