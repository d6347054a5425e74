"""What every rank says, and with which code it ends, when one fails: the rows of the table in docs/clusters.md."""

import csv
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from support.forked_ranks import FIT, LAUNCHERS, fault, run

from lit_gen.cli import entry
from lit_gen.cli.launch import parting
from lit_gen.runs import checkpoints, meeting
from lit_gen.runs.heartbeat import Behind, Watch

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork") or not Path("/proc/self/status").exists(), reason="forks, on Linux"),
    pytest.mark.timeout(120),
]
CONTINUE = r"the last step was 23; continue with: lit-gen fit --resume runs/r/one"
WHO = {"lightning": "rank 1 was killed by SIGKILL", "torchrun": "which one is not known", "srun": "which one is not"}
SHORT = "--stop.hang_after=3"


def codes(ends):
    return [end.code for end in ends.values()]


class Row(NamedTuple):
    """A row: what happens, the codes of the ranks, who speaks, and what; the most seconds after the fault."""

    happens: dict
    codes: tuple
    speaker: int
    says: str
    seconds: float = 20
    options: tuple = ()


MISTAKE = r"fault\.what: a mistake was found"
HANGS = r"rank {} hangs: the others have waited for 3 s \(stop\.hang_after\), rank {} is in fault\.py:\d+ \(.*\) after "
ROWS = {
    "a mistake before the first step": Row({"what": "mistake", "when": "setup", "at": 0}, (2, 2), 1, MISTAKE),
    "a mistake in a step": Row({"what": "mistake"}, (2, 2), 1, MISTAKE),
    "a mistake of rank 0": Row({"what": "mistake", "rank": 0}, (2, 2), 0, MISTAKE),
    "own code": Row({"what": "own"}, (2, 2), 1, r"fault\.py, line \d+, in Fault\..*: ZeroDivisionError: division by"),
    "killed": Row({"what": "kill"}, (4, -9), 0, r"another rank ended \(WHO.*\); " + CONTINUE),
    "rank 0 killed": Row({"what": "kill", "rank": 0}, (-9, 4), 1, r"another rank ended \(.*\); " + CONTINUE),
    "a bug": Row({"what": "bug"}, (4, 1), 0, r"another rank ended \(rank 1 met AttributeError: .*\); " + CONTINUE),
    "sleeps": Row({"what": "sleep"}, (4, 4), 0, HANGS.format(1, 1) + "step 23; " + CONTINUE, options=(SHORT,)),
    "stopped": Row({"what": "stop"}, (4, -9), 0, "rank 1 hangs: .*, rank 1 does not answer; " + CONTINUE, 20, (SHORT,)),
    "rank 0 sleeps": Row(
        {"what": "sleep", "rank": 0}, (4, 4), 0, HANGS.format(0, 0) + "step 23; " + CONTINUE, options=(SHORT,)
    ),
    "rank 0 stopped": Row(
        {"what": "stop", "rank": 0}, (-9, 4), 1, r"rank 0 hangs: it has not answered for \d s", 20, (SHORT,)
    ),
}
QUICK = {  # each row once, each launcher with several; test with -m slow for all
    "a mistake before the first step": "srun",
    "a mistake in a step": "torchrun",
    "a mistake of rank 0": "lightning",
    "own code": "torchrun",
    "killed": "lightning",
    "rank 0 killed": "lightning",
    "a bug": "srun",
    "sleeps": "srun",
    "stopped": "lightning",
    "rank 0 sleeps": "torchrun",
    "rank 0 stopped": "lightning",
}
EVERY = [
    pytest.param(name, launcher, marks=() if QUICK[name] == launcher else pytest.mark.slow)
    for name in ROWS
    for launcher in LAUNCHERS
]


@pytest.mark.parametrize(("name", "launcher"), EVERY)
def test_a_fault_of_one_rank(name, launcher):
    row = ROWS[name]
    ends = run(launcher, [*FIT, fault(**row.happens), *row.options], ends_stopped=True)
    print(f"ROW | {name} | {launcher} | {ends}")
    said = [line for end in ends.values() for line in end.said.splitlines() if line.startswith("error")]
    assert len(said) == 1, ends
    who = "" if row.speaker == 0 else r" \(rank 1 on .*\)"
    assert re.match(f"error{who}: " + row.says.replace("WHO", WHO[launcher]), said[0])
    assert said[0] in ends[row.speaker].said
    for rank, end in ends.items():
        assert end.code in (row.codes[rank], None), ends
        assert end.seconds < row.seconds
        assert ("Traceback" in end.said) == (name == "a bug" and rank == 1), end.said


