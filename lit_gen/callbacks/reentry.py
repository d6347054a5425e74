"""A resumed run enters Lightning's loops where its checkpoint was written: at a step's end, before what follows it.

Lightning restarts after the validation of the saved step and after the end of its epoch. If the checkpoint was written
before them, they did not take place (https://github.com/Lightning-AI/pytorch-lightning/issues/1464). The loops
here go through both, so monitors, counters and epochs become those of a run that was never interrupted.
"""

import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint
from lightning.pytorch.loops import fetchers
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.fit_loop import RestartStage, _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.utilities.model_helpers import is_overridden

from lit_gen.core.errors import stopped
from lit_gen.runs import checkpoints, directory
from lit_gen.runs.heartbeat import progress


class Owed(NamedTuple):
    """What a resumed run does before its first step."""

    settle: Callable[[], None]
    """Makes up for what callbacks still had to do."""
    validates: bool
    """Whether validation of the saved step is still due."""
    ended: bool
    """Whether the checkpoint was written after training had ended: then nothing follows that step in the loops."""


class EpochLoop(_TrainingEpochLoop):
    """Lightning's loop over batches, entered at the end of the saved step if something is still due there."""

    owed: Owed | None = None
    guard: Callable[[], AbstractContextManager[None]] | None = None
    """Around the validation that follows a step."""
    settled: Callable[[], None] | None = None
    """Called after the validation and everything else that follows a step; checkpoints are ranked here."""
    decided: bool | None = None
    """Whether validation follows this step, if that is known already."""

    def run(self, data_fetcher: _DataFetcher) -> None:
        """Finish the saved step, then train as usual."""
        owed, self.owed = self.owed, None
        progress.step, progress.alone = self.global_step, True
        if owed is None or owed.ended:
            if owed is not None:
                owed.settle()
            super().run(data_fetcher)
            return
        self.on_run_start(data_fetcher)
        owed.settle()
        self.batch_progress.increment_completed()
        self._restarting = self.val_loop._restarting = False
        self.decided = owed.validates
        self.on_advance_end(data_fetcher)
        self.on_iteration_done()
        while not self.done:
            try:
                self.advance(data_fetcher)
                self.on_advance_end(data_fetcher)
            except StopIteration:
                break
            finally:
                self.on_iteration_done()

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Train on a batch, on all ranks together."""
        progress.alone = False
        try:
            super().advance(data_fetcher)
        except StopIteration as error:
            if _of_the_data(error):
                raise
            raise stopped(error) from error  # a callback's
        progress.step = self.global_step

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        """Validate, and do what else follows a batch."""
        guard, self.guard = self.guard or nullcontext, None
        try:
            with guard():
                super().on_advance_end(data_fetcher)
        finally:
            self.decided = None
        if self.settled is not None:
            self.settled()

    def _should_check_val_fx(self, data_fetcher: _DataFetcher) -> bool:
        return super()._should_check_val_fx(data_fetcher) if self.decided is None else self.decided


class FitLoop(_FitLoop):
    """Lightning's loop over epochs; the counters of the saved epoch stay as they were saved."""

    epoch_loop: EpochLoop

    @property
    def done(self) -> bool:
        """Whether training is over; not before the saved step was finished."""
        owed = self.epoch_loop.owed
        return super().done if owed is None or owed.ended else False

    @property
    def skip(self) -> bool:
        """Whether there is nothing to do."""
        if self.epoch_loop.owed is None:
            return super().skip
        return self.max_batches == 0 or self.trainer.limit_train_batches == 0

    def reset(self) -> None:
        """Keep Lightning from closing the saved step and its epoch."""
        owed = self.epoch_loop.owed
        if owed is None or owed.ended:
            super().reset()
            return
        torch.set_grad_enabled(True)
        self._restarting = False
        self._restart_stage = RestartStage.RESTARTED_MID_EPOCH  # the epoch has begun, its hooks were called


def install(trainer: Trainer) -> EpochLoop:
    """Make the trainer's loops those of this file, and return the inner one."""
    for loop, kind in ((trainer.fit_loop, FitLoop), (trainer.fit_loop.epoch_loop, EpochLoop)):
        if type(loop) in kind.__bases__:
            loop.__class__ = kind
    found = trainer.fit_loop.epoch_loop
    assert isinstance(found, EpochLoop)
    return found


