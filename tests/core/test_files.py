"""Files whole or not at all, whatever goes wrong."""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lit_gen.core.errors import UserError
from lit_gen.core.files import sweep, whole, write_first, write_whole

WRITER = """
import sys
from pathlib import Path
from lit_gen.core.files import write_whole
for _ in range(20):
    write_whole(Path(sys.argv[1]), sys.argv[2] * 100_000)
"""


def test_a_pipe_or_device_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: a device or a pipe was found, a file is expected"):
        write_whole(tmp_path / "pipe", "text")
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]
    assert (tmp_path / "pipe").is_fifo()


@pytest.fixture
def path(tmp_path):
    """A file with something older in it, alone in its folder."""
    path = tmp_path / "folder" / "file.json"
    path.parent.mkdir()
    path.write_bytes(b"older")
    return path


def assert_untouched(path):
    assert path.read_bytes() == b"older"
    assert list(path.parent.iterdir()) == [path]


def test_bytes_and_text_arrive_as_they_are_in_a_new_folder(tmp_path):
    path = tmp_path / "new" / "er" / "file.bin"
    write_whole(path, b"\x00\r\n\xff")
    assert path.read_bytes() == b"\x00\r\n\xff"
    write_whole(path, "é\n")
    assert path.read_bytes() == b"\xc3\xa9\n"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="needs a umask")
def test_permissions_are_those_of_any_new_file(path):
    before = os.umask(0o027)
    try:
        write_whole(path, b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_the_temporary_name_is_hidden_random_and_of_the_same_folder(path):
    names = set()
    for suffix in ("", ".tar.gz"):
        with whole(path, suffix) as partial:
            names.add(partial)
            partial.touch()
        assert partial.parent == path.parent
        assert partial.name.startswith(".file.json.")
        assert partial.name.endswith(f".partial{suffix}")
    with whole(path) as first, whole(path) as second:
        assert first != second
        first.touch()
        second.touch()
    longest = path.with_name("é" * 127)  # 254 bytes
    write_whole(longest, b"")
    assert longest.is_file()


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ValueError("x"), id="a bug"),
        pytest.param(KeyboardInterrupt(), id="Ctrl-C"),
        pytest.param(OSError(errno.ENOSPC, "No space left"), id="a full disk"),
    ],
)
def test_a_writer_that_fails_leaves_the_older_file_alone(path, error):
    def write():
        with whole(path) as partial:
            partial.write_bytes(b"half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert_untouched(path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_without_room_at_the_flush_leaves_no_trace_and_names_the_file(path, monkeypatch, number):
    def full(descriptor):
        raise OSError(number, "No room")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No room") as raised:
        write_whole(path, b"newer")
    assert raised.value.filename == str(path)
    assert_untouched(path)


def test_errors_about_something_else_are_passed_on(path):
    with pytest.raises(FileNotFoundError) as raised, whole(path):
        Path("nowhere").read_bytes()
    assert raised.value.filename == "nowhere"
    with pytest.raises(FileNotFoundError) as raised, whole(path):
        pass  # nothing was written
    assert raised.value.filename == str(path)
    assert_untouched(path)


def record(monkeypatch, path):
    """What happens to ``path``, in order: flushes with their kind, and the renaming."""
    events, fsync, replace = [], os.fsync, Path.replace

    def flushed(descriptor):
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        size = os.fstat(descriptor).st_size
        events.append("folder" if folder else f"{size} bytes")
        fsync(descriptor)

    def renamed(source, target):
        events.append(f"rename to {Path(target).name}")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    return events


def test_it_is_on_the_disk_before_it_has_its_name(path, monkeypatch):
    events = record(monkeypatch, path)
    write_whole(path, b"newer")
    folder = [] if os.name == "nt" else ["folder"]
    assert events == ["5 bytes", "rename to file.json", *folder]
    del events[:]
    with whole(path, flush=False) as partial:
        partial.write_bytes(b"newest")
    assert events == ["rename to file.json"]
    assert path.read_bytes() == b"newest"


def test_a_folder_that_cannot_be_flushed_is_no_error(path, monkeypatch):
    def refuses(name, *arguments, real=os.open, **options):
        if name == path.parent:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(name, *arguments, **options)

    monkeypatch.setattr(os, "open", refuses)
    write_whole(path, b"newer")
    assert path.read_bytes() == b"newer"


@pytest.mark.parametrize("failures", [4, 5])
def test_a_scanner_that_holds_the_file_is_waited_for_but_not_for_ever(path, monkeypatch, failures):
    waited, tries, replace = [], [], Path.replace

    def held(source, target):
        tries.append(source)
        if len(tries) <= failures:
            raise PermissionError(errno.EACCES, "Permission denied", str(source))
        return replace(source, target)

    monkeypatch.setattr("time.sleep", waited.append)
    monkeypatch.setattr(Path, "replace", held)
    if failures < 5:
        write_whole(path, b"newer")
        assert path.read_bytes() == b"newer"
        assert list(path.parent.iterdir()) == [path]
    else:
        with pytest.raises(PermissionError) as raised:
            write_whole(path, b"newer")
        assert raised.value.filename == str(path)
        assert_untouched(path)
    assert len(tries) == 5
    assert waited == [0.1, 0.2, 0.4, 0.8]


def test_threads_that_write_one_file_never_mix(path):
    contents, errors = [letter * 50_000 for letter in "abcd"], []

    def write(content):
        try:
            for _ in range(10):
                write_whole(path, content)
                assert path.read_text(encoding="utf-8") in contents
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert list(path.parent.iterdir()) == [path]


def test_processes_that_write_one_file_never_mix(path):
    both = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), letter]) for letter in "ab"]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert path.read_text(encoding="utf-8") in ("a" * 100_000, "b" * 100_000)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["file[1].json", pytest.param("é" * 127, id="long")])
def test_what_a_killed_writer_left_is_swept_up_and_nothing_else(tmp_path, name):
    left, others = [], [tmp_path / f"{name[:9]}.partial"]
    for target, kept in ((name, left), (f"{name}.more", others)):
        with pytest.raises(KeyboardInterrupt), whole(tmp_path / target) as partial:
            raise KeyboardInterrupt
        kept.append(partial)
    for file in (*left, *others):
        file.write_bytes(b"half")
    sweep(tmp_path / name)
    assert sorted(tmp_path.iterdir()) == sorted(others)


@pytest.mark.parametrize("links", [True, False])
def test_the_first_of_several_writes_a_secret(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *paths: (_ for _ in ()).throw(PermissionError(1, "no links")))
    path = tmp_path / "new" / "key"
    for content in (b"first", b"second"):
        write_first(path, content)
        assert path.read_bytes() == b"first"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [left.name for left in path.parent.iterdir()] == ["key"]