@pytest.mark.parametrize(("stopped", "launcher"), [(0, "torchrun"), (1, "srun")])
def test_a_rank_that_stops_before_its_first_report_is_noticed(stopped, launcher):
    def prepare(rank):
        if rank == stopped:
            Watch.start = lambda watch: os.kill(os.getpid(), signal.SIGSTOP)

    ends = run(launcher, [*FIT, SHORT], prepare=prepare, ends_stopped=True)
    assert codes(ends) == ([-9, 4] if stopped == 0 else [4, -9]), ends
    assert re.match(rf"error( \(rank 1 on .*\))?: rank {stopped} hangs: .*answer", ends[1 - stopped].said)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_real_programs(launcher):
    """As above, without a fork: the first process's own exit code, and nothing else on its standard error."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"] if launcher == "torchrun" else []
    devices = [] if torchrun else ["--trainer.devices=2"]
    command = [sys.executable, *torchrun, "-m", "lit_gen", *FIT, *devices, fault("kill")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == (1 if torchrun else 4), done.stderr  # torchrun has one code for all
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1, done.stderr
    assert re.match(rf"error: another rank ended \({WHO[launcher]}.*\); {CONTINUE}", said[0])
    others = [line for line in done.stderr.splitlines() if line not in said and not line.startswith("has waited ")]
    assert torchrun or not others


def rows(run_dir):
    with (Path(run_dir) / "metrics.csv").open(encoding="utf-8") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_the_command_that_is_named_continues_the_run():
    ends = run("lightning", [*FIT, fault("kill")])
    (command,) = re.findall(r"continue with: lit-gen (.*)", ends[0].said)
    Path("fault").unlink()
    ends = run("lightning", [*command.split(), "--trainer.callbacks.Fault=false"])
    assert ends[0].code == 0, ends
    assert rows("runs/r/one") == list(range(5, 31, 5))


def test_all_ranks_are_there_and_none_hangs_while_rank_0_works_alone():
    happens = {"what": "sleep", "rank": 0, "when": "on_train_batch_end", "seconds": 6}
    ends = run("srun", [*FIT, fault(**happens), "--stop.hang_after=2"])
    assert codes(ends) == [0, 0], ends
    assert [end.said for end in ends.values()] == ["", ""]


@pytest.mark.slow
def test_a_job_that_was_suspended_as_a_whole_goes_on():
    def suspend():
        while not Path("fault").is_file():
            time.sleep(0.05)
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for rank in (0, 1):
                os.kill(int(Path(f"rank{rank}.pid").read_text(encoding="utf-8")), number)
            time.sleep(8)

    suspending = threading.Thread(target=suspend)
    suspending.start()
    ends = run("srun", [*FIT, fault("sleep", seconds=0.5), "--stop.hang_after=3"])
    suspending.join()
    assert codes(ends) == [0, 0], ends


@pytest.mark.parametrize("launcher", ["srun", pytest.param("torchrun", marks=pytest.mark.slow)])
def test_a_mistake_that_all_ranks_meet_is_said_once(launcher):
    ends = run(launcher, [*FIT, "--data.batch_size=0"])
    assert codes(ends) == [2, 2], ends
    assert ends[0].said.startswith("error: data.batch_size: 0 was found")
    assert ends[1].said == ""
    for rank in (0, 1):
        Path(f"rank{rank}.err").unlink()
    ends = run(launcher, [*FIT, "--trainer.num_nodes=3"])  # before they meet
    assert codes(ends) == [2, 2], ends
    assert ends[0].said.startswith("error: trainer.num_nodes: 3 was found, but ")
    assert ends[1].said == ""
    assert not list(Path().glob("runs/r/*"))


@pytest.mark.parametrize("launcher", ["srun", "torchrun"])
def test_a_mistake_of_one_rank_before_there_are_collectives(launcher):
    Path("own_mistake.py").write_text(
        "import os\nfrom lightning import Callback\nclass Own(Callback):\n    pass\n"
        "if '1' in (os.environ.get('RANK'), os.environ.get('SLURM_PROCID')):\n"
        "    raise ValueError('this node has no such file')\n",
        encoding="utf-8",
    )
    ends = run(launcher, [*FIT, "--trainer.callbacks+=own_mistake.Own"])
    assert codes(ends) == [2, 2], ends
    assert ends[0].said == ""
    assert re.match(r"error \(rank 1 on .*\): .*own_mistake.py, line 6: ValueError: this node has no", ends[1].said)
    assert not list(Path().glob("runs/r/*")), "nothing is written"


def test_a_rank_that_never_comes_is_waited_for_aloud_and_not_for_ever(monkeypatch):
    monkeypatch.setattr(meeting, "ANNOUNCE", 1.0)
    for name in ("PATIENCE", "FAREWELL"):  # it looks for the other one once more, to say what became of itself
        monkeypatch.setattr(parting, name, 0.5)
    ends = run("srun", [*FIT, "--stop.wait_for_ranks=3"], started=[0])
    assert ends[0].code == 4
    announced, error = ends[0].said.splitlines()
    assert announced == "has waited 1 s for rank 1 of 2 ranks, and gives up after 3 s"
    assert error == "error: rank 1 of 2 ranks did not appear within 3 s (stop.wait_for_ranks)"
    ends = run("srun", [*FIT, "--stop.wait_for_ranks=3"], started=[1])
    assert ends[1].code == 4
    assert re.search(r"rank 1 on .*\): rank 0 at 127\.0\.0\.1:\d+ did not appear within 3 s", ends[1].said)
    assert not list(Path().glob("runs/r/*"))


def test_a_rank_that_is_killed_before_it_appears_is_not_waited_for():
    def dies(rank):
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    ends = run("lightning", FIT, prepare=dies)
    assert ends[0].code == 4
    assert ends[0].said == "error: another rank ended (rank 1 was killed by SIGKILL); start the command again\n"
    assert not list(Path().glob("runs/r/*"))


def test_ranks_that_see_other_checkpoints_take_that_of_rank_0():
    assert codes(run("srun", [*FIT, "--trainer.max_steps=20"])) == [0, 0]

    def lags_behind(rank):
        if rank == 1:
            checkpoints.newest = lambda *arguments, **options: Path("runs/r/one/checkpoints/step=00000010.ckpt")

    resume = ["fit", "--resume=runs/r/one", "--trainer.max_steps=30"]
    ends = run("srun", resume, prepare=lags_behind)
    assert codes(ends) == [0, 0], ends
    assert rows("runs/r/one") == list(range(5, 31, 5))

    def does_not_see_it(rank):
        if rank == 1:
            exists = Path.exists
            Path.exists = lambda path: path.suffix != ".ckpt" and exists(path)

    ends = run("srun", [*resume[:-1], "--trainer.max_steps=40"], prepare=does_not_see_it)
    assert codes(ends) == [2, 2], ends
    assert ends[0].said == ""
    told = (
        r"error \(rank 1 on .*\): runs/r/one/checkpoints/step=00000030.ckpt, which rank 0 starts from, is not there on"
    )
    assert re.match(told, ends[1].said.splitlines()[-1])


def test_who_is_behind():
    behind = Behind(10)

    def look(now, *ranks):
        beats = {r: {"beat": b, "entered": e, "alone": a} for r, (b, e, a) in enumerate(ranks)}
        return behind.look(beats, now)

    assert look(0, (1, 5, False), (1, 5, False)) == []
    assert look(60, (2, 5, False), (2, 5, False)) == [], "all compute"
    assert look(61, (3, 6, False), (3, 5, False)) == [], "they wait since now"
    assert look(70, (4, 6, False), (4, 5, False)) == []
    assert look(72, (5, 6, False), (5, 5, False)) == [1]
    assert look(73, (6, 6, False), (6, 6, False)) == []
    assert look(90, (7, 6, True), (7, 7, False)) == []
    assert look(190, (8, 6, True), (8, 7, False)) == [], "only rank 0 works"
    assert look(191, (9, 6, False), (9, 7, False)) == []
    assert look(202, (10, 6, False), (10, 7, False)) == [0]
    assert look(203, (11, 7, False), (10, 7, False)) == []
    assert look(213, (12, 7, False), (10, 7, False)) == [1], "its thread does not answer"


def test_an_error_that_is_no_mistake_of_one_process_stays_a_traceback(monkeypatch):
    monkeypatch.setattr(entry, "_dispatch", None)  # a function of this file would be own code
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        entry.run(["fit"])
