"""The launch of ranks: they exchange messages before the process group exists, and outside of it."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import _TunerExitException

from lit_gen.cli.launch.company import company
from lit_gen.cli.launch.parting import end_at_once
from lit_gen.core.errors import UserError
from lit_gen.runs import place, signals
from lit_gen.runs.heartbeat import Watch, progress
from lit_gen.runs.meeting import Failure

POLL = 0.2
"""Seconds between two looks at the processes that rank 0 started."""


class Launcher(_SubprocessScriptLauncher):
    """Lightning's launcher, whose ranks exchange messages before the process group exists, and outside of it.

    Args:
        launcher: lightning's own.
        patience: seconds that are waited for other ranks.
        hang_after: seconds after which a rank hangs; 0 for never.
    """

    def __init__(self, launcher: _SubprocessScriptLauncher, patience: float, hang_after: float) -> None:
        super().__init__(launcher.cluster_environment, launcher.num_processes, launcher.num_nodes)
        self.patience, self.hang_after = patience, hang_after

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Trainer | None = None, **kwargs: Any) -> Any:
        """Start the other processes of this node if no launcher did, wait for all ranks, then run."""
        assert trainer is not None
        try:
            self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        except ValueError as error:
            raise UserError(f"trainer: {error}") from None
        if trainer.world_size == 1:
            return function(*args, **kwargs)
        if not self.cluster_environment.creates_processes_externally:
            os.environ[place.PARENT], os.environ[place.DEVICES] = str(os.getpid()), str(self.num_processes)
            self._call_children_scripts()
            company.launcher = self
            company.gather(trainer, self.patience, self._observed)
        if trainer.state.fn == TrainerFn.FITTING:
            progress.run = Path(trainer.default_root_dir)
        _set_num_threads_if_needed(num_processes=self.num_processes)
        assert company.meeting is not None
        company.watch = Watch(company.meeting, company.world, self.hang_after, end_at_once)
        company.watch.start()
        try:
            result = function(*args, **kwargs)
        except _TunerExitException:  # all of them stop between two steps
            self._part()
            raise
        except Exception:
            signals.ignore("SIGTERM")  # torchrun and srun send it to ranks that are about to report
            trainer._signal_connector._original_handlers.clear()  # which lightning would restore
            raise
        self._part()
        return result

    def _part(self) -> None:
        """End the watch, and the store only when the last rank has left."""
        assert company.watch is not None
        assert company.meeting is not None
        company.watch.stop()
        company.meeting.leave(company.world, 60)

    def _observed(self) -> None:
        assert company.meeting is not None
        threading.Thread(target=self._observe, args=(company.meeting.connect(),), daemon=True).start()

    def _observe(self, store: Any) -> None:
        """Report processes that ended and could not report themselves."""
        assert company.meeting is not None
        first = company.meeting.place.rank
        running = dict(enumerate(self.procs, start=first + 1))
        with contextlib.suppress(RuntimeError):  # the store is gone, and so is this process
            while running:
                time.sleep(POLL)
                for rank, process in list(running.items()):
                    code = process.poll()
                    if code is not None:
                        del running[rank]
                    if code and all(failure.rank != rank for failure in company.meeting.failures(store)):
                        company.meeting.fail(Failure(rank, 0, how_it_ended(code)), store)


def how_it_ended(code: int) -> str:
    """A process's return code in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    names = {member.value: member.name for member in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"


def install(trainer: Trainer, patience: float, hang_after: float) -> None:
    """Give a trainer of several processes our launcher.

    Args:
        trainer: just made.
        patience: seconds that are waited for other ranks.
        hang_after: seconds after which a rank hangs; 0 for never.
    """
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        trainer.strategy._launcher = Launcher(launcher, patience, hang_after)
        if launcher.cluster_environment.creates_processes_externally and trainer.world_size > 1:
            company.gather(trainer, patience)  # before anything is written
