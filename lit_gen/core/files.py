"""Files: how one is written whole or not at all, the cache folder, hashes, archives of arrays."""

import contextlib
import errno
import glob
import hashlib
import os
import secrets
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_gen.core.errors import UserError

PARTIAL = ".partial"  # the end of a file's name while it is written
FULL = (errno.ENOSPC, errno.EDQUOT)

# ---- whole files


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file that appears complete or not at all, in its folder, which is made; see `whole`.

    Args:
        path: the file; one that is there is replaced.
        content: text becomes UTF-8, with the line ends that it has.

    Raises:
        OSError: if it cannot be written; an older file is then as it was.
    """
    with whole(path) as partial:
        partial.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))


@contextlib.contextmanager
def whole(path: Path, suffix: str = "", flush: bool = True) -> Iterator[Path]:
    """For writers that want a path of their own: what is written there becomes ``path`` when the block ends.

    The temporary file lies in the same folder, so that the renaming is one step. Its name is hidden and random: no two
    processes share one. It is on the disk before it is renamed, so that not even a power cut leaves half a file under
    the final name; whatever goes wrong in the block, it is removed.

    Args:
        path: the final file; its folder is made.
        suffix: what the temporary name must end in, for a writer or reader that looks at it.
        flush: false leaves to the system when it goes to the disk: for thousands of files that are easily made again.

    Raises:
        OSError: if the file cannot be written; names ``path``, not the temporary file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{_short(path.name)}.{secrets.token_hex(8)}{PARTIAL}{suffix}")
    try:
        yield partial
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
    """Remove what killed writers of ``path`` have left; one that still writes it fails when it is done."""
    _sweep(path.parent, glob.escape(_short(path.name)))


def sweep_all(folder: Path, beginning: str) -> None:
    """Remove what killed writers of any file have left whose name begins so."""
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
    """Whether an error is about the temporary file: it names it, or says without a name that the disk is full."""
    return str(error.filename) == str(partial) or (error.filename is None and error.errno in FULL)


def _rename(source: Path, target: Path, tries: int = 5) -> None:
    """Rename ``source`` over ``target``; retried, because on Windows a scanner may hold a new file for a moment."""
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


# ---- the cache folder


def cache_folder() -> Path:
    """Where downloads and decoded sets are kept: ``LIT_GEN_CACHE``, else ``~/.cache/lit_gen``."""
    chosen = os.environ.get("LIT_GEN_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "lit_gen"


def cached(name: str, write: Callable[[Path], None]) -> Path:
    """The file ``name`` of the cache folder, made by ``write(path)`` if it is absent; never left half-written.

    Raises:
        UserError: if the cache folder cannot be written.
    """
    path = cache_folder() / name
    with writing():
        if path.is_file():
            return path
    with contextlib.ExitStack() as stack:
        with writing():
            partial = stack.enter_context(whole(path))
            partial.touch()  # before minutes are spent on what cannot be kept
        with writing(full=True):
            write(partial)
        with writing():
            stack.close()
    return path


@contextlib.contextmanager
def writing(full: bool = False) -> Iterator[None]:
    """Turn what the system says of a cache folder that cannot be written into a sentence that names it.

    Args:
        full: translate only the errors of a full disk; others may come from the source that is being read.

    Raises:
        UserError: with the reason.
    """
    try:
        yield
    except OSError as error:
        if full and error.errno not in FULL:
            raise
        raise UserError(
            f"the cache folder {cache_folder()} cannot be written ({error.strerror or error}); set LIT_GEN_CACHE to "
            f"one that can"
        ) from None


def offline() -> bool:
    """Whether ``LIT_GEN_OFFLINE=1`` forbids any connection."""
    return os.environ.get("LIT_GEN_OFFLINE", "0") not in ("", "0")


# ---- contents


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``; no code of the file is ever run.

    Raises:
        UserError: if it is truncated or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is truncated or is no .npz of arrays ({error})") from None


def hash_of_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of_tensors(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
