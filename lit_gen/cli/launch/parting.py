"""How a rank ends after a failure: one sentence for all ranks, one exit code, and no rank keeps waiting."""

import contextlib
import os
import platform
import sys
import time

from lit_gen.cli.errors import LOST
from lit_gen.cli.launch.company import company
from lit_gen.core.errors import RankError, UserError
from lit_gen.runs import directory, lease, signals, slurm
from lit_gen.runs.heartbeat import LOOK, ended, told
from lit_gen.runs.meeting import ENDED, Failure, Meeting

PATIENCE = 10.0
"""Seconds for which a rank looks for rank 0 if it failed before they met."""
FAREWELL = 10.0
"""Seconds for which a rank that failed before the first step waits until the others have heard of it."""


def end_at_once(code: int, sentence: str) -> None:
    """End this process from a thread, even if the main thread waits."""
    if sentence:
        _say(sentence, slurm.rank())
    if company.launcher is not None:
        company.launcher.kill(signals.KILL)
    if slurm.rank() == 0:
        directory.remove_unused()
        lease.release()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def depart(code: int, sentence: str) -> int:
    """Leave after a failure: report it, once for all ranks that met it, and let the others know.

    Args:
        code: the exit code.
        sentence: what this rank met; begins with `LOST` if it only lost another rank; empty if another rank reports it.

    Returns:
        The exit code: that of the rank that failed first.
    """
    if company.watch is not None:
        company.watch.stop()
    with contextlib.suppress(UserError, RankError, RuntimeError, OSError):  # otherwise each rank reports for itself
        company.meet(PATIENCE)
    meeting = company.meeting
    if meeting is None:
        _say(sentence, slurm.rank())
        return code
    signals.ignore("SIGTERM")  # torchrun ends the others with it as soon as one has left
    try:
        code = _tell(meeting, code, sentence)
        # In a collective the others learn of it only when this process is gone; by then their threads have read it.
        meeting.leave(meeting.place.world, FAREWELL if company.watch is None else 3 * LOOK)
    except RuntimeError:  # of the store: rank 0 is gone
        if sentence.startswith(LOST):
            code, sentence = ENDED, ended("rank 0") if meeting.place.speaks else ""
        if sentence:
            _say(sentence, meeting.place.rank)
    if company.launcher is not None:
        company.launcher.kill(signals.KILL)
    return code


def _tell(meeting: Meeting, code: int, sentence: str) -> int:
    rank = meeting.place.rank
    if sentence.startswith(LOST):
        code, sentence = _lost(meeting, sentence.removeprefix(f"{LOST}: "))
        if sentence and (rank == 0 or meeting.place.speaks):
            _say(sentence, rank)
        return code
    if not sentence:
        return code
    mine = Failure(rank, code, sentence)
    meeting.fail(mine)
    deadline = time.monotonic() + (0 if rank == 0 else 3 if company.watch is None else 1)
    while True:
        same = [failure for failure in meeting.failures() if failure.message == sentence]
        if rank and (same[0] != mine or any(failure.rank == 0 for failure in same)):
            return code
        if time.monotonic() >= deadline:
            break
        time.sleep(0.05)
    _say(sentence, rank)
    return code


def _lost(meeting: Meeting, error: str) -> tuple[int, str]:
    """The exit code and the sentence of a rank whose collective failed."""
    if company.watch is not None and company.watch.found is not None:
        return company.watch.found[:2]
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if failures := meeting.failures():
            return told(failures[0], meeting.place.rank)
        time.sleep(0.1)
    return ENDED, ended(f"which one is not known: {error}")


def depart_with_traceback(error: BaseException) -> None:
    """Let the other ranks know that a bug ends this one; Python shows the traceback."""
    if company.watch is not None:
        company.watch.stop()
    if company.meeting is not None:
        first_line = (str(error).splitlines() or [""])[0]
        with contextlib.suppress(RuntimeError):
            company.meeting.fail(Failure(company.meeting.place.rank, 0, f"met {type(error).__name__}: {first_line}"))
            company.meeting.leave(company.world, 3 * LOOK)
    if company.launcher is not None:
        company.launcher.kill(signals.KILL)


def _say(sentence: str, rank: int) -> None:
    who = f" (rank {rank} on {platform.node()})" if rank else ""
    print(f"error{who}: {sentence}", file=sys.stderr, flush=True)
