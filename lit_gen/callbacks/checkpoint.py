"""Checkpoints by step, always one at the last step, each complete or absent."""

import contextlib
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch import callbacks

from lit_gen.callbacks.boundary import Saver
from lit_gen.callbacks.moment import NEVER, Cadence
from lit_gen.core.files import sweep, whole
from lit_gen.core.options import at_least
from lit_gen.runs import checkpoints, directory


class Checkpoint(Saver, callbacks.Checkpoint):
    """Write ``checkpoints/step=00001000.ckpt`` every so many steps and at the last one.

    A checkpoint holds everything that the run needs to continue as if nothing had happened, and the model's arguments,
    so that it alone rebuilds the model. One is also written before evaluations, pictures and validation that fall
    between two such steps, and where a signal stops the run; it is removed when the next is written.

    Args:
        every: steps between checkpoints; 0 for the last step only.
        keep: how many of the newest to keep; 0 for all.
        enabled: false writes none at all, not even the last.
        before_evaluation: false writes none between those steps: what fails there costs the steps since the last one.
    """

    def __init__(self, every: int = 1000, keep: int = 3, enabled: bool = True, before_evaluation: bool = True) -> None:
        at_least(0, "checkpoint.", every=every, keep=keep)
        self.every, self.keep, self.enabled = every, keep, enabled
        self.cadence = Cadence(every) if enabled else NEVER
        self.before_evaluation = before_evaluation and enabled
        self.latest: Path | None = None
        self._latest_step = -1
        self._replaced: set[Path] = set()  # by the next one

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin anew."""
        super().setup(trainer, pl_module, stage)
        self.latest, self._latest_step, self._replaced = None, -1, set()

    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """Find what a resumed run's process left, and keep from saving the resumed step a second time."""
        run = Path(trainer.default_root_dir)
        if trainer.ckpt_path:
            self._latest_step = trainer.global_step
            if trainer.is_global_zero:
                self._replaced = {path for path in directory.checkpoints(run) if not checkpoints.counts(path)}

    def saved(self, step: int) -> bool:
        """Whether there is a checkpoint of that step."""
        return step == self._latest_step

    def save(self, trainer: Trainer, counts: bool) -> None:
        """Write the checkpoint of the current step, on all ranks together; once per step.

        Args:
            trainer: at the end of a step.
            counts: false for one that the next replaces.

        Raises:
            OSError: if it cannot be written; names the checkpoint.
        """
        step = trainer.global_step
        path = Path(trainer.default_root_dir) / directory.CHECKPOINTS / f"step={step:08d}.ckpt"
        if not self.enabled:
            return
        if step != self._latest_step:
            self._write(trainer, path)
            self.latest, self._latest_step = path, step
            for old in self._replaced:
                old.unlink(missing_ok=True)
            self._replaced = {path}
        if counts:
            self._replaced.discard(path)
        if trainer.is_global_zero and self.keep:
            counted = [p for p in directory.checkpoints(Path(trainer.default_root_dir)) if p not in self._replaced]
            for old in counted[: -self.keep]:
                old.unlink(missing_ok=True)

    def _write(self, trainer: Trainer, path: Path) -> None:
        if trainer.is_global_zero:
            sweep(path)  # a run that was killed in the middle of this checkpoint continues from the one before
        try:
            # The other ranks take part in what is collective, rank 0 alone writes; it renames when all are done.
            with whole(path) if trainer.is_global_zero else contextlib.nullcontext(path) as partial:
                trainer.save_checkpoint(partial)
        except OSError as error:  # a full disk, say: name the checkpoint, not the temporary file of some library
            raise OSError(error.errno, error.strerror, str(path)) from error
        trainer.strategy.barrier("checkpoint")
