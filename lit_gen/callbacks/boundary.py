"""The end of a step: save first, then derive; the checkpoint knows what was still due at its step.

Evaluations, pictures and Lightning's validation are functions of the weights of the step, the seed and the data: they
can be made again, the weights cannot. So the checkpoint is written before them, and a resumed run makes up for them
before it trains on: it logs again what a complete record holds, and makes what is missing.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from lightning.pytorch.utilities.exceptions import _TunerExitException

from lit_gen.callbacks import reentry
from lit_gen.callbacks.failures import refuse_non_finite, refuse_states, saved_at, tell
from lit_gen.callbacks.moment import NEVER, Cadence, Moment, check_steps, end_of_step, is_last
from lit_gen.core import distributed
from lit_gen.core.data import callbacks_of
from lit_gen.core.errors import UserError
from lit_gen.loggers.csv import MetricsCSV
from lit_gen.runs.heartbeat import progress


class Stopped(_TunerExitException):
    """Ends a fit between two steps, on all ranks at once; `Trainer.fit` then returns."""


class Part(Callback):
    """Base of the callbacks that the boundary calls at the end of a step."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put a boundary before the callbacks of a trainer that has none."""
        if stage == "fit" and not any(isinstance(c, Boundary) for c in callbacks_of(trainer)):
            boundary = Boundary()
            trainer.callbacks = [boundary, *callbacks_of(trainer)]  # type: ignore[attr-defined]  # walked along now
            boundary.setup(trainer, pl_module, stage)

    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """Called once before the first step, on every rank."""


class Saver(Part):
    """Writes checkpoints."""

    cadence: Cadence = NEVER
    before_evaluation = False
    """Whether it also saves before evaluations, pictures and validation that are due in between."""

    def save(self, trainer: Trainer, counts: bool, final: bool, at_once: bool) -> None:
        """Write the checkpoint of the current step on all ranks together, once.

        Args:
            trainer: at the end of a step.
            counts: false for one that the next checkpoint replaces.
            final: whether no other follows in this process.
            at_once: whether it must be on the disk when this returns.
        """
        raise NotImplementedError

    def saved(self, step: int) -> bool:
        """Whether there is a checkpoint of that step."""
        raise NotImplementedError


class Stopper(Part):
    """Listens for signals."""

    def agreed(self, trainer: Trainer) -> bool:
        """Whether this process ends at this step, the same on all ranks."""
        raise NotImplementedError

    def interruptible(self, trainer: Trainer) -> AbstractContextManager[None]:
        """For what is derived from a saved step: raises `Stopped` when a signal asks to stop."""
        raise NotImplementedError


class Derived(Part):
    """What is derived from a step's weights and can be made again."""

    cadence: Cadence = NEVER
    after_evaluations = False
    """Whether it waits until all numbers are made."""

    def record_of(self, run: Path, step: int) -> Path:
        """The file that is written last, and whole: if it exists, everything was made."""
        raise NotImplementedError

    def make(self, trainer: Trainer, module: LightningModule, step: int) -> None:
        """Compute, log and write; called on every rank."""
        raise NotImplementedError

    def replay(self, trainer: Trainer, module: LightningModule, record: Path) -> None:
        """Log again what the record holds, without computing it; called on every rank."""
        raise NotImplementedError