# ---- what Lightning keeps only in memory

_OF_MONITORS = ("current_score", "_last_global_step_saved", "_last_checkpoint_saved", "_defer_save_until_validation")


def memory_of(trainer: Trainer) -> dict[str, Any]:
    """What Lightning's checkpoints leave out: the last values of monitored numbers, and the state of monitors."""
    metrics = {name: torch.as_tensor(value).detach().cpu().clone() for name, value in trainer.callback_metrics.items()}
    monitors = {c.state_key: {name: getattr(c, name) for name in _OF_MONITORS} for c in monitors_of(trainer)}
    return {"callback_metrics": metrics, "monitors": monitors, "should_stop": trainer.should_stop}


def _of_the_data(error: StopIteration) -> bool:
    """Whether an epoch's batches were all read."""
    files = {frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)}
    return fetchers.__file__ in files


def remember(trainer: Trainer, memory: dict[str, Any], stops: bool) -> None:
    """Restore what `memory_of` found.

    Args:
        trainer: of the resumed run.
        memory: as saved.
        stops: whether a request to stop is restored as well.
    """
    trainer._logger_connector._callback_metrics.update(memory["callback_metrics"])
    for monitor in monitors_of(trainer):
        for name, value in memory["monitors"].get(monitor.state_key, {}).items():
            setattr(monitor, name, value)
    if stops:
        trainer.should_stop = trainer.should_stop or memory["should_stop"]


def keep_within(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Forget the files of monitors that lie outside the monitor's folder: a monitor deletes what it replaces.

    Args:
        trainer: about to load the checkpoint.
        checkpoint: changed in place.
    """
    memory = checkpoint.get("boundary", {}).get("memory", {}).get("monitors", {})
    for monitor in monitors_of(trainer):
        folder = Path(monitor.dirpath or trainer.default_root_dir)
        for kept in (checkpoint.get("callbacks", {}).get(monitor.state_key), memory.get(monitor.state_key)):
            if not kept:
                continue
            best = kept.get("best_k_models")
            if isinstance(best, dict):
                kept["best_k_models"] = best = {path: score for path, score in best.items() if _within(path, folder)}
            for name in ("best_model_path", "last_model_path", "kth_best_model_path", "_last_checkpoint_saved"):
                if kept.get(name) and not _within(kept[name], folder):
                    kept[name] = next(iter(best or ()), "") if name == "kth_best_model_path" else ""


def _within(path: Any, folder: Path) -> bool:
    """Whether a path leads into a folder, and to something in it; a URL does not."""
    if not isinstance(path, str) or "://" in path or "::" in path:
        return False
    return folder.resolve() in Path(path).resolve().parents


def remove_later_files(trainer: Trainer, step: int) -> None:
    """Remove what monitors wrote within the run directory after the checkpoint of ``step``: it is written again.

    Otherwise their files would stay beside those of the resumed run, which gets other names if a file exists.
    """
    run = Path(trainer.default_root_dir).resolve()
    for monitor in monitors_of(trainer) if trainer.is_global_zero else []:
        folder = Path(monitor.dirpath or run).resolve()
        named = {*monitor.best_k_models, monitor.best_model_path, monitor.last_model_path}
        known = {Path(path).resolve() for path in named if path}
        if folder.is_relative_to(run):
            others = {p for p in folder.glob("*.ckpt") if p not in known} - set(directory.checkpoints(run))
            for path in others:
                if (checkpoints.step_of(path) or -1) >= step:
                    path.unlink()


def monitors_of(trainer: Trainer) -> list[ModelCheckpoint]:
    """Lightning's own checkpoint callbacks."""
    return [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]


def keeps_state_of_steps(callback: Callback) -> bool:
    """Whether a callback, other than one that saves, changes its own state at the end of a step."""
    if isinstance(callback, Checkpoint):
        return False
    states = ("state_dict", "on_save_checkpoint")
    return is_overridden("on_train_batch_end", callback, parent=Callback) and any(
        is_overridden(name, callback, parent=Callback) for name in states
    )
