"""The cache folder, and the contents of files: hashes, archives of arrays."""

import contextlib
import hashlib
import math
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.core.files import FULL, whole


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
            partial.touch()  # before spending minutes on a file that cannot be kept
        with writing(full=True):
            write(partial)
        with writing():
            stack.close()
    return path


@contextlib.contextmanager
def writing(full: bool = False) -> Iterator[None]:
    """Turn an error of a cache folder that cannot be written into a sentence that names it.

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


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``; no code of the file is run, and no more memory is allocated than it holds.

    Raises:
        UserError: if it is truncated or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
            if size > max(_SMALL, _DENSEST * path.stat().st_size):
                raise UserError(f"{path} unpacks to {size:,} bytes, more than {_DENSEST} times its own size")
            found = {}
            for part in archive.infolist():
                with archive.open(part) as file:
                    found[part.filename.removesuffix(".npy")] = _array(file, part.file_size, part.filename)
            return found
    except UserError:
        raise
    except Exception as error:  # the readers raise anything for a file that only looks like an archive
        raise UserError(f"{path} is truncated or is no .npz of arrays ({str(error)[:200]})") from None


_SMALL = 256 << 20  # bytes that any file may unpack to
_DENSEST = 100  # times its own size that a larger one may: pixels rarely compress better, bombs a thousand times


def read_npy(path: Path) -> np.ndarray:
    """The array of an ``.npy``; see `read_npz`.

    Raises:
        UserError: if it is truncated or holds something else.
    """
    try:
        with path.open("rb") as file:
            return _array(file, path.stat().st_size, path.name)
    except Exception as error:
        raise UserError(f"{path} is truncated or is no .npy of numbers ({str(error)[:200]})") from None


def _array(file: IO[bytes], size: int, name: str) -> np.ndarray:
    """One array, after its header was compared with the content: numpy allocates what the header says."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError(f"{name} holds objects, which are code")
    if math.prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError(f"{name} says {dtype} {shape}, which is not what it holds")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def hash_of_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of_tensors(tensors: dict[str, Tensor], in_order: bool = False) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors, in hexadecimal; ``in_order``: of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()) if in_order else tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
