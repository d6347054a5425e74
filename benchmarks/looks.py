"""How long a run goes on without a look at whether a signal asked it to stop: the longest time of each kind.

    python benchmarks/looks.py --config gan.yaml --trainer.max_steps 200

The options are those of `lit-gen fit`. A signal is looked at when ranks ask each other, at the end of a step, and, in
what can be interrupted, whenever Python runs: a timer's signal every 10 ms finds out when that is. Not counted is what
precedes the end of the first step, where a signal is kept.
"""

import signal
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lit_gen.callbacks.stop import Stop
from lit_gen.cli import entry
from lit_gen.runs import signals

EVERY = 0.01
PACKAGE = str(Path(entry.__file__).parents[1])
KINDS = {
    (False, False): "from one look at a step's end to the next",
    (False, True): "from a step's end, over its save, into what follows it",
    (True, True): "in evaluations, pictures and validation",
    (True, False): "from these to the next look at a step's end",
}

longest: dict[str, tuple[float, str]] = {}
last: tuple[float, bool] | None = None


def look(inside: bool, where: str) -> None:
    """Note the time since the last look."""
    global last
    now = time.perf_counter()
    if last is not None:
        kind = KINDS[last[1], inside]
        longest[kind] = max(longest.get(kind, (0.0, "")), (now - last[0], where))
    last = now, inside


def tick(number: int, frame: types.FrameType | None) -> None:
    """A signal would be heard here; where it would be acted upon, it is a look."""
    if signals._interrupts:
        while frame is not None and not frame.f_code.co_filename.startswith(PACKAGE):
            frame = frame.f_back
        look(True, "" if frame is None else f"{frame.f_code.co_filename[len(PACKAGE) + 1 :]}: {frame.f_code.co_name}")


def looking(name: str, alone: bool) -> None:
    """Take the calls of a method of `Stop` for looks, with one process or with several."""
    original: Callable[..., Any] = getattr(Stop, name)

    def method(self: Stop, trainer: Any, *arguments: Any, **options: Any) -> Any:
        global last
        looks, where = (trainer.world_size == 1) == alone, f"step {trainer.global_step}"
        if looks:
            look(self._inside, where)
        result = original(self, trainer, *arguments, **options)
        if looks:  # the time that a rank waited there was the other's
            last = time.perf_counter(), self._inside
        return result

    setattr(Stop, name, method)


if __name__ == "__main__":
    looking("agreed", alone=True)
    looking("_ask", alone=False)
    signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, EVERY, EVERY)
    code = entry.run(["fit", *sys.argv[1:]])
    signal.setitimer(signal.ITIMER_REAL, 0)
    for kind in KINDS.values():
        if kind in longest:
            print(f"{longest[kind][0]:7.3f} s  {kind} ({longest[kind][1]})", flush=True)
    sys.exit(code)
