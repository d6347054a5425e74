"""Kill runs at random moments, resume them, and compare every file with the undisturbed run's: a table.

    python benchmarks/kills.py --kills 6 --seed 0
    python benchmarks/kills.py --configs --kills 2 --seed 0

A tiny run of each family (tests/support/killed.py), with EarlyStopping and ModelCheckpoint, on one and on two ranks,
meets SIGKILL or SIGTERM again and again: as many times as asked for each family, signal and world size. The moments are
uniform over the time that the undisturbed run takes, from the first checkpoint on. A signal goes to all ranks or to
one; what is then left of the ranks is ended as a launcher does. Half of the runs write their checkpoints in a thread.

With ``--configs`` the runs are those of the shipped configs under smoke.yaml, by the command line, on one rank; those
whose data are not there are listed. Left out of the comparison is what each start adds: to run.yaml, an
uncommitted.diff, and TensorBoard's files.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import killed, kills

from lit_gen.callbacks.stop import Stop
from lit_gen.cli import entry
from lit_gen.cli.config import files as configs
from lit_gen.data.images import mnist
from lit_gen.runs import directory

STOPPED, PATIENCE = 75, 8.0  # seconds that the others may take after one rank was killed
IN_A_ROW = 3  # a run meets at most so many signals, then ends by itself


class Case(NamedTuple):
    """What is run and how it is ended."""

    family: str
    world: int
    signal: signal.Signals


class Counts:
    """What came of a case."""

    def __init__(self) -> None:
        self.runs = self.ended = self.saved = self.compared = 0
        self.different: list[str] = []


def act(case: Case, folder: Path, resume: bool, asynchronous: bool) -> None:
    """One process of a run; exits with 75 where a signal stopped it between two steps."""
    if case.family.endswith(".yaml"):
        resume = resume and bool(directory.checkpoints(folder))
        new = ["--config", case.family, "--config", "smoke.yaml", *smaller(case.family)]
        new += [f"--run_root={folder.parents[1]}", f"--run_name={folder.parent.name}", f"--run_id={folder.name}"]
        raise SystemExit(entry.run(["fit", *(["--resume", str(folder)] if resume else new)]))
    ranks = {"devices": case.world, "strategy": "ddp"} if case.world > 1 else {}
    stop = Stop()
    killed.train(case.family, folder, resume, [stop], asynchronous=asynchronous, **ranks)
    if stop.stopped:
        raise SystemExit(STOPPED)


def smaller(config: str) -> list[str]:
    """Options that let a config of a large network pass on a CPU."""
    if config.startswith("gpt2_"):
        return ["--data.block_size=64", "--trainer.precision=32-true", "--model.compiled=false"]
    if config == "gpt_shakespeare.yaml":
        return ["--trainer.precision=32-true", "--model.compiled=false"]
    return []


def content(folder: Path) -> dict[str, Any]:
    """What is compared of a run's folder."""
    found: dict[str, Any] = kills.content(folder)
    return {k: v for k, v in found.items() if not k.startswith(("run.yaml", "lease", "uncommitted", "tensorboard"))}


def start(case: Case, folder: Path, log: Path, resume: bool = False, asynchronous: bool = False) -> list[int]:
    """The ids of the run's processes."""
    process = partial(act, case, folder, resume, asynchronous)
    return kills.start_ranks(process, log, case.world) if case.world > 1 else [kills.start(process, log)]


def wait(children: list[int], until: float | None = None) -> dict[int, int]:
    """The exit codes of those that end until then, by id; of all where no time is given."""
    codes: dict[int, int] = {}
    while len(codes) < len(children) and (until is None or time.monotonic() < until):
        for child in (c for c in children if c not in codes):
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                codes[child] = os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return codes


