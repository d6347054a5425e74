"""Checkpoints by step, always one at the last step, each complete or absent."""

import contextlib
import sys
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch import callbacks

from lit_gen.callbacks.boundary import Saver
from lit_gen.callbacks.moment import NEVER, Cadence
from lit_gen.core import distributed
from lit_gen.core.files import sweep, sweep_all, whole
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
        self._in_run = False  # or in another run, whose checkpoint this one began with
        self._replaced: set[Path] = set()  # by the next one
        self._failed = False  # the last attempt

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin anew."""
        super().setup(trainer, pl_module, stage)
        self.latest, self._latest_step, self._replaced, self._failed = None, -1, set(), False

    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """Find what a resumed run's process left, and keep from saving the resumed step a second time."""
        run = Path(trainer.default_root_dir)
        if trainer.is_global_zero:
            for folder in ("", "samples", "eval"):
                sweep_all(run / folder, "step=" if folder else directory.METRICS)
        if trainer.ckpt_path:
            self._latest_step = trainer.global_step
            self._in_run = Path(trainer.ckpt_path).resolve().parent == (run / directory.CHECKPOINTS).resolve()
            if trainer.is_global_zero:
                self._replaced = {path for path in directory.checkpoints(run) if not checkpoints.counts(path)}

    def saved(self, step: int) -> bool:
        """Whether the run has a checkpoint of that step."""
        return step == self._latest_step and self._in_run

    def save(self, trainer: Trainer, counts: bool, final: bool) -> None:
        """Write the checkpoint of the current step, on all ranks together; once per step.

        Args:
            trainer: at the end of a step.
            counts: false for one that the next replaces.
            final: whether no other follows in this process.

        Raises:
            OSError: names the checkpoint, if it cannot be written and neither could the one before, or it is final.
        """
        step, run = trainer.global_step, Path(trainer.default_root_dir)
        path = run / directory.CHECKPOINTS / f"step={step:08d}.ckpt"
        if not self.enabled:
            return
        replaced = self._replaced
        if step != self._latest_step:
            failure = self._write(trainer, path)
            if failure is not None:
                if self._failed or final:
                    raise failure
                self._failed = True
                if trainer.is_global_zero:
                    told = f"{path} could not be written ({failure.strerror}); what was saved before is whole"
                    print(f"{told}, and the run ends if the next cannot be written either", file=sys.stderr, flush=True)
                return
            self.latest, self._latest_step, self._in_run, self._failed = path, step, True, False
            self._replaced = {path}
        if counts:
            self._replaced.discard(path)
        if trainer.is_global_zero:
            counted = [p for p in directory.checkpoints(run) if p not in self._replaced | replaced]
            for old in [*(replaced - {path}), *(counted[: -self.keep] if self.keep else [])]:
                old.unlink(missing_ok=True)

    def _write(self, trainer: Trainer, path: Path) -> OSError | None:
        """Write, and say what went wrong with the disk; the same on all ranks."""
        failure, passed = None, False
        if trainer.is_global_zero:
            sweep(path)  # a run that was killed in the middle of this checkpoint continues from the one before
        try:
            # The other ranks take part in what is collective, rank 0 alone writes; it renames when all are done.
            with whole(path) if trainer.is_global_zero else contextlib.nullcontext(path) as partial:
                trainer.save_checkpoint(partial)
                passed = True
        except OSError as error:  # a full disk, say: name the checkpoint, not the temporary file of some library
            failure = OSError(error.errno, error.strerror, str(path))
            if not passed:
                trainer.strategy.barrier("Trainer.save_checkpoint")  # at which lightning left the others waiting
        found = distributed.broadcast((failure.errno, failure.strerror) if failure is not None else None)
        return None if found is None else OSError(*found, str(path))
