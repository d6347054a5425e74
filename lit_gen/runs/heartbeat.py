"""A thread of each rank that notices when another rank fails, ends or hangs while the main thread is in a collective.

Ranks report in the store how many collectives they have entered, which torch counts anyway: the rank that stays behind
is the one for which the others wait. Training itself does nothing for this.
"""

import json
import os
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from lit_gen.runs import directory, signals
from lit_gen.runs.meeting import ENDED, Failure, Meeting, named, orphaned
from lit_gen.runs.place import PARENT

BEAT = 5.0
"""The most seconds between two beats."""
LOOK = 0.5
"""Seconds between two looks for ranks that failed."""
GRACE = 15.0
"""Seconds that the main thread has to come out of a collective by itself, and to say what happened."""

UNHEARD: dict[str, Any] = {"beat": 0, "entered": -1, "step": 0, "alone": False, "where": ""}
"""The report of a rank that has not reported yet."""


@dataclass
class Progress:
    """What the main thread reports about itself: plain attributes, set once a step.

    Attributes:
        step: the last step.
        alone: whether rank 0 may work alone, for any time: before, between and after steps.
        run: the run directory, if it can be continued.
    """

    step: int = 0
    alone: bool = True
    run: Path | None = None

    def how_to_continue(self) -> str:
        """A clause with the last step and the command that continues the run."""
        if self.run is None:
            return "start the command again"
        if not directory.checkpoints(self.run):
            return f"the last step was {self.step}, no checkpoint was written before it"
        return f"the last step was {self.step}; continue with: lit-gen fit --resume {self.run}"


progress = Progress()


def ended(who: str) -> str:
    """The sentence of a rank that ends because another one did."""
    return f"another rank ended ({who}); {progress.how_to_continue()}"


class Behind:
    """Finds the ranks for which the others wait.

    Args:
        limit: seconds after which a rank counts as hanging.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._since: dict[int, tuple[Any, float]] = {}
        self._beats: dict[int, tuple[int, float]] = {}

    def silent(self, rank: int, now: float) -> float:
        """Seconds since that rank's last beat."""
        return now - self._beats[rank][1]

    def look(self, beats: dict[int, dict[str, Any]], now: float) -> list[int]:
        """The ranks that hang.

        Args:
            beats: the last report of each rank: ``beat``, which grows, ``entered`` collectives, and
                whether it works ``alone``.
            now: the reader's clock; no clocks of two machines are compared.
        """
        front = max((told["entered"] for told in beats.values()), default=0)
        found = []
        for rank, told in beats.items():
            if self._beats.get(rank, (None,))[0] != told["beat"]:
                self._beats[rank] = told["beat"], now
            exempt = rank == 0 and told["alone"]
            if told["entered"] >= front or exempt:
                self._since.pop(rank, None)
            elif self._since.get(rank, (None,))[0] != told["entered"]:
                self._since[rank] = told["entered"], now
            behind = now - self._since[rank][1] if rank in self._since else 0.0
            if max(self.silent(rank, now), behind) > self.limit:
                found.append(rank)
        return found


