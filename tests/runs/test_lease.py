"""A run directory belongs to one process: whoever else wants it is refused or waits, and no row is written twice."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from support import leases
from support.leases import DONE, LOST, REFUSED, child, ended, left_by_dead, steps, write_rows

from lit_gen.core import files
from lit_gen.core.errors import LeaseLostError, UserError
from lit_gen.loggers.csv import MetricsCSV
from lit_gen.runs import directory, lease, owner
from lit_gen.runs.checkpoint_io import CheckpointFiles

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    for name, value in (("RENEW", 0.2), ("STALE", 1.5), ("SETTLE", 0.1), ("LOOK", 0.02)):
        monkeypatch.setattr(lease, name, value)
    yield
    lease.release()


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    return path


def seconds(act):
    began = time.monotonic()
    act()
    return time.monotonic() - began


# ---- two processes


def both_fit(run, seed):
    return [child(lambda n=n: write_rows(run, seed + n)) for n in range(2)]


def fit_and_resume(run, seed):
    return [child(lambda n=n: write_rows(run, seed + n, wait=n * 0.7)) for n in range(2)]


def both_resume_after_a_kill(run, seed):
    left_by_dead(run)
    return both_fit(run, seed)


def both_resume_after_a_machine_died(run, seed):
    left_by_dead(run, host="elsewhere")
    return both_fit(run, seed)


def take_over(run, seed):
    return [child(lambda n=n: write_rows(run, seed + n, wait=n * 0.7, take_over=n == 1)) for n in range(2)]


PAIRS = {
    both_fit: {(DONE, REFUSED)},
    fit_and_resume: {(DONE, REFUSED)},
    both_resume_after_a_kill: {(DONE, REFUSED), (DONE, LOST)},  # lost: the other was late to rename what was there
    both_resume_after_a_machine_died: {(DONE, REFUSED), (DONE, LOST)},
    take_over: {(DONE, LOST)},
}


@pytest.mark.timeout(280)
@pytest.mark.parametrize("attempts", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_no_row_is_written_twice(attempts, tmp_path, monkeypatch, capfd):
    """Of 5 pairs, at random moments, on slow files; 100 attempts where 20 are made of each."""
    for name in ("RENEW", "STALE", "SETTLE", "LOOK"):
        monkeypatch.setattr(lease, name, getattr(lease, name))  # given back
    leases.quick()
    for wave in range(0, attempts, 4):
        begun = {}
        for pair in PAIRS:
            for number in range(wave, wave + 4):
                run = tmp_path / f"{pair.__name__}-{number}"
                run.mkdir()
                begun[run] = pair, pair(run, seed=1000 * number)
        for run, (pair, pids) in begun.items():
            codes = tuple(sorted(ended(pid) for pid in pids))
            assert codes in PAIRS[pair], (run.name, capfd.readouterr().err)
            assert steps(run) == list(range(1, leases.ROWS + 1)), run.name
            assert sorted(p.name for p in run.iterdir()) == ["metrics.csv"]


def test_a_process_that_was_frozen_longer_than_its_lease_writes_no_more(run, capfd):
    first = child(lambda: write_rows(run, 1, rows=1000))
    while not (run / "metrics.csv").is_file() or len(steps(run)) < 2:
        time.sleep(0.02)
    os.kill(first, signal.SIGSTOP)
    there = len(steps(run))
    assert write_in_child(run, there + 3) == DONE
    os.kill(first, signal.SIGCONT)
    assert ended(first) == LOST
    assert steps(run) == list(range(1, there + 4))
    err = capfd.readouterr().err
    assert "it showed no sign of life for 2 s" in err
    assert f"{run}/lease is gone, so that this process may not write to the run any more" in err


def write_in_child(run, rows):
    return ended(child(lambda: write_rows(run, 2, rows=rows)))


# ---- who is refused, who waits, who takes over


def test_the_refusal_says_who_and_what_to_do(run):
    lease.take(run)
    there = (run / "lease").read_bytes()

    def act():
        lease._held = None
        with pytest.raises(UserError) as refused:
            lease.take(run)
        found = re.fullmatch(
            r"(\S+) belongs to another process, pid (\d+) on (\S+), since [\d-]+ [\d:]+ [+-]\d+, which still runs; "
            r"stop it or wait for its end, or take the run from it with --take_over",
            str(refused.value),
        )
        assert found, refused.value
        assert (found[1], int(found[2]), found[3]) == (str(run), os.getppid(), os.uname().nodename)

    assert ended(child(act)) == DONE
    assert owner.nonce((run / "lease").read_bytes()) == owner.nonce(there)
    lease.confirm()


HERE = "at once, and it is settled"
CASES = {
    "killed": ({}, HERE),
    "its number is another process's": ({"pid": os.getpid(), "started": 1}, HERE),
    "another machine": ({"host": "elsewhere"}, "stale"),
    "another boot": ({"boot": "x"}, "stale"),
    "another container": ({"pids": 1}, "stale"),
    "a system without containers": ({"pids": None}, "stale"),
    "this process's number in a lease that does not say since when": ({"pid": os.getpid(), "started": None}, "stale"),
    "the job was requeued": ({"host": "elsewhere", "job": "7 of c", "restarts": 1}, HERE),
    "the job as it is": ({"host": "elsewhere", "job": "7 of c", "restarts": 2}, "stale"),
    "another cluster": ({"host": "elsewhere", "job": "7 of d", "restarts": 1}, "stale"),
    "another job": ({"host": "elsewhere", "job": "8 of c", "restarts": 1}, "stale"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="what has ended is known on Linux")
def test_who_has_ended_is_replaced_at_once_and_others_after_a_while(tmp_path, monkeypatch, capfd):
    for name, value in (("JOB_ID", "7"), ("CLUSTER_NAME", "c"), ("RESTART_COUNT", "2")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    children = {}
    for name, (changes, _) in CASES.items():
        run = tmp_path / name
        run.mkdir()
        left_by_dead(run, **{"job": None, **changes})
        children[name] = child(lambda run=run: min(120, round(10 * seconds(lambda: lease.take(run)))))
    took = {name: ended(pid) / 10 for name, pid in children.items()}
    for name, (_, expected) in CASES.items():
        assert (0.1 <= took[name] < 1.4) if expected == HERE else (took[name] >= 1.5), (name, took)
    err = capfd.readouterr().err
    assert err.count(" (that process has ended)\n") == 2
    assert err.count(" (SLURM has put its job back into the queue since)\n") == 1
    assert err.count(" (it showed no sign of life for 2 s)\n") == len(CASES) - 3


def test_a_process_that_nobody_has_waited_for_has_ended(run):
    pid = child(lambda: lease.take(run))
    time.sleep(0.1)
    while owner._started(pid) != -1:
        time.sleep(0.01)
    assert seconds(lambda: lease.take(run)) < 1.4
    assert ended(pid) == DONE


NONE = {
    "empty": b"",
    "cut off": b"{",
    "a list": b"[]",
    "no text": b"\xff",
    "hostile": b'{"nonce": "../x", "pid": "\\u001b[2J"}',
}


@pytest.mark.parametrize("content", NONE.values(), ids=NONE)
def test_what_is_no_lease_is_waited_for_and_removed(run, content, capfd):
    (run / "lease").write_bytes(content)
    assert seconds(lambda: lease.take(run)) > 1.5
    assert [p.name for p in run.iterdir()] == ["lease"]
    assert "\x1b" not in capfd.readouterr().err
    lease.release()
    (run / "lease").write_bytes(content)
    assert seconds(lambda: lease.take(run, take_over=True)) < 1.4


def test_a_reader_that_was_frozen_along_with_the_owner_does_not_count_that_time(run, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(lease.time, "monotonic", lambda: now[0])
    watch = lease._Watch(run)
    assert not watch.stale(b"a")
    now[0] += 1000
    assert not watch.stale(b"a")
    for _ in range(int(lease.STALE / lease.LOOK)):
        now[0] += lease.LOOK
        last = watch.stale(b"a")
    assert last


def test_an_interrupted_wait_leaves_the_owners_lease(run):
    left_by_dead(run, host="elsewhere")
    there = (run / "lease").read_bytes()

    def act():
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            lease.take(run)

    assert ended(child(act)) == DONE
    assert (run / "lease").read_bytes() == there


def test_other_ranks_take_none(run, monkeypatch):
    for name in ("LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK"):
        monkeypatch.setenv(name, "1")
        lease.take(run)
        assert not list(run.iterdir())
        monkeypatch.delenv(name)
    monkeypatch.setenv("RANK", "0")  # of torchrun, which deals the nodes out as they come
    monkeypatch.setenv("NODE_RANK", "1")
    lease.take(run)
    assert [p.name for p in run.iterdir()] == ["lease"]


# ---- the owner


def test_the_owner_renews_it_and_removes_it(run):
    lease.take(run)
    before = json.loads((run / "lease").read_bytes())
    time.sleep(0.7)
    after = json.loads((run / "lease").read_bytes())
    assert after.pop("counter") > before.pop("counter") == 0
    assert before == after
    assert before["pid"] == os.getpid()
    lease.release()
    assert not list(run.iterdir())
    assert "lease" not in {thread.name for thread in threading.enumerate()}


def test_a_run_that_was_moved_cannot_be_continued_where_it_was(run):
    lease.take(run)
    logger = MetricsCSV(str(run))
    logger.log_metrics({"x": 1.0}, 1)
    run.rename(run.with_name("moved"))
    with pytest.raises(LeaseLostError, match=r"was removed or moved, so that this process cannot write to the run"):
        logger.log_metrics({"x": 2.0}, 2)
    run.with_name("moved").rename(run)
    lease.release()


@pytest.mark.parametrize("successor", [True, False])
def test_who_has_lost_it_writes_neither_row_nor_file(run, successor):
    lease.take(run)
    logger = MetricsCSV(str(run))
    logger.log_metrics({"x": 1.0}, 1)
    files.write_whole(run / "f", "before")
    (run / "lease").unlink()
    if successor:
        left_by_dead(run, host="elsewhere", pid=5, since="2026-01-31 12:00:00 +0000")
    sentence = (
        f"{run} was taken over by pid 5 on elsewhere, since 2026-01-31 12:00:00 +0000; this process ends, and what it "
        f"saved is whole"
        if successor
        else f"{run}/lease is gone, so that this process may not write to the run any more; what it saved is whole; "
        f"continue with: lit-gen fit --resume {run}"
    )
    for act in (
        lambda: logger.log_metrics({"x": 2.0}, 2),
        lambda: logger.log_metrics({"y": 2.0}, 2),
        lambda: files.write_whole(run / "f", "after"),
        lambda: files.set_aside(run / "f", ".damaged"),
        lambda: CheckpointFiles().save_checkpoint({"x": torch.ones(2)}, run / "f"),
        lambda: save_in_thread({"x": torch.ones(2)}, run / "f"),
    ):
        with pytest.raises(LeaseLostError) as lost:
            act()
        assert str(lost.value) == sentence
    assert steps(run) == [1]
    assert (run / "f").read_text(encoding="utf-8") == "before"
    lease.release()
    assert sorted(p.name for p in run.iterdir()) == ["f", *["lease"] * successor, "metrics.csv"]


def save_in_thread(content, path):
    written = CheckpointFiles(asynchronous=True)
    written.save_checkpoint(content, path)
    written.wait()


class Items(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        lease.release()  # as if the worker ended with the owner's code
        return index


def test_processes_that_the_owner_forks_leave_it(run):
    lease.take(run)
    loader = torch.utils.data.DataLoader(Items(), num_workers=2, multiprocessing_context="fork")
    assert len(list(loader)) == 4
    lease.confirm()
    time.sleep(0.5)
    assert json.loads((run / "lease").read_bytes())["counter"] >= 1


def test_the_lease_does_not_keep_a_process_alive(run):
    """Nor does one that ends without a word remove it."""
    program = f"from pathlib import Path\nfrom lit_gen.runs import lease\nlease.take(Path({str(run)!r}))"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
    assert seconds(lambda: lease.take(run)) < 1.4


def test_a_disk_that_takes_no_lease_is_named_and_nothing_is_left(run):
    def act():
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        with pytest.raises(OSError, match="lease"):
            lease.take(run)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 10))
        with pytest.raises(OSError, match="lease"):
            lease.take(run)

    assert ended(child(act)) == DONE
    assert not list(run.iterdir())


def test_a_lease_that_cannot_be_renewed_is_said_once_and_kept(run, capfd):
    lease.take(run)
    os.truncate(run / "lease", 0)
    (run / "lease").unlink()
    content = lease._held._content()
    (run / "lease").mkdir()
    time.sleep(0.7)
    (run / "lease").rmdir()
    (run / "lease").write_bytes(content)
    time.sleep(0.5)
    assert capfd.readouterr().err.count("/lease cannot be renewed (Is a directory)") == 1
    lease.confirm()
    assert json.loads((run / "lease").read_bytes())["counter"] > json.loads(content)["counter"]


def test_a_run_that_another_process_has_made_meanwhile_is_refused(run):
    def act():
        lease.RENEW = 100
        lease.take(run)
        time.sleep(0.3)
        (run / "config.yaml").touch()
        lease.release()

    other = child(act)
    while not (run / "lease").is_file():
        time.sleep(0.01)
    with pytest.raises(UserError, match="already holds a run"):
        directory.create(run.parent.parent, run.parent.name, run.name)
    assert ended(other) == DONE


def test_a_directory_that_is_gone(run):
    with pytest.raises(UserError, match="was removed by the process that held it"):
        lease.take(run / "gone")


@pytest.mark.parametrize("kind", ["a link to nothing", "a folder", "a pipe"])
def test_what_is_no_file_is_refused(run, kind):
    path = run / "lease"
    if kind == "a link to nothing":
        path.symlink_to("gone")
    elif kind == "a folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(UserError, match="lease is a link, a folder or a device; move it away"):
        lease.take(run)
    assert os.path.lexists(path)


def test_what_was_left_of_a_take_over_is_removed(run):
    (run / "lease.0123456789abcdef").touch()
    lease.take(run)
    assert [path.name for path in run.iterdir()] == ["lease"]
