"""How checkpoints are written: whole or not at all, with the cause of a failure, on request in a thread."""

import collections
import errno
import io
import itertools
import os
import resource
import signal
import threading
from pathlib import Path

import pytest
import torch

from lit_gen.core import files
from lit_gen.core.errors import UserError
from lit_gen.runs import signals
from lit_gen.runs.checkpoint_io import CheckpointFiles, snapshot


def content():
    weight = torch.arange(6.0).view(2, 3)
    state = collections.OrderedDict(w=weight, tied=weight)
    state._metadata = {"": {"version": 1}}
    return {"state_dict": state, "loops": {"steps": [1, (2, 3)]}, "name": "x"}


def names(folder):
    return [path.name for path in folder.iterdir()]


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_is_written_is_read(tmp_path, asynchronous):
    io, path = CheckpointFiles(asynchronous), tmp_path / "folder/step=1.ckpt"
    io.save_checkpoint(content(), path)
    io.teardown()
    assert equal(torch.load(path, weights_only=True), content())
    assert names(path.parent) == [path.name]
    other = tmp_path / "step=2.ckpt"
    CheckpointFiles().save_checkpoint(content(), other)
    assert other.read_bytes() == path.read_bytes(), "a file does not hold its own name"


def test_a_snapshot_is_untouched_by_training_and_keeps_what_is_shared():
    original = content()
    copied = snapshot(original)
    assert equal(copied, content())
    assert copied["state_dict"]["w"].data_ptr() == copied["state_dict"]["tied"].data_ptr()
    assert copied["state_dict"]._metadata == {"": {"version": 1}}
    original["state_dict"]["w"].zero_()
    original["loops"]["steps"].append(4)
    original["state_dict"]["new"] = 1
    assert equal(copied, content())


def test_training_goes_on_while_one_is_written_and_the_next_waits(tmp_path, monkeypatch):
    gate, written, saved = threading.Event(), [], torch.save

    def slow(checkpoint, file):
        assert gate.wait(10)
        saved(checkpoint, file)
        written.append(len(written))

    monkeypatch.setattr(torch, "save", slow)
    io, state, actions = CheckpointFiles(asynchronous=True), content(), []
    io.save_checkpoint(state, tmp_path / "1.ckpt")
    io.when_written(lambda: actions.append((tmp_path / "1.ckpt").is_file()))
    state["state_dict"]["w"].zero_()  # the next step
    assert not (tmp_path / "1.ckpt").exists()
    assert (written, actions) == ([], [])
    threading.Timer(0.2, gate.set).start()
    io.save_checkpoint(state, tmp_path / "2.ckpt")
    assert actions == [True]
    io.wait()
    assert written == [0, 1]
    assert equal(torch.load(tmp_path / "1.ckpt", weights_only=True), content())
    assert torch.load(tmp_path / "2.ckpt", weights_only=True)["state_dict"]["w"].abs().sum() == 0


def test_a_failure_in_the_thread_is_told_where_it_is_waited_for_and_runs_no_later_action(tmp_path, monkeypatch):
    """And not where the next is saved, or an old one removed: that is what one rank may do by itself."""
    io, done = CheckpointFiles(asynchronous=True), []
    with monkeypatch.context() as broken:
        broken.setattr(torch, "save", lambda *_: 1 / 0)
        io.save_checkpoint(content(), tmp_path / "1.ckpt")
        io._thread.join()
    io.when_written(lambda: done.append(1))
    io.remove_checkpoint(tmp_path / "0.ckpt")
    io.save_checkpoint(content(), tmp_path / "2.ckpt")
    with pytest.raises(
        UserError, match=r"1\.ckpt could not be written \(ZeroDivisionError: .*\); what was saved before is"
    ):
        io.wait()
    io.wait()
    assert (names(tmp_path), done) == (["2.ckpt"], [])


@pytest.mark.parametrize("raised", [signals.Interrupted(), KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("write", [1, 2, 6, 7])
def test_what_ends_a_write_arrives_as_it_is(tmp_path, monkeypatch, raised, write):
    """Torch closes its archive on the way out and reports what it finds there as an error of its own."""
    calls, opened = itertools.count(1), Path.open

    class File(io.BytesIO):
        def write(self, data):
            if next(calls) == write:
                raise raised
            return super().write(data)

    monkeypatch.setattr(Path, "open", lambda path, mode: opened(path, mode) and File())
    with pytest.raises(type(raised)):
        CheckpointFiles().save_checkpoint(content(), tmp_path / "1.ckpt")
    assert names(tmp_path) == []


def test_an_error_that_is_being_handled_is_no_reason_of_a_later_one(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "save", lambda *_: 1 / 0)
    try:
        raise OSError(5, "what the save is the answer to")
    except OSError:
        with pytest.raises(UserError, match="ZeroDivisionError"):
            CheckpointFiles().save_checkpoint(content(), tmp_path / "1.ckpt")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_cannot_be_kept_is_told_when_it_is_saved(tmp_path, asynchronous):
    io = CheckpointFiles(asynchronous)
    for state, reason in (
        (
            {"callbacks": {"Mine": [1, threading.Lock()]}},
            r" could not be written \(no checkpoint can hold callbacks\.Mine\.1, a _thread\.lock",
        ),
        (
            {"state": Path("x")},
            r" could not be written \(no checkpoint can hold state, a pathlib\.PosixPath; numbers, strings",
        ),
        (
            {"hyper_parameters": {"weights": list(range(200_001))}},
            r" could not be written \(.*more than 200,000 values",
        ),
    ):
        with pytest.raises(UserError, match=rf"1\.ckpt{reason}"):
            io.save_checkpoint(state, tmp_path / "1.ckpt")
    assert names(tmp_path) == []


@pytest.fixture
def small_files():
    """No file of this process can grow beyond 100 kB."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_failure_names_the_file_and_leaves_the_old_one(tmp_path, small_files, asynchronous):
    io, path = CheckpointFiles(asynchronous), tmp_path / "a.ckpt"
    io.save_checkpoint(content(), path)
    io.wait()
    before = path.read_bytes()
    with pytest.raises(OSError, match=r"a\.ckpt") as caught:
        (io.save_checkpoint({"w": torch.zeros(100_000)}, path), io.wait())
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert path.read_bytes() == before
    assert names(tmp_path) == ["a.ckpt"]
    io.wait()  # said once
    io.save_checkpoint(content(), path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.ESTALE, errno.EDQUOT])
@pytest.mark.parametrize("where", ["write", "flush"])
def test_whatever_fails_is_named(tmp_path, monkeypatch, number, where):
    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    if where == "write":
        monkeypatch.setattr(torch, "save", fail)
    else:
        monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match=r"a\.ckpt") as caught:
        CheckpointFiles().save_checkpoint(content(), tmp_path / "a.ckpt")
    assert caught.value.errno == number
    assert names(tmp_path) == []


def test_what_is_no_checkpoint_is_not_removed(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "sharded.ckpt").mkdir()
    for path in (tmp_path / "thesis", tmp_path / "sharded.ckpt/../thesis", "memory://thesis.ckpt"):
        with pytest.raises(UserError, match=r"thesis.* is no checkpoint, and was not removed"):
            CheckpointFiles().remove_checkpoint(path)
    CheckpointFiles().remove_checkpoint(tmp_path / "sharded.ckpt")
    assert names(tmp_path) == ["thesis"]
