"""Stopping between two steps: Ctrl-C, SIGTERM and SLURM's warning finish the step, save, and say how to continue."""

import contextlib
import functools
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy

from lit_gen.callbacks.boundary import Stopped, Stopper
from lit_gen.core import distributed
from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least, not_negative
from lit_gen.runs import signals, slurm

SECONDS = 1.0
"""Ranks ask each other about this often if ``agree_every`` steps take longer."""


class Parts:
    """Parts of an evaluation that hold no collective, one on each rank: a stop ends them all at once.

    A rank leaves its part when it gets a signal or learns that another rank did: they exchange that about every second,
    and a rank that is done goes on exchanging until all are. So each exchange has all ranks, however uneven the parts.

    Args:
        exchange: tells the others whether this rank is done with its part, and returns whether any was asked to stop
            and whether all are done.
    """

    def __init__(self, exchange: Callable[[bool], tuple[bool, bool]]) -> None:
        self._exchange = exchange
        self._inside, self._leaving, self._then = False, False, 0.0

    def do(self, make: Callable[[], None]) -> None:
        """See `lit_gen.core.distributed.Parts`.

        Raises:
            Stopped: on all ranks, if one was asked to.
        """
        self._inside, self._leaving, self._then = True, False, time.monotonic()
        try:
            with signals.interrupting():
                make()
        except signals.Interrupted:
            pass  # the exchange says so, now or before
        finally:
            self._inside = False
        all_through = False
        while not (self._leaving or all_through):
            self._leaving, all_through = self._exchange(True)
        if self._leaving:
            raise Stopped

    def look(self) -> None:
        """See `lit_gen.core.distributed.Parts`."""
        if self._inside and time.monotonic() - self._then >= SECONDS:
            with signals.holding():
                self._leaving, _ = self._exchange(False)
                self._then = time.monotonic()
                if self._leaving:
                    raise signals.Interrupted  # not an Exception: that would count as a failure of the part


class Rhythm:
    """When ranks that count the same thing (steps, batches) exchange next: about every second, on all at once.

    Args:
        count: the present count.
        at_most: the largest number of counts between two exchanges.
    """

    def __init__(self, count: int, at_most: int) -> None:
        self._count, self._then, self._at_most = count, time.monotonic(), at_most
        self._next, self._each = count + 1, math.inf

    def due(self, count: int) -> bool:
        """Whether an exchange is due at ``count``; the same on all ranks."""
        return count >= self._next

    def seconds(self) -> float:
        """Seconds since the last exchange, on this rank."""
        return time.monotonic() - self._then

    def asked(self, count: int, seconds: float) -> None:
        """Set the next exchange after one at ``count``; ``seconds``: since the one before, mean over the ranks."""
        if count > self._count:  # else they asked twice within one step, which does not show how long a step takes
            self._each = max(seconds / (count - self._count), 1e-9)
        self._next = count + max(1, min(self._at_most, int(SECONDS / self._each)))
        self._count, self._then = count, time.monotonic()