class Boundary(Callback):
    """The end of each step, in this order; no other part of this package acts there.

    1. The ranks agree whether a signal stops the run here.
    2. Weights that are not finite are refused.
    3. The checkpoint is written if it is due, if the run stops, and before anything that may fail.
    4. A run that stops ends here: the resumed run makes up for the rest.
    5. Evaluations, then pictures.
    6. Lightning's validation, what monitors its numbers and those of the evaluations, and `Checkpoint.rank`.
    """

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._derived: list[Derived] = []
        self._saving: dict[str, Any] | None = None
        self._resumed: dict[str, Any] | None = None
        self._made: list[Derived] = []
        self._last = -1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Replace the loops, and let callbacks whose state goes into the checkpoint act before it is written."""
        if stage != "fit":
            return
        self._resumed, self._made, self._last = None, [], -1
        loop = reentry.install(trainer)
        loop.owed = loop.guard = None
        others = [c for c in callbacks_of(trainer) if c is not self]
        first = [c for c in others if not isinstance(c, Part) and reentry.keeps_state_of_steps(c)]
        trainer.callbacks = [*first, self, *(c for c in others if c not in first)]  # type: ignore[attr-defined]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Read what was still due at the saved step; nothing if another program wrote the checkpoint."""
        reentry.keep_within(trainer, checkpoint)
        if trainer.state.fn != "fit" or "boundary" not in checkpoint:
            return
        self._resumed = saved = checkpoint["boundary"]
        settle = partial(self._settle, trainer, pl_module)
        reentry.install(trainer).owed = reentry.Owed(settle, saved["moment"]["validates"], saved["ended"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Agree on the step, and find before the first step what cannot work."""
        check_steps(trainer)
        refuse_states(trainer, pl_module)
        self._parts = [c for c in callbacks_of(trainer) if isinstance(c, Part)]
        self._derived = sorted((c for c in self._parts if isinstance(c, Derived)), key=lambda d: d.after_evaluations)
        if self._resumed is not None:
            reentry.remember(trainer, self._resumed["memory"], stops=not self._resumed["moment"]["last"])
        for part in sorted(self._parts, key=lambda p: not isinstance(p, Stopper)):
            part.begin(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Cross the boundary at the end of each batch, which is a step."""
        progress.alone, at = True, end_of_step(trainer, batch_idx)
        stopping = [p.agreed(trainer) for p in self._parts if isinstance(p, Stopper)]
        self._made = []
        self._cross(trainer, pl_module, at._replace(stopping=any(stopping)))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cross it once more as the last step, if that was not known at the end of the step."""
        if self._resumed is not None:
            self._settle(trainer, pl_module)
        if self._last != trainer.global_step:
            self._cross(trainer, pl_module, Moment(trainer.global_step, None, True, False, False), ended=True)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store the moment and what Lightning forgets, in the checkpoints that are written at the end of a step."""
        if self._saving is not None:
            checkpoint["boundary"] = self._saving | {"memory": reentry.memory_of(trainer)}

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say that the step whose validation failed is saved."""
        if trainer.validating and isinstance(exception, Exception) and self._saved(trainer.global_step):
            tell(trainer, "the validation")

    # ---- a step

    def _cross(self, trainer: Trainer, module: LightningModule, at: Moment, ended: bool = False) -> None:
        if at.last:
            self._last = at.step
        due = [d for d in self._derived if d.cadence.due(at) and d not in self._made]
        savers = [p for p in self._parts if isinstance(p, Saver)]
        risky = bool(due) or at.validates
        if at.stopping or risky or any(saver.cadence.due(at) for saver in savers):
            refuse_non_finite(trainer)
        for saver in savers:
            counts = saver.cadence.due(at)
            if counts or at.stopping or (risky and saver.before_evaluation):
                self._save(saver, trainer, at, counts, ended, at_once=risky)
        if at.stopping:
            raise Stopped
        for derived in due:
            self._make(derived, trainer, module, at.step)
        reentry.install(trainer).guard = partial(self._interruptible, trainer) if at.validates else None

    def _save(self, saver: Saver, trainer: Trainer, at: Moment, counts: bool, ended: bool, at_once: bool) -> None:
        rows = next((logger.rows for logger in trainer.loggers if isinstance(logger, MetricsCSV)), None)
        moment = at._replace(stopping=False)._asdict()
        self._saving = {"moment": moment, "ended": ended, "counts": counts, "rows": rows}
        try:
            saver.save(trainer, counts, final=at.stopping or at.last, at_once=at_once)
        finally:
            self._saving = None

    def _make(self, derived: Derived, trainer: Trainer, module: LightningModule, step: int) -> None:
        try:
            with self._interruptible(trainer):
                derived.make(trainer, module, step)
        except UserError as error:
            if self._saved(step):
                raise UserError(f"{error}; {saved_at(trainer)}") from error
            raise
        except Stopped:
            raise
        except Exception:
            if self._saved(step):
                tell(trainer, type(derived).__name__)
            raise
        self._made.append(derived)

    @contextmanager
    def _interruptible(self, trainer: Trainer) -> Iterator[None]:
        """A stop ends what is derived from a saved step: it is made again."""
        with ExitStack() as stack:
            if self._saved(trainer.global_step):
                for part in self._parts:
                    if isinstance(part, Stopper):
                        stack.enter_context(part.interruptible(trainer))
            yield

    def _saved(self, step: int) -> bool:
        return any(p.saved(step) for p in self._parts if isinstance(p, Saver))

    # ---- a resumed run

    def _settle(self, trainer: Trainer, module: LightningModule) -> None:
        """Make up for what callbacks still had to do at the saved step."""
        assert self._resumed is not None
        saved, self._resumed, reentry.install(trainer).owed = self._resumed, None, None
        at, self._made = Moment(**saved["moment"]), []
        now = at._replace(last=saved["ended"] or is_last(trainer, at.step, at.epoch))
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV) and saved["rows"] is not None:
                logger.cut(saved["rows"])
        reentry.remove_later_files(trainer, at.step)
        for derived in self._derived:
            record = derived.record_of(Path(trainer.default_root_dir), at.step)
            was_due, is_due = derived.cadence.due(at), derived.cadence.due(now)
            if (was_due or is_due) and distributed.from_first(record.is_file):
                derived.replay(trainer, module, record)
                self._made.append(derived)
            elif is_due:
                self._make(derived, trainer, module, at.step)
        if now.last:
            self._last = at.step
        reentry.install(trainer).guard = partial(self._interruptible, trainer) if at.validates else None
        if not saved["ended"]:
            for monitor in reentry.monitors_of(trainer):  # its turn at the end of a step comes after ours
                monitor.on_train_batch_end(trainer, module, None, None, trainer.fit_loop.epoch_loop.batch_idx)
