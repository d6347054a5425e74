"""Steps of one optimizer, which lightning drives: the training of VAEs and language models."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lit_gen.core import randomness
from lit_gen.core.errors import UserError
from lit_gen.training.module import TrainingModule
from lit_gen.training.monitor import gradient_norm
from lit_gen.training.schedules import Schedule


class Automatic(TrainingModule):
    """Base of the modules with one optimizer under Lightning's automatic optimization.

    A log entry holds the means since the last one, over all micro-batches and ranks, and is written before any callback
    saves a checkpoint, so that a resumed run writes the entries that the undisturbed one would have written.

    Attributes:
        schedule: factor of the learning rates as a function of the step, or None.
        seed: names dropout.
    """

    schedule: Schedule | None
    seed: int

    def __init__(self) -> None:
        super().__init__()
        self._norm = torch.zeros(())
        self._rates: list[float] = []

    # ---- what a module calls

    def keep_schedules(self, schedules: Mapping[str, Schedule] | None) -> None:
        """See `TrainingModule`.

        Raises:
            UserError: for two schedules of the learning rate too.
        """
        if self.schedule is not None and "optimizer.lr" in (schedules or ()):
            raise UserError("model.schedules: optimizer.lr has a schedule already, model.schedule; one is expected")
        super().keep_schedules(schedules)

    def create_optimizer(self, optimizer: Any, parameters: Any) -> torch.optim.Optimizer:
        """Create the optimizer and remember its learning rates.

        Raises:
            UserError: if it cannot be made.
        """
        try:
            found: torch.optim.Optimizer = optimizer(parameters)
        except ValueError as error:
            raise UserError(f"model.optimizer: {error}") from error
        self._rates = [group["lr"] for group in found.param_groups]
        return found

    def start_micro_batch(self, batch_idx: int) -> tuple[int, int, int]:
        """Seed torch's generators and set the learning rates for a micro-batch.

        Returns:
            The step, from 0; which part of its global batch this is; the number of parts.
        """
        trainer = self.trainer
        step, accumulate, world = trainer.global_step, trainer.accumulate_grad_batches, trainer.world_size
        micro = batch_idx % accumulate
        randomness.seed_global(self.seed, step * accumulate + micro, self.global_rank, self.device)
        if micro == 0:
            self.apply_schedules(step)
        if self.schedule is not None:
            factor = self.schedule(step)
            for group, rate in zip(self._optimizer().param_groups, self._rates, strict=True):
                group["lr"] = rate * factor
        return step, micro * world + self.global_rank, accumulate * world

    def record_terms(self, terms: dict[str, Tensor]) -> None:
        """Add the scalar terms of a micro-batch to the next log entry.

        Raises:
            NonFiniteLossError: on one CPU at once; elsewhere the next log entry raises it, on all ranks at once.
        """
        step = self.trainer.global_step + 1
        self.monitor.add(step, list(terms), torch.stack([value.detach() for value in terms.values()]))
        if self.device.type == "cpu" and self.trainer.world_size == 1 and (bad := self.monitor.failure()):
            self.stop_non_finite(f"the {bad[1]} became NaN or infinite at step {bad[0]}")

    def extra_scalars(self, step: int) -> dict[str, float]:
        """Further scalars of a log entry, of step ``step``, by name."""
        return {}

    def announced(self, limit_val_batches: float | None = None) -> list[str]:
        """Names of what is logged, split included; a module adds its `extra_scalars` and those of its validation.

        Args:
            limit_val_batches: the trainer's option; 0 for no validation.
        """
        return [f"train/{name}" for name in (*self.monitor.names, "gradient_norm", "lr", *(self.schedules or ()))]

    # ---- what lightning calls

    def on_train_start(self) -> None:
        """Refuse an epoch that ends in the middle of a step.

        Raises:
            UserError: if the number of its batches is no multiple of those that a step takes.
        """
        batches, accumulate = self.trainer.num_training_batches, self.trainer.accumulate_grad_batches
        if accumulate > 1 and batches != math.inf and batches % accumulate:
            raise UserError(
                f"trainer.accumulate_grad_batches: {accumulate} was found, but an epoch has {batches} batches "
                f"(trainer.limit_train_batches, or the train loader), which is no multiple of it"
            )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note the gradient's norm, before it is clipped, where a log entry follows."""
        if self.detailed(self.trainer.global_step + 1):
            self._norm = gradient_norm(self.parameters())  # averages have no gradients

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One update, of the averages too; then the log entry, if it is due."""
        super().optimizer_step(*args, **kwargs)
        self.move_average(self.trainer.global_step)
        step = self.trainer.global_step + 1  # lightning counts it when this returns
        if not self.detailed(step):
            return
        means = self.monitor.means(gathered=True)
        for name, value in means.items():
            if not math.isfinite(value):
                self.stop_non_finite(f"the {name} became NaN or infinite at step {step}")
        values = means | self.extra_scalars(step)
        values |= {"gradient_norm": float(self._norm), "lr": self._optimizer().param_groups[0]["lr"]} | self._scheduled
        self.log_scalars({f"train/{name}": value for name, value in values.items()}, step)

    def _optimizer(self) -> Any:
        return self.optimizers()
