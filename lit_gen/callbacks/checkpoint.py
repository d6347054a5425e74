"""Checkpoints by step, always one at the last step, each complete or absent."""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import callbacks

from lit_gen.callbacks.boundary import Saver
from lit_gen.callbacks.moment import NEVER, Cadence
from lit_gen.core import distributed
from lit_gen.core.files import sweep_all, whole
from lit_gen.core.options import at_least
from lit_gen.runs import checkpoints, directory
from lit_gen.runs.checkpoint_io import CheckpointFiles


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
        asynchronous: copy what is saved and write the copy in a thread while training goes on; null does so on CUDA
            only. Evaluations, validation, a stop and the end wait until it is written.
    """

    def __init__(
        self,
        every: int = 1000,
        keep: int = 3,
        enabled: bool = True,
        before_evaluation: bool = True,
        asynchronous: bool | None = None,
    ) -> None:
        at_least(0, "checkpoint.", every=every, keep=keep)
        self.asynchronous = asynchronous
        self.every, self.keep, self.enabled = every, keep, enabled
        self.cadence = Cadence(every) if enabled else NEVER
        self.before_evaluation = before_evaluation and enabled
        self.latest: Path | None = None
        self._latest_step = -1
        self._in_run = False  # or in another run, whose checkpoint this one began with
        self._replaced: set[Path] = set()  # by the next one
        self._failed = False  # the last attempt
        self._files: CheckpointFiles | None = None  # None where the strategy writes in a way of its own
        self._before: tuple[Path | None, set[Path]] | None = None  # `latest` and `_replaced`, while one is written

    @property
    def _in_thread(self) -> bool:
        return self._files is not None and self._files.asynchronous

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin anew."""
        super().setup(trainer, pl_module, stage)
        self.latest, self._latest_step, self._replaced, self._failed = None, -1, set(), False
        strategy = trainer.strategy
        if self.enabled and type(strategy.checkpoint_io) is TorchCheckpointIO:
            on_cuda = strategy.root_device.type == "cuda"
            strategy.checkpoint_io = CheckpointFiles(on_cuda if self.asynchronous is None else self.asynchronous)
        self._files = strategy.checkpoint_io if isinstance(strategy.checkpoint_io, CheckpointFiles) else None

    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """Find what a resumed run's process left, and keep from saving the resumed step a second time."""
        run = Path(trainer.default_root_dir)
        if trainer.is_global_zero:
            for folder in ("", "samples", "eval", directory.CHECKPOINTS):
                sweep_all(run / folder, "step=" if folder else directory.METRICS)
        if trainer.ckpt_path:
            self._latest_step, self.latest = trainer.global_step, Path(trainer.ckpt_path)
            self._in_run = Path(trainer.ckpt_path).resolve().parent == (run / directory.CHECKPOINTS).resolve()
            if trainer.is_global_zero:
                self._replaced = {path for path in directory.checkpoints(run) if not checkpoints.counts(path)}

    def saved(self, step: int) -> bool:
        """Whether the run has a checkpoint of that step."""
        return step == self._latest_step and self._in_run

    def save(self, trainer: Trainer, counts: bool, final: bool, at_once: bool) -> None:
        """Write the checkpoint of the current step as `Saver` says.

        Raises:
            OSError: names the checkpoint, if it cannot be written and neither could the one before, or it is final.
        """
        step, run = trainer.global_step, Path(trainer.default_root_dir)
        path = run / directory.CHECKPOINTS / f"step={step:08d}.ckpt"
        if not self.enabled:
            return
        if self._in_thread:
            self._finish(final=False)
        replaced = self._replaced
        if step != self._latest_step:
            failure = self._write(trainer, path)
            if failure is not None:
                self._missed(failure, final)
                return
            self._before = self.latest, replaced
            self.latest, self._latest_step, self._in_run = path, step, True
            self._replaced = {path}
        if counts:
            self._replaced.discard(path)
        if trainer.is_global_zero:
            self._when_written(lambda: self._remove_old(run, replaced, path))
        if final or at_once or not self._in_thread:
            self._finish(final)

    def _write(self, trainer: Trainer, path: Path) -> OSError | None:
        """Write, or begin to, and say what went wrong with the disk; the same on all ranks."""
        failure, passed = None, False
        # The other ranks take part in what is collective, rank 0 alone writes.
        writes = trainer.is_global_zero and self._files is None
        try:
            with whole(path) if writes else contextlib.nullcontext(path) as partial:
                trainer.save_checkpoint(partial)
                passed = True
        except OSError as error:  # a full disk, say: name the checkpoint, not the temporary file of some library
            named = str(path) if self._files is None else error.filename or str(path)  # or a monitor's, of a thread
            failure = OSError(error.errno, error.strerror, named)
            if not passed:
                trainer.strategy.barrier("Trainer.save_checkpoint")  # at which lightning left the others waiting
        return _agreed(failure)

    def _when_written(self, action: Callable[[], None]) -> None:
        action() if self._files is None else self._files.when_written(action)

    def _finish(self, final: bool) -> None:
        """Wait for a checkpoint that is written in a thread; called on every rank."""
        failure, before, self._before = None, self._before, None
        if self._in_thread:
            try:
                assert self._files is not None
                self._files.wait()  # elsewhere than on the first rank there is nothing to wait for
            except OSError as error:
                failure = error
            failure = _agreed(failure)
        if failure is None:
            self._failed = self._failed and before is None
            return
        if before is not None and failure.filename == str(self.latest):
            self._latest_step, self.latest = -1, before[0]
            self._replaced |= before[1]
        self._missed(failure, final)

    def _missed(self, failure: OSError, final: bool) -> None:
        if self._failed or final:
            raise failure
        self._failed = True
        if distributed.rank() == 0:
            told = f"{failure.filename} could not be written ({failure.strerror}); what was saved before is whole"
            print(f"{told}, and the run ends if the next cannot be written either", file=sys.stderr, flush=True)

    def _remove_old(self, run: Path, replaced: set[Path], path: Path) -> None:
        counted = [p for p in directory.checkpoints(run) if p not in self._replaced | replaced]
        for old in [*(replaced - {path}), *(counted[: -self.keep] if self.keep else [])]:
            old.unlink(missing_ok=True)


def _agreed(failure: OSError | None) -> OSError | None:
    """The first rank's failure to write, on all ranks."""
    found = distributed.broadcast(None if failure is None else (failure.errno, failure.strerror, failure.filename))
    return None if found is None else OSError(*found)
