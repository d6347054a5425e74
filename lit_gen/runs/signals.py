"""Signals that ask a training to stop between two steps: handled from the first line of the program, acted upon later.

Imports only the standard library: a signal that arrives while torch is being imported must find its handler.
"""

import contextlib
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

from lit_gen.runs import slurm

Handler = Callable[[int, types.FrameType | None], Any] | int | None

REQUEUE = "SIGUSR1"
"""What ``#SBATCH --signal`` sends before the time limit or a preemption: stop, and put the job back into the queue."""

HANDED_ON = "SIGUSR2"
"""What the tasks get when the process that waits for ``srun`` gets a SIGTERM; see `lit_gen.runs.srun`."""

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has one way to end a process

_asked: list[str] = []
_saved = False
_interrupts = False
_before: dict[int, Handler] = {}


def listen(*names: str) -> None:
    """Handle these signals; looked up by name, because not every system has all of them."""
    for name in names:
        number = getattr(signal, name, None)
        if number is not None:
            before = signal.signal(number, _ask)
            _before.setdefault(number, before)


def give_back(*names: str) -> None:
    """Restore the handlers, which only the main thread may, and forget what was asked."""
    for name in names if threading.current_thread() is threading.main_thread() else ():
        number = getattr(signal, name, None)
        if number in _before:
            signal.signal(number, _before.pop(number))
    _asked.clear()


def ignore(name: str) -> None:
    """Ignore a signal from now on: the process is about to end by itself."""
    signal.signal(getattr(signal, name), signal.SIG_IGN)


def asked() -> bool:
    """Whether any signal asked this process to stop."""
    return bool(_asked)


def requeue_asked() -> bool:
    """Whether SLURM asked, and not a person: the job should then be requeued."""
    return _asked == [REQUEUE] * len(_asked) and bool(_asked)


class Interrupted(BaseException):
    """A signal asked to stop while only repeatable work was done."""


@contextlib.contextmanager
def saved() -> Iterator[None]:
    """While the step's checkpoint is on the disk, a signal gets an answer that says so."""
    global _saved
    _saved = True
    try:
        yield
    finally:
        _saved = False


@contextlib.contextmanager
def interrupting() -> Iterator[None]:
    """For repeatable work: a signal that comes during the block, or came before, ends it at once.

    Raises:
        Interrupted: then, anywhere in the block. What it was writing is as after a kill of the process.
    """
    global _interrupts
    try:
        _interrupts = True  # first: a signal that comes after the question is not missed
        if asked():
            raise Interrupted
        yield
    finally:
        _interrupts = False


@contextlib.contextmanager
def holding() -> Iterator[None]:
    """For what must not be cut within `interrupting`: a signal that comes in this block ends the outer one after it.

    Raises:
        Interrupted: then.
    """
    global _interrupts
    _interrupts = False
    yield  # what fails ends the outer block, too
    _interrupts = True
    if asked():
        _interrupts = False
        raise Interrupted


class Terminated(BaseException):
    """A SIGTERM in `terminable`. Not an Exception, so that no handler goes on."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """For a command without a trainer: a SIGTERM ends it as Ctrl-C does, which removes what it was writing.

    Raises:
        Terminated: then, anywhere in the block.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: types.FrameType | None) -> None:
    raise Terminated


def _ask(number: int, frame: types.FrameType | None) -> None:
    global _interrupts
    if _asked and number == signal.SIGINT:
        raise KeyboardInterrupt("second")
    name = signal.Signals(number).name
    _asked.append(name)
    if slurm.rank() == 0:
        again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
        doing = "the step is saved, stopping" if _saved else "finishing the step and saving"
        message = f"\n{'SIGTERM' if name == HANDED_ON else name}: {doing}{again}\n"
        try:  # print() cannot be entered twice, and the signal may have come in the middle of one
            os.write(sys.stderr.fileno(), message.encode())
        except (OSError, ValueError, AttributeError):  # a notebook's has no file
            print(message, file=sys.stderr, flush=True)
    if _interrupts:
        _interrupts = False  # another signal finds the block on its way out
        raise Interrupted
