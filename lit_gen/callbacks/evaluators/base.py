"""What every evaluation shares: when it is due, that it happens once, and where results go."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch import Callback

from lit_gen.callbacks.steps import completes_step
from lit_gen.callbacks.stop import Stop
from lit_gen.core import distributed
from lit_gen.core import images as pictures
from lit_gen.core.errors import UserError
from lit_gen.core.modes import evaluation_mode, exact_math
from lit_gen.core.options import at_least
from lit_gen.evaluation.result import Result, save_record, table
from lit_gen.loggers.publish import log_scalars, send_record
from lit_gen.protocols.data import Split


class Evaluator(Callback):
    """Base of the callbacks that measure a model: a subclass says what, in `prepare` and `evaluate`.

    Args:
        every: steps between two evaluations; 0 for none by steps.
        every_epochs: epochs between two evaluations; 0 for none by epochs.
        at_end: evaluate after the last step too.

    Raises:
        UserError: for a number out of range.
    """

    def __init__(self, every: int, every_epochs: int, at_end: bool) -> None:
        self.option = f"trainer.callbacks.{type(self).__name__}"
        at_least(0, f"{self.option}.", every=every, every_epochs=every_epochs)
        self.every, self.every_epochs, self.at_end = every, every_epochs, at_end
        self.title = ""  # tells this evaluation from others of one run; set in `prepare`
        self.latest: Result | None = None
        self._latest_step = -1

    # ---- what a subclass says

    def prepare(self, trainer: Trainer, module: LightningModule) -> None:
        """Check options against model and data, before the first step."""

    def evaluate(self, trainer: Trainer, module: LightningModule, split: Split) -> Result:
        """Evaluate ``val`` or ``test``; called on every rank, and its result is the same on each."""
        raise NotImplementedError

    def announced(self, data: Any) -> list[str]:
        """Public names of the numbers, without the split, from options alone: nothing is loaded or computed.

        Floors are left out: they are constants of the data.

        Args:
            data: the data module, as it was built.
        """
        raise NotImplementedError

    # ---- when

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find what cannot work before the first step."""
        if stage == "predict":
            return
        self.latest, self._latest_step = None, -1
        self.prepare(trainer, pl_module)
        others = [c for c in trainer.callbacks if isinstance(c, Evaluator) and c is not self]  # type: ignore[attr-defined]
        if any(c.title == self.title for c in others):
            raise UserError(f"{self.option}: two evaluations are called {self.title}; their numbers would be mixed up")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make up for an evaluation of a resumed run's step that was cut off after the step was saved."""
        step, per_epoch = trainer.global_step, trainer.num_training_batches // trainer.accumulate_grad_batches
        by_epoch = self.every_epochs and step % per_epoch == 0 and step // per_epoch % self.every_epochs == 0
        if step and ((self.every and step % self.every == 0) or by_epoch):
            self._evaluate(trainer, pl_module, "val", step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate when the step is due."""
        step = trainer.global_step
        if not completes_step(trainer, batch_idx):
            return
        if (self.every and step % self.every == 0) or (self.at_end and step == trainer.max_steps):
            self._evaluate(trainer, pl_module, "val", step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate when the epoch is due."""
        if self.every_epochs and (trainer.current_epoch + 1) % self.every_epochs == 0:
            self._evaluate(trainer, pl_module, "val", trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the last step of a run that ends by epochs or by time, but not of one that a signal stopped."""
        stopped = any(isinstance(c, Stop) and c.stopped for c in trainer.callbacks)  # type: ignore[attr-defined]
        if self.at_end and not stopped:
            self._evaluate(trainer, pl_module, "val", trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate in ``validate``; while training, the steps decide."""
        if trainer.state.fn == "validate":
            self._evaluate(trainer, pl_module, "val", _step_of_checkpoint(trainer))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate in ``test``."""
        self._evaluate(trainer, pl_module, "test", _step_of_checkpoint(trainer))

    def make_up(self, trainer: Trainer, module: LightningModule) -> None:
        """Evaluate after ``validate`` or ``test`` of a data set without that split, whose hooks lightning skips."""
        if self.latest is None:
            module.to(trainer.strategy.root_device)
            split: Split = "val" if trainer.state.fn == "validate" else "test"
            self._evaluate(trainer, module, split, _step_of_checkpoint(trainer))

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember where the resumed run stands, if that step was evaluated: its record is written last."""
        step = int(checkpoint["global_step"])
        record = self._record(trainer, "val", step)
        if record.with_name(f"{record.name}.json").is_file():
            self._latest_step = step

    def _record(self, trainer: Trainer, prefix: str, step: int) -> Path:
        """The evaluation's record, without its suffix."""
        return Path(trainer.default_root_dir) / "eval" / f"step={step:08d}-{prefix}-{self.title}"

    def _evaluate(self, trainer: Trainer, module: LightningModule, split: Split, step: int) -> None:
        if trainer.sanity_checking or (trainer.state.fn == "fit" and step == self._latest_step):
            return
        self._latest_step = step
        # statistics of batch norm differ between ranks; those of rank 0 are in the checkpoint
        distributed.broadcast_buffers(module)
        with exact_math(module.device), evaluation_mode(module):
            result = self.evaluate(trainer, module, split)
        values, floors = ({f"{split}/{k}": v for k, v in part.items()} for part in (result.values, result.floors))
        self.latest = replace(result, values=values, floors=floors, picture=None)
        log_scalars(module, values | {f"{name}_floor": value for name, value in floors.items()})
        if trainer.is_global_zero:
            path = self._record(trainer, "validate" if trainer.state.fn == "validate" else split, step)
            if result.picture is not None:
                pictures.save_png(result.picture, path.with_name(f"{path.name}.png"))
            content = {"step": step, "values": values, "floors": floors, "protocol": result.protocol}
            save_record(path, content)
            send_record(trainer, path.name.partition("-")[2], content)


def tables(callbacks: Iterable[Callback]) -> str:
    """The last evaluation of each callback that has one."""
    return "".join(table(c.latest) for c in callbacks if isinstance(c, Evaluator) and c.latest is not None)


def _step_of_checkpoint(trainer: Trainer) -> int:
    """The step of the weights in ``validate`` and ``test``, for which lightning restores no counter."""
    if not trainer.ckpt_path:
        return trainer.global_step
    content = torch.load(trainer.ckpt_path, map_location="cpu", weights_only=True, mmap=True)
    return int(content["global_step"])
