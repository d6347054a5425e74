"""Steps of one optimizer, which lightning drives: the training of all families but GANs.

A lightning batch holds all micro-batches of a step, so batches, steps and updates are one count. The gradients of all
micro-batches but the last are computed within `Automatic.training_step`, the last one's by lightning, which then steps.
"""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from lit_gen.core import randomness
from lit_gen.core.batches import micro_batches_of, refuse_micro_batches, split
from lit_gen.core.errors import UserError
from lit_gen.core.randomness import Draws
from lit_gen.training.module import SHARDING, TrainingModule
from lit_gen.training.monitor import gradient_norm, refuse_constant
from lit_gen.training.optimizers import rate
from lit_gen.training.schedules import Schedule


class Automatic(TrainingModule):
    """Base of the modules with one optimizer under Lightning's automatic optimization; they implement `loss_of`.

    A log entry holds the means since the last one, over all micro-batches and ranks, and is written before any callback
    saves a checkpoint, so a resumed run writes the entries that the undisturbed one would have written.

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
        self._divided = 1  # number of micro-batches of the step's batch
        self._adds = False  # whether this step adds up their gradients
        self._terms: list[dict[str, Tensor]] = []  # of this step's micro-batches so far

    # ---- what a module calls

    def keep_schedules(self, schedules: Mapping[str, Schedule] | None) -> None:
        """See `TrainingModule`.

        Raises:
            UserError: as there, and for two schedules of the learning rate.
        """
        if self.schedule is not None and "optimizer.lr" in (schedules or ()):
            raise UserError("model.schedules: optimizer.lr has a schedule already, model.schedule; one is expected")
        super().keep_schedules(schedules)

    def create_optimizer(self, optimizer: Any, parameters: Any) -> torch.optim.Optimizer:
        """Create the optimizer and remember its learning rates.

        Raises:
            UserError: if it cannot be made.
        """
        found = self.make_optimizer("model.optimizer", optimizer, parameters)
        self._rates = [group["lr"] for group in found.param_groups]
        return found

    def record_terms(self, terms: dict[str, Tensor]) -> None:
        """Add the scalar terms of a micro-batch to the next log entry, in which each step counts once.

        Raises:
            NonFiniteLossError: on a single CPU process at once; elsewhere at the next log entry, on all ranks.
        """
        step = self.trainer.global_step + 1
        self._terms.append({name: value.detach() for name, value in terms.items()})
        if len(self._terms) < self._divided:
            return
        parts, self._terms = self._terms, []
        if len(parts) > 1:
            mean = torch.stack([torch.stack(list(part.values())) for part in parts]).mean(0)
            parts[0] = dict(zip(terms, mean.unbind(), strict=True))
        self.monitor.add(step, parts[0])
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
        adapter = [] if self.attached is None else self.attached.names
        names = (*self.monitor.names, *adapter, "gradient_norm", "lr", *(self.schedules or ()))
        return [f"train/{name}" for name in names]

    # ---- what a module says

    def loss_of(self, batch: Any, draws: Draws) -> Tensor:
        """The loss of one micro-batch, a mean over its rows; it passes its terms to `record_terms`.

        Args:
            batch: its rows.
            draws: their place in the run, which names all their noise.
        """
        raise NotImplementedError

    # ---- what lightning calls

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Note the number of micro-batches into which the step's batch is divided."""
        self._divided, self._adds = micro_batches_of(batch), False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Add up the gradients of a step's micro-batches, each divided by their number; lightning adds the last one's.

        A subclass that scales the loss does so in `loss_of`: this returns only the loss of the last micro-batch.

        Returns:
            The last micro-batch's loss, divided likewise.
        """
        step, count, world = self.trainer.global_step, micro_batches_of(batch), self.trainer.world_size
        self._divided, self._adds, self._terms = count, count > 1, []
        if self._adds:
            self._optimizer().zero_grad()
        self._set_rates(step)
        for i, part in enumerate(split(batch, count)):
            randomness.seed_global(self.seed, step * count + i, self.global_rank, self.device)
            draws = Draws(self.seed, step, i * world + self.global_rank, count * world)
            loss = self.loss_of(part, draws)
            refuse_constant(loss, "the loss")
            if self._adds:
                loss = loss / count
            if i < count - 1:
                self._add_gradient(loss)
            elif self.attached is not None:
                loss = self.attached.penalized(loss)
        return loss

    def _set_rates(self, step: int) -> None:
        self.apply_schedules(step)
        if self.schedule is not None:
            factor = self.schedule(step)
            for group, rate in zip(self._optimizer().param_groups, self._rates, strict=True):
                group["lr"] = rate * factor

    def _add_gradient(self, loss: Tensor) -> None:
        """Backward without a reduction over ranks, and outside autocast, as lightning's own."""
        strategy = self.trainer.strategy
        if isinstance(strategy, SHARDING):
            name = type(strategy).__name__
            raise UserError(f"data.device_batch_size: null is expected with {name}, which shards the weights")
        if getattr(strategy, "_ddp_kwargs", {}).get("static_graph"):
            raise UserError("data.device_batch_size: null is expected with a strategy whose static_graph is true")
        unreduced = getattr(strategy, "block_backward_sync", nullcontext)
        with unreduced(), torch.autocast(self.device.type, enabled=False):
            strategy.backward(loss, None)

    def optimizer_zero_grad(self, *args: Any, **kwargs: Any) -> None:
        """Keep the gradients of the micro-batches before the last: lightning calls this after the last one's loss."""
        if not self._adds:
            super().optimizer_zero_grad(*args, **kwargs)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note the gradient's norm, before clipping, if a log entry follows.

        Raises:
            UserError: if the data divide a batch into micro-batches, which a subclass's step does not support.
        """
        if self._divided > 1 and not self._adds:
            refuse_micro_batches(type(self).__name__, self._divided)
        if self.detailed(self.trainer.global_step + 1):
            self._norm = gradient_norm(self.parameters())  # averages have no gradients

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One update, of the averages too; then the log entry, if it is due."""
        super().optimizer_step(*args, **kwargs)
        step = self.trainer.global_step + 1  # lightning counts it when this returns
        if self.attached is not None:
            self.attached.updated(step)
        self.move_average(self.trainer.global_step)
        if not self.detailed(step):
            return
        means = self.monitor.means(gathered=True)
        for name, value in means.items():
            if not math.isfinite(value):
                self.stop_non_finite(f"the {name} became NaN or infinite at step {step}")
        values = means | ({} if self.attached is None else self.attached.scalars()) | self.extra_scalars(step)
        values |= {"gradient_norm": float(self._norm), "lr": rate(self._optimizer().param_groups[0])} | self._scheduled
        self.log_scalars({f"train/{name}": value for name, value in values.items()}, step)

    def _optimizer(self) -> Any:
        return self.optimizers()
