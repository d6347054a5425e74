"""Checkpoints by step, always one at the last step, each complete or absent."""

import contextlib
import sys
from functools import partial
from pathlib import Path
from typing import Any, Literal

from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import callbacks
from torch import Tensor

from lit_gen.callbacks import reentry
from lit_gen.callbacks.boundary import Saver
from lit_gen.callbacks.moment import NEVER, Cadence
from lit_gen.callbacks.ranking import Ranking
from lit_gen.core import distributed
from lit_gen.core.errors import UserError
from lit_gen.core.files import sweep_all, whole
from lit_gen.core.options import at_least, expect
from lit_gen.runs import checkpoints, directory
from lit_gen.runs.checkpoint_io import CheckpointFiles


class Checkpoint(Saver, callbacks.Checkpoint):
    """Write ``checkpoints/step=00001000.ckpt`` every ``every`` steps and at the last one.

    A checkpoint holds everything that the run needs to continue as if nothing had happened, and the model's arguments,
    so that it is enough to rebuild the model. One is also written before evaluations, pictures and validation between
    two such steps, and where a signal stops the run. It is removed when the next is written, unless it is among the
    best.

    Args:
        every: steps between checkpoints; 0 for the last step only.
        keep: how many of the newest to keep; 0 for all.
        keep_every: steps between checkpoints that are kept for good, a multiple of ``every``; 0 for none.
        monitor: a number of an evaluation or of the validation, such as ``val/elbo``, by which the best steps are kept
            too. A step without that number, or whose number is not finite, is not ranked.
        mode: whether the smallest (``min``) or the largest (``max``) number is best; needed with ``monitor``.
        keep_best: how many of the best to keep.
        enabled: whether checkpoints are written at all, even at the last step.
        before_evaluation: whether one is also written before what may fail: evaluations, pictures, validation.
        asynchronous: copy what is saved and write the copy in a thread while training goes on; null does so on CUDA
            only. Evaluations, validation, a stop and the end wait until it is written.

    Raises:
        UserError: for a number out of range, or options that do not fit together.
    """

    def __init__(
        self,
        every: int = 1000,
        keep: int = 3,
        keep_every: int = 0,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        keep_best: int = 1,
        enabled: bool = True,
        before_evaluation: bool = True,
        asynchronous: bool | None = None,
    ) -> None:
        at_least(0, "checkpoint.", every=every, keep=keep, keep_every=keep_every)
        fits = not keep_every or (every and keep_every % every == 0)
        expect(bool(fits), "checkpoint.keep_every", keep_every, f"0 or a multiple of checkpoint.every ({every})")
        self.asynchronous = asynchronous
        self.every, self.keep, self.keep_every, self.enabled = every, keep, keep_every, enabled
        self.ranking = Ranking(monitor, mode, keep_best)
        self.cadence = Cadence(every) if enabled else NEVER
        self.before_evaluation = before_evaluation and enabled
        self.latest: Path | None = None
        self._latest_step = -1
        self._in_run = False  # or in another run, whose checkpoint this one began with
        self._uncounted: set[Path] = set()  # were not due: each goes when the next is written
        self._known: Tensor | None = None  # the monitored number of an earlier step
        self._failed = False  # the last attempt
        self._files: CheckpointFiles | None = None  # None if the strategy writes in its own way
        self._before: tuple[Path | None] | None = None  # `latest`, while one is written

    @property
    def _in_thread(self) -> bool:
        return self._files is not None and self._files.asynchronous

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget what an earlier run of this trainer saved, and take over how its strategy writes files."""
        super().setup(trainer, pl_module, stage)
        self.latest, self._latest_step, self._uncounted, self._failed = None, -1, set(), False
        self._known = None
        self.ranking.clear()
        if stage == "fit":
            reentry.install(trainer).settled = partial(self.rank, trainer)
        strategy = trainer.strategy
        if self.enabled and type(strategy.checkpoint_io) is TorchCheckpointIO:
            on_cuda = strategy.root_device.type == "cuda"
            strategy.checkpoint_io = CheckpointFiles(on_cuda if self.asynchronous is None else self.asynchronous)
        self._files = strategy.checkpoint_io if isinstance(strategy.checkpoint_io, CheckpointFiles) else None

    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """Find what the earlier process of a resumed run left, and do not save the resumed step a second time."""
        run = Path(trainer.default_root_dir)
        if trainer.is_global_zero:
            for folder in ("", "samples", "eval", directory.CHECKPOINTS):
                sweep_all(run / folder, "step=" if folder else directory.METRICS)
        if trainer.ckpt_path:
            self._latest_step, self.latest = trainer.global_step, Path(trainer.ckpt_path)
            self._in_run = Path(trainer.ckpt_path).resolve().parent == (run / directory.CHECKPOINTS).resolve()
            if not self._in_run:
                self.ranking.clear()
            if trainer.is_global_zero:
                self._uncounted = {path for path in directory.checkpoints(run) if not checkpoints.counts(path)}
        self._known = self._number(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The best so far, without the step that is saved: its numbers come after it."""
        return self.ranking.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the ranking that `state_dict` gave."""
        self.ranking.restore(state_dict)

    @staticmethod
    def path_of(run: Path, step: int) -> Path:
        """Where a step's checkpoint lies in a run directory."""
        return run / directory.CHECKPOINTS / f"step={step:08d}.ckpt"

    def saved(self, step: int) -> bool:
        """Whether the run has a checkpoint of that step."""
        return step == self._latest_step and self._in_run

    def save(self, trainer: Trainer, counts: bool, final: bool, at_once: bool) -> None:
        """Write the checkpoint of the current step as `Saver` says.

        Raises:
            OSError: names the checkpoint, if it cannot be written and neither could the one before, or it is final.
            UserError: if it cannot be written for another reason than the disk. Both on all ranks.
        """
        step, run = trainer.global_step, Path(trainer.default_root_dir)
        path = self.path_of(run, step)
        if not self.enabled:
            return
        if self._in_thread:
            self._finish(final=False)
        if step != self._latest_step:
            failure = self._write(trainer, path)
            if failure is not None:
                self._missed(failure, final)
                return
            self._before = (self.latest,)
            self.latest, self._latest_step, self._in_run = path, step, True
            self._uncounted.add(path)
        if counts:
            self._uncounted.discard(path)
        self._known = self._number(trainer)
        self._tidy_when_written(trainer)
        if final or at_once or not self._in_thread:
            self._finish(final)

    def rank(self, trainer: Trainer) -> None:
        """Rank the saved step, after everything that follows its end.

        A run that is killed before the next checkpoint does all of it again, in the same order.
        """
        number = self._number(trainer)
        if number is None or number is self._known or not self.saved(trainer.global_step):
            return
        self._known = number
        self.ranking.enter(trainer.global_step, float(number))
        self._tidy_when_written(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rank the last step; its turn comes after the boundary's, which may have evaluated there.

        A process that was killed after its last save may have left files that should not be kept.
        """
        self.rank(trainer)
        if self.enabled:
            self._tidy_when_written(trainer)
            self._finish(final=True)  # a monitor's files too

    def _number(self, trainer: Trainer) -> Tensor | None:
        """The last value of the monitored number; each time that it is logged it is another object."""
        name = self.ranking.monitor
        return None if name is None else trainer._logger_connector._callback_metrics.get(name)

    def _write(self, trainer: Trainer, path: Path) -> OSError | None:
        """Write, or begin to, and say what went wrong with the disk; the same on all ranks."""
        failure: Exception | None = None
        passed = False
        # The other ranks take part in what is collective, only rank 0 writes.
        writes = trainer.is_global_zero and self._files is None
        try:
            with whole(path) if writes else contextlib.nullcontext(path) as partial:
                trainer.save_checkpoint(partial)
                passed = True
        except OSError as error:  # such as a full disk: name the checkpoint, not the temporary file of a library
            named = str(path) if self._files is None else error.filename or str(path)  # or a monitor's, of a thread
            failure = OSError(error.errno, error.strerror, named)
        except Exception as error:
            failure = error
        if failure is not None and not passed:
            trainer.strategy.barrier("Trainer.save_checkpoint")  # at which lightning left the others waiting
        return _agreed(failure)

    def _tidy_when_written(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            action = partial(self._tidy, Path(trainer.default_root_dir))
            action() if self._files is None else self._files.when_written(action)

    def _finish(self, final: bool) -> None:
        """Wait for a checkpoint that is written in a thread; called on every rank."""
        raised: Exception | None = None
        before, self._before = self._before, None
        try:
            if self._files is not None:
                self._files.wait()  # on other ranks than the first there is nothing to wait for
        except Exception as error:
            raised = error
        failure = _agreed(raised) if self._in_thread else None
        if failure is None:
            self._failed = self._failed and before is None
            return
        if before is not None and failure.filename == str(self.latest):
            self._latest_step, self.latest = -1, before[0]
        self._missed(failure, final)

    def _missed(self, failure: OSError, final: bool) -> None:
        if self._failed or final:
            raise failure
        self._failed = True
        if distributed.rank() == 0:
            told = f"{failure.filename} could not be written ({failure.strerror}); what was saved before is whole"
            print(f"{told}, and the run ends if the next cannot be written either", file=sys.stderr, flush=True)

    def _tidy(self, run: Path) -> None:
        """Remove what need not be kept; this depends only on the files and the ranking."""
        found = directory.checkpoints(run)
        counted = [path for path in found if path not in self._uncounted]
        names = {path.name for path in counted[-self.keep :]}  # all of them where `keep` is 0
        names |= {self.path_of(run, step).name for step in self.ranking.scores}
        names |= {path.name for path in counted if self.keep_every and _step(path) % self.keep_every == 0}
        for path in found:
            if path.name not in names and (self.latest is None or path.name != self.latest.name):
                path.unlink(missing_ok=True)


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step="))


def _agreed(failure: Exception | None) -> OSError | None:
    """The disk's failure on the first rank, on all ranks; any other of the first rank is raised on all of them."""
    told: tuple[Any, ...] | None = None if failure is None else (str(failure),)
    if isinstance(failure, OSError):
        told = failure.errno, failure.strerror, failure.filename
    told = distributed.broadcast(told)
    if told is not None and len(told) == 3:
        return OSError(*told)
    if failure is None and told is None:
        return None
    raise failure or UserError(*told or ())