class Stop(Stopper):
    """Act at a step boundary on what a signal asked for, on all ranks at the same step.

    A second Ctrl-C stops at once. Nothing is saved inside the handler: it may run between the two networks' updates.
    SLURM's warning (SIGUSR1) also requeues the job; Ctrl-C and SIGTERM, which ``scancel`` sends, do not.

    Args:
        agree_every: with several ranks, the largest number of steps after which they ask each other whether a signal
            came; fewer where steps are slow, so that they ask about every second.
        hang_after: with several ranks, seconds that the others wait for a rank in a collective before it counts as
            hanging: the job then ends with exit code 4. Evaluations, pictures and checkpoints, on which rank 0 works
            alone between two steps, do not count. 0: no limit.
        wait_for_ranks: seconds in which all ranks have to appear at the start.
    """

    def __init__(self, agree_every: int = 8, hang_after: float = 600.0, wait_for_ranks: float = 600.0) -> None:
        at_least(1, "stop.", agree_every=agree_every)
        not_negative("stop.", hang_after=hang_after, wait_for_ranks=wait_for_ranks)
        self.agree_every, self.hang_after, self.wait_for_ranks = agree_every, hang_after, wait_for_ranks
        self.stopped = False
        """Whether a signal stopped this run."""
        self.requeue = False
        """Whether SLURM asked, so that the job should be requeued."""
        self._steps = Rhythm(0, agree_every)
        self._batches = Rhythm(0, 0)
        self._batch, self._common = 0, 0.0  # of a validation: the current one, and how many all ranks have
        self._inside = False  # what can be interrupted, with several ranks

    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """Listen for signals, and check that all ranks start from the same step.

        Raises:
            UserError: if a rank found another checkpoint than the others, on a file system that lags behind.
        """
        step = trainer.global_step
        self._steps = Rhythm(step, self.agree_every)
        steps = sorted({int(s) for s in distributed.gather([float(step)])})
        if len(steps) > 1:
            raise UserError(
                f"the ranks start from different steps ({', '.join(map(str, steps))}): the run directory must lie on a "
                f"file system that all nodes share"
            )
        if threading.current_thread() is threading.main_thread():  # Python hands signals only to it
            signals.listen("SIGINT", "SIGTERM")
            if slurm.job_name() is not None:
                signals.listen(signals.REQUEUE, signals.HANDED_ON)

    def agreed(self, trainer: Trainer, now: bool = False) -> bool:
        """Whether any rank was asked to stop, which then holds for all of them.

        Args:
            trainer: at the end of a step.
            now: whether the ranks ask each other even if that is not due yet.
        """
        step = trainer.global_step
        if not signals.asked() if trainer.world_size == 1 else not (self._steps.due(step) or now):
            return False
        seconds = self._ask(trainer, self._steps.seconds())
        self._steps.asked(step, seconds / trainer.world_size)
        return self.stopped

    @contextlib.contextmanager
    def interruptible(self, trainer: Trainer) -> Iterator[None]:
        """End what is done in the block when a signal comes, on all ranks at the same place.

        A single process leaves it anywhere. Several leave it before it begins, in parts without collectives (`Parts`),
        and between two batches of a validation. If each pass of a network is a collective, because its weights are
        sharded, an evaluation comes to its end.

        Raises:
            Stopped: then.
        """
        with signals.saved():
            if trainer.world_size == 1:
                try:
                    with signals.interrupting():
                        yield
                except signals.Interrupted:
                    self.stopped, self.requeue = True, signals.requeue_asked()
                    raise Stopped from None
                return
            if self.agreed(trainer, now=True):
                raise Stopped
            whole = isinstance(trainer.strategy, DDPStrategy)
            parts = Parts(functools.partial(self._exchange, trainer))
            self._inside = True
            try:
                with distributed.interrupting(parts) if whole else contextlib.nullcontext():
                    yield
            finally:
                self._inside = False

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find out how many batches every rank has."""
        if self._inside:
            self._common = min(distributed.gather([float(sum(trainer.num_val_batches))]))
            self._batch, self._batches = 0, Rhythm(0, sys.maxsize)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Ask the other ranks if that is due, as long as all have a batch."""
        if not self._inside:
            return
        self._batch += 1
        if self._batches.due(self._batch) and self._batch <= self._common < math.inf:
            seconds = self._ask(trainer, self._batches.seconds())
            if self.stopped:
                raise Stopped
            self._batches.asked(self._batch, seconds / trainer.world_size)

    def _exchange(self, trainer: Trainer, through: bool) -> tuple[bool, bool]:
        ranks = self._ask(trainer, through)
        return self.stopped, ranks == trainer.world_size

    def _ask(self, trainer: Trainer, number: float) -> float:
        """Learn whether any rank was asked to stop, and the sum of the ranks' ``number``."""
        asked = signals.asked()
        mine = torch.tensor([asked, asked and signals.requeue_asked(), number], dtype=torch.float32)
        heard, requeue, whole = distributed.total(mine, trainer.strategy.root_device).tolist()
        self.stopped = heard > 0
        self.requeue = 0 < heard == requeue  # not if a person stopped some rank
        return float(whole)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the handlers, except for SLURM's signals, which would end the process while it leaves."""
        signals.give_back("SIGINT", "SIGTERM")