def run_and_end(case: Case, folder: Path, log: Path, draws: random.Random, seconds: float, counts: Counts) -> None:
    """One run that is ended several times, then comes to its own end."""
    asynchronous, resume = draws.random() < 0.5, False
    for _ in range(IN_A_ROW):
        children = start(case, folder, log, resume, asynchronous)
        codes = wait(children, when_saved(folder, children) + draws.uniform(0, seconds))
        left = [child for child in children if child not in codes]
        if not left:
            assert set(codes.values()) == {0}, log.read_text(encoding="utf-8")
            return
        for child in left if draws.random() < 0.5 else [draws.choice(left)]:
            os.kill(child, case.signal)
        late = wait(left, time.monotonic() + PATIENCE)
        for child in (c for c in left if c not in late):
            os.kill(child, signal.SIGKILL)
            late |= wait([child])
        expected = {STOPPED, -case.signal, 0} if case.world == 1 else set(late.values())  # a single rank may fail
        assert set(late.values()) <= expected, log.read_text(encoding="utf-8")
        resume = True
        if set(late.values()) != {0}:
            counts.ended += 1
            counts.saved += set(late.values()) == {STOPPED}
    codes = wait(start(case, folder, log, resume, asynchronous))
    assert set(codes.values()) == {0}, log.read_text(encoding="utf-8")


def undisturbed(case: Case, folder: Path, log: Path) -> float:
    """Run once without a signal; the seconds from the first checkpoint to the end."""
    children = start(case, folder, log)
    began = when_saved(folder, children)
    codes = wait(children)
    assert set(codes.values()) == {0}, log.read_text(encoding="utf-8")
    return time.monotonic() - began


def when_saved(folder: Path, children: list[int]) -> float:
    """The time when there is a checkpoint, or none of the processes is left to write one."""
    began = time.monotonic()
    while not directory.checkpoints(folder) and not all(map(has_ended, children)):
        assert time.monotonic() - began < 200, f"{folder}: no checkpoint"
        time.sleep(0.002)
    return time.monotonic()


def has_ended(child: int) -> bool:
    """Whether a child has ended; its exit code is left for `wait`."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def measure(case: Case, number: int, draws: random.Random, whole: Path, seconds: float) -> Counts:
    """End runs until there were so many ends, and compare each with the undisturbed one."""
    counts, run, log = Counts(), whole.with_name("run"), whole.with_name("log")
    expected = content(whole)
    while counts.ended < number:
        run_and_end(case, run, log, draws, seconds, counts)
        found = content(run)
        counts.runs += 1
        counts.compared += len(expected.keys() | found.keys())
        for difference in kills.differences(expected, found):
            counts.different.append(difference)
            print(f"{case}: {difference[:300]}", file=sys.stderr, flush=True)
        shutil.rmtree(run)
        log.unlink()
    return counts


def main() -> None:
    """Print a row for each case, and exit with 1 if a file differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=6, help="for each family, signal and world size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--configs", action="store_true", help="of the shipped configs, in place of the families")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    mnist.embedded_digits()  # for all children
    total, different = 0, 0
    print("| family | ranks | signal | ended | of these saved at once | runs | files compared | that differ |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        shipped = configs.shipped().items()
        complete = sorted(n for n, path in shipped if not path.read_text(encoding="utf-8").startswith("# Overlay"))
        names = complete if given.configs else killed.FAMILIES
        for family in names:
            for world in (1,) if given.configs else (1, 2):
                whole = Path(folder) / f"{family}-{world}" / "runs" / "whole"
                whole.parent.mkdir(parents=True)
                log = whole.with_suffix(".log")
                try:
                    seconds = undisturbed(Case(family, world, signal.SIGKILL), whole, log)
                except AssertionError:
                    if not given.configs:
                        raise
                    print(f"| {family} | {log.read_text(encoding='utf-8').strip().splitlines()[-1]} |", flush=True)
                    continue
                for name in (signal.SIGKILL,) if given.configs else (signal.SIGKILL, signal.SIGTERM):
                    case = Case(family, world, name)
                    draws = random.Random(f"{given.seed} {family} {world} {name.name}")
                    found = measure(case, given.kills, draws, whole, seconds)
                    total, different = total + found.ended, different + len(found.different)
                    cells = (found.ended, found.saved, found.runs, found.compared, len(found.different))
                    print(f"| {family} | {world} | {name.name} | {' | '.join(map(str, cells))} |", flush=True)
    print(f"\n{total} ends, {different} differences")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
