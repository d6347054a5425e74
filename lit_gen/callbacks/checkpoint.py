"""Checkpoints by step, always one at the last step, each complete or absent."""

import contextlib
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch import callbacks

from lit_gen.callbacks.steps import completes_step
from lit_gen.core.errors import NonFiniteLossError
from lit_gen.core.files import sweep, whole
from lit_gen.core.options import at_least
from lit_gen.runs import directory


class Checkpoint(callbacks.Checkpoint):
    """Write ``checkpoints/step=00001000.ckpt`` every so many steps and at the last one.

    A checkpoint holds everything that the run needs to continue as if nothing had happened, and the model's arguments,
    so that it alone rebuilds the model.

    Args:
        every: steps between checkpoints; 0 for the last step only.
        keep: how many of the newest to keep; 0 for all.
        enabled: false writes none at all, not even the last.
    """

    def __init__(self, every: int = 1000, keep: int = 3, enabled: bool = True) -> None:
        at_least(0, "checkpoint.", every=every, keep=keep)
        self.every, self.keep, self.enabled = every, keep, enabled
        self.latest: Path | None = None
        self._latest_step = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when the step is due, and at the last step: later the loops have already closed the epoch."""
        step = trainer.global_step
        if not completes_step(trainer, batch_idx):
            return
        if (self.every and step % self.every == 0) or step == trainer.max_steps:
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step of a run that ends by epochs or by time."""
        self.save(trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember where the resumed run stands, so that its first step is not saved a second time."""
        self._latest_step = int(checkpoint["global_step"])

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint of the current step, on all ranks together; once per step.

        Raises:
            NonFiniteLossError: if a weight is NaN or infinite; the last good checkpoint is then left alone.
        """
        step = trainer.global_step
        if not self.enabled or step == self._latest_step:
            return
        _check_finite(trainer, step)
        folder = Path(trainer.default_root_dir) / directory.CHECKPOINTS
        path = folder / f"step={step:08d}.ckpt"
        if trainer.is_global_zero:
            sweep(path)  # a run that was killed in the middle of this checkpoint continues from the one before
        try:
            # The other ranks take part in what is collective, rank 0 alone writes; it renames when all are done.
            with whole(path) if trainer.is_global_zero else contextlib.nullcontext(path) as partial:
                trainer.save_checkpoint(partial)
        except OSError as error:  # a full disk, say: name the checkpoint, not the temporary file of some library
            raise OSError(error.errno, error.strerror, str(path)) from error
        trainer.strategy.barrier("checkpoint")
        self.latest, self._latest_step = path, step
        if trainer.is_global_zero and self.keep:
            for old in directory.checkpoints(Path(trainer.default_root_dir))[: -self.keep]:
                old.unlink(missing_ok=True)


def _check_finite(trainer: Trainer, step: int) -> None:
    for name, parameter in trainer.lightning_module.named_parameters():
        if not torch.isfinite(parameter).all():
            raise NonFiniteLossError(
                f"the weight {name} became NaN or infinite by step {step}; {directory.last_checkpoint_of(trainer)}"
            )