class Watch(threading.Thread):
    """Reports this rank to the store every few seconds, and ends the process when another rank failed, ended or hangs.

    Attributes:
        found: exit code, sentence, and whether not to wait for the main thread; None while all is well.

    Args:
        meeting: where ranks meet.
        world: their number.
        hang_after: seconds that ranks wait for one before it counts as hanging; 0 for no limit.
        end: ends this process with an exit code and a sentence, which may be empty.
    """

    def __init__(self, meeting: Meeting, world: int, hang_after: float, end: Callable[[int, str], None]) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.rank, self.world, self.speaks = meeting.place.rank, world, meeting.place.speaks
        self.meeting, self.hang_after, self.end = meeting, hang_after, end
        self._store, self._main = meeting.connect(), threading.main_thread().ident
        self._behind, self._stopped = Behind(hang_after), threading.Event()
        self._beat_of_0: int = UNHEARD["beat"]
        self._beat, self._beaten, self._answered = 0, 0.0, time.monotonic()
        self.found: tuple[int, str, bool] | None = None
        self._every = min(BEAT, hang_after / 4) if hang_after else BEAT

    def stop(self) -> None:
        """End the thread: the main thread has noticed by itself, or is done."""
        self._stopped.set()
        self.join(timeout=2)

    def run(self) -> None:
        """Watch until something happens, and give the main thread time to notice."""
        threading.Thread(target=self._talk, name="heartbeat-store", daemon=True).start()
        looked = time.monotonic()
        while not self._stopped.wait(LOOK):
            now = time.monotonic()
            if now - looked > BEAT:  # this process was stopped itself, as by `scontrol suspend`
                self._answered = now
            looked, waited = now, now - self._answered
            if orphaned():
                self._find(*_rank_0_ended(self.speaks))
            elif self.rank > 0 and 0 < self.hang_after < waited:
                self._find(ENDED, self._rank_0_hangs(waited), at_once=True)
                if os.environ.get(PARENT) == str(os.getppid()):
                    os.kill(os.getppid(), signals.KILL)  # it is stopped, and started this process
            if self.found is not None:
                code, sentence, at_once = self.found
                # the store may end with this process: if it decided, the others look first
                if not self._stopped.wait(GRACE if not at_once else 3 * LOOK if sentence else 0):
                    self.end(code, sentence)
                return

    def _find(self, code: int, sentence: str, at_once: bool = False) -> None:
        """Keep what was found first: what follows from it is found too."""
        if self.found is None:
            self.found = code, sentence, at_once

    def _talk(self) -> None:
        """Ask the store, which may block for ever if rank 0 serves it and is stopped."""
        looked = time.monotonic()
        while self.found is None and not self._stopped.wait(LOOK):
            if time.monotonic() - looked > BEAT:
                self._behind = Behind(self.hang_after)
            looked = time.monotonic()
            try:
                failures = self.meeting.failures(self._store)
                if failures:
                    self._find(*told(failures[0], self.rank))
                elif self._store.check(["hangs"]):
                    self._find(ENDED, "", at_once=True)
                elif self.hang_after and time.monotonic() - self._beaten > self._every:
                    self._beaten = time.monotonic()
                    sentence = self._hanging()
                    if sentence is not None:
                        self._find(ENDED, sentence, at_once=True)
            except RuntimeError:  # the store is gone
                if not self._stopped.is_set():
                    self._find(*_rank_0_ended(self.speaks))

    def _hanging(self) -> str | None:
        """Report this rank; on rank 0, decide for all ranks which one hangs."""
        self._beat += 1
        mine = {"beat": self._beat, "entered": _entered(), "step": progress.step, "alone": progress.alone}
        self._store.set(f"beat/{self.rank}", json.dumps({**mine, "where": _where(self._main)}))
        if self.rank > 0:  # the store of torchrun's agent answers whatever becomes of rank 0
            beat = self._told(0)["beat"]
            if beat != self._beat_of_0:
                self._beat_of_0, self._answered = beat, time.monotonic()
            return None
        beats = {rank: self._told(rank) for rank in range(self.world)}
        now = time.monotonic()
        hanging = self._behind.look(beats, now)
        if not hanging:
            return None
        self._store.set("hangs", "")
        places = [
            f"rank {rank} does not answer"
            if self._behind.silent(rank, now) > self.hang_after / 2
            else f"rank {rank} is in {beats[rank]['where']} after step {beats[rank]['step']}"
            for rank in hanging[:8]
        ]
        verb = "hangs" if len(hanging) == 1 else "hang"
        waited = f"the others have waited for {self.hang_after:g} s (stop.hang_after)"
        return f"{named(hanging)} {verb}: {waited}, {', '.join(places)}; {progress.how_to_continue()}"

    def _told(self, rank: int) -> dict[str, Any]:
        """The last report of a rank, which may have stopped before its first."""
        name = f"beat/{rank}"
        return dict(json.loads(self._store.get(name)) if self._store.check([name]) else UNHEARD)

    def _rank_0_hangs(self, waited: float) -> str:
        """The sentence for a rank 0 that does not answer."""
        sentence = f"rank 0 hangs: it has not answered for {waited:.0f} s (stop.hang_after)"
        return f"{sentence}; {progress.how_to_continue()}" if self.speaks else ""


def told(failure: Failure, rank: int) -> tuple[int, str]:
    """The exit code and the sentence of a rank that ends because another one failed.

    A rank that met a user's mistake has said it, and its code is the job's; any other is named.
    """
    if failure.code:
        return failure.code, ""
    return ENDED, ended(f"rank {failure.rank} {failure.message}") if rank == 0 or failure.rank == 0 else ""


def _rank_0_ended(speaks: bool) -> tuple[int, str]:
    return ENDED, ended("rank 0") if speaks else ""


def _entered() -> int:
    """How many collectives this process has entered."""
    from torch.distributed import distributed_c10d, is_initialized

    try:
        group: Any = distributed_c10d._get_default_group() if is_initialized() else None
        return int(group._get_sequence_number_for_group()) if group is not None else -1
    except (RuntimeError, ValueError):  # a backend that does not count, or a group that is being left
        return -1


def _where(thread: int | None) -> str:
    """Where the main thread is: the innermost line outside of libraries."""
    frame: FrameType | None = sys._current_frames().get(thread or 0)
    stack = [(f.f_code.co_filename, line, f.f_code.co_name) for f, line in traceback.walk_stack(frame)] if frame else []
    libraries = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "<frozen")
    ours = f"{os.sep}lit_gen{os.sep}"
    own = [place for place in stack if ours in place[0] or not place[0].startswith(libraries)] or stack
    return "{}:{} ({})".format(Path(own[0][0]).name, *own[0][1:]) if own else "no Python"
