"""Processes that want the same run directory, on a file system that is slow and shows late what others did."""

import io
import json
import os
import random
import sys
import time
import traceback
from pathlib import Path

from lit_gen.core.errors import LeaseLostError, UserError
from lit_gen.loggers.csv import MetricsCSV
from lit_gen.runs import lease
from support import forking
from support.forking import ended

DONE, REFUSED, LOST, BUG = 0, 2, 75, 70
ROWS = 24


def quick():
    """Leases that are renewed, stale and settled in less time; for the children of a test."""
    lease.RENEW, lease.STALE, lease.SETTLE, lease.LOOK = 0.3, 5.0, 1.5, 0.05


class SlowFiles:
    """Every operation on a lease takes a while before and after it acts; what is read may be as old as ``lag`` says.

    So is what a network file system shows, and it caches the times of files as well: here they never change.

    Args:
        draws: how long each takes.
        longest: most seconds before, and after.
        lag: seconds for which what was read is read again.
    """

    def __init__(self, draws, longest=0.08, lag=0.5):
        self.draws, self.longest, self.lag, self.seen, self.times = draws, longest, lag, {}, {}

    def install(self):
        """For the rest of this process."""
        for name in ("open", "replace", "unlink"):
            setattr(Path, name, self._slow(getattr(Path, name), name))
        original = Path.stat
        Path.stat = lambda path, **options: self.times.setdefault(path, original(path, **options))

    def _slow(self, original, name):
        def call(path, *arguments, **options):
            if not path.name.startswith(lease.LEASE):
                return original(path, *arguments, **options)
            reads = name == "open" and arguments == ("rb",)
            then, content = self.seen.get(path, (-self.lag, None))
            if name != "open" or arguments == ("xb",):
                self.seen.clear()  # of its own changes a process knows
            elif reads and time.monotonic() - then < self.lag:
                return io.BytesIO(content)
            time.sleep(self.draws.random() * self.longest)
            result = original(path, *arguments, **options)
            if reads:
                with result:
                    content = result.read()
                self.seen[path] = time.monotonic(), content
            time.sleep(self.draws.random() * self.longest)
            return io.BytesIO(content) if reads else result

        return call


def child(act, log=None):
    """Start ``act()`` in a forked child, which ends with the code that it returns; its number.

    What it says goes to the file ``log``, if there is one.
    """
    if pid := forking.fork():
        return pid
    code = BUG
    try:
        if log is not None:
            forking.speak_into(log, log)
        code = act() or DONE
    except BaseException:
        traceback.print_exc()
    finally:
        forking.leave(code)


def left_by_dead(run, **changes):
    """A lease whose owner was killed, as of another process where ``changes`` say so."""

    def act():
        lease._held = None
        lease.take(run)
        os._exit(9)

    ended(child(act))
    path = run / lease.LEASE
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def write_rows(run, seed, wait=0.0, take_over=False, rows=ROWS):
    """Take the run, and write the rows that it lacks; the exit code."""
    draws = random.Random(seed)
    SlowFiles(draws).install()
    time.sleep(wait + draws.random() / 2)
    try:
        lease.take(run, take_over)
        logger = MetricsCSV(str(run))
        for step in range(logger.rows + 1, rows + 1):
            time.sleep(0.05 + draws.random() / 5)
            logger.log_metrics({"x": float(os.getpid())}, step)
    except UserError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except LeaseLostError as error:
        print(error, file=sys.stderr)
        return LOST
    finally:
        lease.release()
    return DONE


def steps(run):
    """The steps of the rows."""
    return [int(line.split(",")[0]) for line in (run / "metrics.csv").read_text(encoding="utf-8").splitlines()[1:]]
