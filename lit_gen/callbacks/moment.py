"""The end of a step, and what is due there: the one place that compares a step with an interval."""

from typing import NamedTuple

from lightning import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from lit_gen.callbacks.reentry import EpochLoop
from lit_gen.core import distributed
from lit_gen.core.batches import refuse_accumulation
from lit_gen.core.data import callbacks_of


class Moment(NamedTuple):
    """The end of one step."""

    step: int
    """Steps done, from 1."""
    epoch: int | None
    """Epochs done if this step ends one, else None."""
    last: bool
    """Whether training ends here by itself: by steps, epochs, time or early stopping."""
    stopping: bool
    """Whether a signal ends this process here."""
    validates: bool
    """Whether Lightning's validation follows."""


class Cadence(NamedTuple):
    """How often something is done."""

    every: int = 0
    """Steps between two times; 0 for none by steps."""
    epochs: int = 0
    """Epochs between two times; 0 for none by epochs."""
    at_end: bool = True
    """Whether it is done at the last step."""
    validation: bool = False
    """Whether it is done before each of Lightning's validations."""

    def due(self, at: Moment) -> bool:
        """Whether it is done at the end of that step."""
        return bool(
            (self.every and at.step % self.every == 0)
            or (self.epochs and at.epoch and at.epoch % self.epochs == 0)
            or (self.at_end and at.last)
            or (self.validation and at.validates)
        )

    def ever(self, validates: bool) -> bool:
        """Whether there is any such step, in a run with or without Lightning's validation."""
        return bool(self.every or self.epochs or self.at_end or (self.validation and validates))


NEVER = Cadence(at_end=False)


def check_steps(trainer: Trainer) -> None:
    """Refuse a trainer for which a batch is not a step: one that accumulates gradients itself, at once or later.

    Raises:
        UserError: with what to set instead.
    """
    schedules = [c.scheduling for c in callbacks_of(trainer) if isinstance(c, GradientAccumulationScheduler)]
    for count in (trainer.accumulate_grad_batches, *(n for schedule in schedules for n in schedule.values())):
        refuse_accumulation(count)


def end_of_step(trainer: Trainer, batch_idx: int) -> Moment:
    """The step that this batch ends: a batch is a step."""
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    ends_epoch = batch_idx + 1 == trainer.num_training_batches or loop.batch_progress.is_last_batch
    assert fetcher is not None
    epoch = trainer.current_epoch + 1 if ends_epoch else None
    last = is_last(trainer, trainer.global_step, epoch)
    validates = loop._should_check_val_fx(fetcher)
    if getattr(trainer, "_val_check_time_interval", None) is not None and isinstance(loop, EpochLoop):
        # each look at the clock, and each rank's, may differ: use one answer
        validates = loop.decided = distributed.broadcast(validates)
    return Moment(trainer.global_step, epoch, last, False, validates)


def is_last(trainer: Trainer, step: int, epoch: int | None) -> bool:
    """Whether training ends with that step, or epoch, as far as is known before validation."""
    by_epochs = epoch is not None and epoch == trainer.max_epochs
    asked = trainer.should_stop and trainer.fit_loop._can_stop_early
    return step == trainer.max_steps or by_epochs or asked
