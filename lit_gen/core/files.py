"""Writing a file whole or not at all."""

import contextlib
import errno
import glob
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lit_gen.core.errors import UserError

PARTIAL = ".partial"  # the end of a file's name while it is written
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room for a file

_check: Callable[[], None] | None = None


def before_renaming(check: Callable[[], None] | None) -> None:
    """Call ``check`` at the end of every file's writing; if it raises, the file does not appear. None: no check."""
    global _check
    _check = check


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file that appears complete or not at all; its folder is created. See `whole`.

    Args:
        path: the file; an existing one is replaced.
        content: text becomes UTF-8, with the line ends that it has.

    Raises:
        OSError: if it cannot be written; an older file is then as it was.
    """
    with whole(path) as partial:
        partial.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))


def write_first(path: Path, content: bytes) -> None:
    """Write a secret that only its owner may read, unless the file exists: the first of several processes writes it.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{_short(path.name)}.{secrets.token_hex(8)}{PARTIAL}")
    try:
        _write_secret(partial, content)
        os.link(partial, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        with contextlib.suppress(FileExistsError):
            _write_secret(path, content)
    finally:
        partial.unlink(missing_ok=True)


def _write_secret(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def whole(path: Path, suffix: str = "", flush: bool = True) -> Iterator[Path]:
    """For writers that need a path: what they write there becomes ``path`` when the block ends.

    The temporary file lies in the same folder, so that the renaming is one step. Its name is hidden and random: no two
    processes share one. It is on the disk before it is renamed, so that not even a power cut leaves half a file under
    the final name. It is removed if anything goes wrong in the block.

    Args:
        path: the final file; its folder is created.
        suffix: what the temporary name must end in, for a writer or reader that looks at it.
        flush: false lets the system choose when it goes to the disk, for thousands of files that are easily made again.

    Raises:
        OSError: if the file cannot be written; names ``path``, not the temporary file.
        UserError: if a device or a pipe is there, which the renaming would replace.
    """
    with contextlib.suppress(OSError):
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UserError(f"{path}: a device or a pipe was found, a file is expected")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{_short(path.name)}.{secrets.token_hex(8)}{PARTIAL}{suffix}")
    try:
        yield partial
        if _check is not None:
            _check()  # also first: a process that has taken over may have removed the temporary file
        if flush:
            with partial.open("r+b") as file:  # Windows flushes only what is open for writing
                os.fsync(file.fileno())
        _rename(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and _is_about(error, partial):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    if flush:
        _flush_folder(path.parent)


def set_aside(path: Path, suffix: str) -> Path:
    """Give a file a longer name, under which nothing looks for it, and return that."""
    aside = path.with_name(f"{path.name}{suffix}")
    _rename(path, aside)
    return aside


def sweep(path: Path) -> None:
    """Remove what killed writers of ``path`` have left; a writer that is still at work fails at its end."""
    _sweep(path.parent, glob.escape(_short(path.name)))


def sweep_all(folder: Path, beginning: str) -> None:
    """Remove what killed writers have left of all files whose names begin with ``beginning``."""
    _sweep(folder, f"{glob.escape(beginning)}*")


def _sweep(folder: Path, names: str) -> None:
    for left in folder.glob(f".{names}.{'?' * 16}{PARTIAL}*"):
        with contextlib.suppress(OSError):
            left.unlink()


def _short(name: str) -> str:
    """A name with room for what a temporary one adds: file systems allow 255 bytes."""
    raw = os.fsencode(name)
    return name if len(raw) <= 200 else hashlib.sha256(raw).hexdigest()


def _is_about(error: OSError, partial: Path) -> bool:
    """Whether an error is about the temporary file: it names it, or says without a name that there is no room."""
    return str(error.filename) == str(partial) or (error.filename is None and error.errno in FULL)


def _rename(source: Path, target: Path, tries: int = 5) -> None:
    """Rename ``source`` over ``target``; retried, because on Windows a scanner may hold a new file for a moment."""
    if _check is not None:
        _check()
    for attempt in range(tries):
        try:
            source.replace(target)
            return
        except PermissionError:
            if attempt == tries - 1:
                raise
            time.sleep(0.1 * 2**attempt)


def _flush_folder(folder: Path) -> None:
    """Keep the new name over a power cut, where the system can: Windows and some network disks cannot."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
