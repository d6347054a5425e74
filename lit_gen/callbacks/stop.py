"""Stopping between two steps: Ctrl-C and SIGTERM finish the step, save, and say how to continue."""

import os
import signal
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch import Callback

from lit_gen import parallel
from lit_gen.callbacks.steps import completes_step
from lit_gen.errors import UserError

Handler = Callable[[int, types.FrameType | None], Any] | int | None


class Stop(Callback):
    """Set a flag in the signal handler, and act on it at the next step boundary, on all ranks at the same step.

    A second Ctrl-C stops at once. Nothing is saved inside the handler: it may run between the two networks' updates.

    Args:
        agree_every: with several ranks, steps between two exchanges of the flag.
    """

    def __init__(self, agree_every: int = 8) -> None:
        if agree_every < 1:
            raise UserError(f"stop.agree_every: {agree_every} was found, a whole number of at least 1 is expected")
        self.agree_every = agree_every
        self.stopped = False
        """Whether this run was stopped by a signal before its last step."""
        self._asked = False
        self._before: dict[int, Handler] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over; looked up by name, since not every system has each."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python hands signals to the main thread alone
        for name in ("SIGINT", "SIGTERM"):
            number = getattr(signal, name, None)
            if number is not None:
                self._before[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, frame: types.FrameType | None) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt("second")
        self._asked = True
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print("\nfinishing the step and saving; Ctrl-C again stops at once", file=sys.stderr, flush=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop here if any rank was asked to."""
        if not completes_step(trainer, batch_idx):
            return
        if trainer.world_size > 1 and trainer.global_step % self.agree_every:
            return
        if parallel.agree(self._asked, trainer.strategy.root_device) and not self.stopped:
            self.stopped = True
            # Lightning validates whenever it stops early: a row that the undisturbed run does not have
            loop = trainer.fit_loop
            assert loop._data_fetcher is not None
            if not loop.epoch_loop._should_check_val_fx(loop._data_fetcher):
                trainer.limit_val_batches = 0
            trainer.should_stop = True
            for checkpoint in trainer.checkpoint_callbacks:
                save = getattr(checkpoint, "save", None)
                if save is not None:
                    save(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
