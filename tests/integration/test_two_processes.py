"""Two command lines on one run, by every pair of verbs: the second is refused, or reads, or takes the run over.

The command lines run in children that are forked from this process, so that each costs a second.
"""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from support import kills, leases
from support.cli import TINY
from support.leases import DONE, LOST, REFUSED

from lit_gen.cli import entry
from lit_gen.data.images import mnist
from lit_gen.runs import directory, lease

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")

SLOW = """
import time
from lit_gen.models.adversarial.losses import hinge
def loss(real, fake):
    time.sleep(0.01)
    return hinge(real, fake)
"""
STEPS, LONG = 40, 4000
OWN = ("--model.loss=own_slow.loss", "--checkpoint.every=10", "--checkpoint.keep=0", "--run_name=r")
HELD = r"error: \S+ belongs to another process, pid \d+ on \S+, since .*, which still runs; stop it or wait for"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    Path("own_slow.py").write_text(SLOW, encoding="utf-8")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    for name in ("RENEW", "STALE", "SETTLE", "LOOK"):
        monkeypatch.setattr(lease, name, getattr(lease, name))  # given back
    leases.quick()
    mnist.embedded_digits()  # for all children
    yield
    for pid in RUNNING:  # a test has failed
        os.kill(pid, signal.SIGKILL)
        leases.ended(pid)
    RUNNING.clear()


RUNNING = set()


def command(*arguments, log):
    """Start a command line; what it says is in the file ``log``."""
    pid = leases.child(lambda: entry.run([str(a) for a in arguments]), Path(log))
    RUNNING.add(pid)
    return pid


def ended(pid):
    """How it ended."""
    RUNNING.discard(pid)
    return leases.ended(pid)


def fit(identifier, *options, steps=STEPS, log):
    start = ("fit", *TINY, *OWN, "--trainer.accelerator=cpu", f"--run_id={identifier}")
    return command(*start, f"--trainer.max_steps={steps}", *options, log=log)


def resume(identifier, *options, steps=STEPS, log):
    return command("fit", "--resume", f"runs/r/{identifier}", f"--trainer.max_steps={steps}", *options, log=log)


def said(log):
    return Path(log).read_text(encoding="utf-8")


def refused(log):
    """One sentence, and nothing else."""
    return re.match(HELD, said(log)) is not None and said(log).count("\n") == 1


def until_saved(identifier):
    """Wait until the run has a checkpoint, and rows after it."""
    run, deadline = Path(f"runs/r/{identifier}"), time.monotonic() + 60
    while not directory.checkpoints(run) or len(leases.steps(run)) < 8:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def content(identifier):
    """What the run left, but for what belongs to its starts."""
    found = kills.content(Path(f"runs/r/{identifier}").resolve())
    return {name: value for name, value in found.items() if not re.match(r"(run|config).*\.yaml", name)}


@pytest.fixture
def undisturbed():
    assert ended(fit("whole", log="whole")) == DONE, said("whole")
    expected = content("whole")
    assert set(expected) >= {"metrics.csv", f"checkpoints/step={STEPS:08d}.ckpt"}
    return expected


def test_beside_a_run_in_training():
    owner = fit("one", steps=LONG, log="owner")
    until_saved("one")
    others = {
        "fit": fit("one", log="fit"),
        "resume": resume("one", log="resume"),
        "sample": command("sample", "runs/r/one", "--n=4", "--out=four.png", log="sample"),
        "validate": command("validate", "--ckpt_path=runs/r/one", log="validate"),
    }
    codes = {name: ended(pid) for name, pid in others.items()}
    assert codes == {"fit": REFUSED, "resume": REFUSED, "sample": DONE, "validate": DONE}, said("sample")
    assert "already holds a run; --resume it, or choose another --run_id" in said("fit")
    assert refused("resume"), said("resume")
    assert f"pid {owner} on " in said("resume")

    last = leases.steps(Path("runs/r/one"))[-1] + 200
    over = resume("one", "--take_over", steps=last, log="over")
    assert ended(owner) == LOST, said("owner")
    assert ended(over) == DONE, said("over")
    assert re.search(
        rf"error: runs/r/one was taken over by pid {over} on .*; this process ends, and what it saved is whole\n$",
        said("owner"),
    ), said("owner")
    assert f"note: runs/r/one was taken over from pid {owner} on " in said("over")
    assert "Traceback" not in said("owner")
    assert leases.steps(Path("runs/r/one")) == list(range(2, last + 1, 2))


def test_two_that_begin_or_continue_a_run_at_once(undisturbed):
    begin = [fit("one", log=f"begin{n}") for n in range(2)]
    assert sorted(ended(pid) for pid in begin) == [DONE, REFUSED], said("begin0") + said("begin1")
    assert kills.differences(undisturbed, content("one")) == []

    killed = fit("two", log="killed")
    until_saved("two")
    os.kill(killed, signal.SIGKILL)
    assert ended(killed) == -signal.SIGKILL
    assert Path("runs/r/two/lease").is_file()
    again = [resume("two", log=f"again{n}") for n in range(2)]
    codes = [ended(pid) for pid in again]
    told = said("again0") + said("again1")
    assert sorted(codes) in ([DONE, REFUSED], [DONE, LOST]), told
    assert f"was taken over from pid {killed} on " in told
    assert kills.differences(undisturbed, content("two")) == []


def test_a_mistake_and_ctrl_c_leave_no_lease():
    wrong = fit("one", "--data.binarize=often", log="wrong")
    assert ended(wrong) == REFUSED
    assert not list(Path("runs").rglob("*")), said("wrong")
    stopped = fit("one", steps=LONG, log="stopped")
    until_saved("one")
    os.kill(stopped, signal.SIGINT)
    assert ended(stopped) == LOST  # the same code: to be continued
    assert not Path("runs/r/one/lease").exists()
    stuck = resume("one", steps=LONG, log="stuck")
    while not Path("runs/r/one/lease").is_file():
        time.sleep(0.01)
    time.sleep(1)
    os.kill(stuck, signal.SIGINT)
    ends = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while "finishing the step" not in said("stuck") and os.waitid(os.P_PID, stuck, ends) is None:
        time.sleep(0.001)  # two at once would be one
    os.kill(stuck, signal.SIGINT)
    assert ended(stuck) in (130, LOST), said("stuck")  # unless the step was through first
    assert not Path("runs/r/one/lease").exists()
