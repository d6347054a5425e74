"""Stopping between two steps: Ctrl-C, SIGTERM and SLURM's warning finish the step, save, and say how to continue."""

import contextlib
import threading
import time
from collections.abc import Iterator

import torch
from lightning import LightningModule, Trainer

from lit_gen.callbacks.boundary import Stopped, Stopper
from lit_gen.core import distributed
from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least, not_negative
from lit_gen.runs import signals, slurm

SECONDS = 1.0
"""Ranks ask each other about as often as this, where ``agree_every`` steps take longer."""


class Stop(Stopper):
    """Act at a step boundary on what a signal asked for, on all ranks at the same step.

    A second Ctrl-C stops at once. Nothing is saved inside the handler: it may run between the two networks' updates.
    What SLURM asked for (SIGUSR1) also puts the job back into its queue; Ctrl-C and SIGTERM, which ``scancel`` sends,
    do not.

    Args:
        agree_every: with several ranks, most steps between two exchanges of what was asked for; fewer where they take
            more than a second.
        hang_after: with several ranks, seconds after which one that the others wait for hangs, and the job ends with
            exit code 4; what rank 0 does alone between steps does not count. 0: never.
        wait_for_ranks: seconds in which all ranks have to appear at the start.
    """

    def __init__(self, agree_every: int = 8, hang_after: float = 600.0, wait_for_ranks: float = 600.0) -> None:
        at_least(1, "stop.", agree_every=agree_every)
        not_negative("stop.", hang_after=hang_after, wait_for_ranks=wait_for_ranks)
        self.agree_every, self.hang_after, self.wait_for_ranks = agree_every, hang_after, wait_for_ranks
        self.stopped = False
        """Whether a signal stopped this run."""
        self.requeue = False
        """Whether it was SLURM that asked, which wants the job back in its queue."""
        self._exchange_at = 0
        self._exchanged = (0, 0.0)

    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """Listen, and see that all ranks start from the same step.

        Raises:
            UserError: if a rank found another checkpoint than the others, on a file system that lags behind.
        """
        step = trainer.global_step
        self._exchange_at, self._exchanged = step + 1, (step, time.monotonic())
        steps = sorted({int(s) for s in distributed.gather([float(step)])})
        if len(steps) > 1:
            raise UserError(
                f"the ranks start from different steps ({', '.join(map(str, steps))}): the run directory must lie on a "
                f"file system that all nodes share"
            )
        if threading.current_thread() is threading.main_thread():  # Python hands signals to it alone
            signals.listen("SIGINT", "SIGTERM")
            if slurm.job_name() is not None:
                signals.listen(signals.REQUEUE)

    def agreed(self, trainer: Trainer, now: bool = False) -> bool:
        """Whether any rank was asked to stop, which then holds for all of them.

        Args:
            trainer: at the end of a step.
            now: whether the ranks ask each other though it is not yet time to.
        """
        step = trainer.global_step
        if not signals.asked() if trainer.world_size == 1 else step < self._exchange_at and not now:
            return False
        self.stopped = self._agree(step, trainer.strategy.root_device)
        return self.stopped

    @contextlib.contextmanager
    def interruptible(self, trainer: Trainer) -> Iterator[None]:
        """End what is done in the block when a signal comes; of several ranks none can leave alone: they ask before it.

        Raises:
            Stopped: then.
        """
        if trainer.world_size > 1:
            if self.agreed(trainer, now=True):
                raise Stopped
            yield
            return
        try:
            with signals.interrupting():
                yield
        except signals.Interrupted:
            self.stopped, self.requeue = True, signals.requeue_asked()
            raise Stopped from None

    def _agree(self, step: int, device: torch.device) -> bool:
        """Whether any rank was asked to stop; also decides when to exchange again, the same on all ranks."""
        before, then = self._exchanged
        now = time.monotonic()
        mine = [signals.asked(), signals.requeue_asked(), now - then]
        asked, requeue, seconds = distributed.total(torch.tensor(mine, dtype=torch.float32), device).tolist()
        self.requeue = 0 < asked == requeue  # not where some rank heard of a person's wish
        per_step = seconds / distributed.world_size() / max(1, step - before)
        self._exchange_at = step + max(1, min(self.agree_every, int(SECONDS / max(per_step, 1e-9))))
        self._exchanged = (step, now)
        return bool(asked > 0)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back, but SLURM's, which would end the process while it says goodbye."""
        signals.give_back("SIGINT", "SIGTERM")
