"""Finding, checking and downloading the files of a data set."""

import contextlib
import functools
import gzip
import hashlib
import os
import zlib
from pathlib import Path

import numpy as np
from torchvision.datasets.utils import download_url

from lit_gen.core.cache import cache_folder, offline
from lit_gen.core.errors import UserError
from lit_gen.core.files import whole


def md5(path: Path) -> str:
    """As `_md5`, but a file that has not changed is read once per process."""
    status = path.stat()
    return _md5(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache
def _md5(path: Path, size: int, modified: int) -> str:
    """The MD5, in hexadecimal, of a file's content: for a ``.gz``, of the file inside, however it was packed.

    Raises:
        UserError: if a ``.gz`` is damaged.
    """
    packed = path.suffix == ".gz" and not path.name.endswith(".tar.gz")
    digest = hashlib.md5(usedforsecurity=False)  # what the publishers of these sets give
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is truncated or damaged ({error}); fetch the official file again") from None
    return digest.hexdigest()


def locate(root: Path, folders: tuple[str, ...], name: str) -> Path | None:
    """The file ``name``, packed or not, in one of ``folders`` of ``root`` or of the cache folder."""
    names = (name, name.removesuffix(".gz")) if not name.endswith(".tar.gz") else (name,)
    candidates = [base / folder / n for base in (root, cache_folder()) for folder in folders for n in names]
    return next((p for p in candidates if p.is_file()), None)


def ensure(root: Path, folders: tuple[str, ...], name: str, urls: list[str], checksum: str) -> Path:
    """The official file ``name``: found and verified, else downloaded into the first of ``folders`` and verified.

    Args:
        root: where data sets are; the cache folder is searched as well.
        folders: subfolders to look in.
        name: the file's name, as it is published.
        urls: where to download it from, tried in order.
        checksum: `md5` of its content.

    Raises:
        UserError: if it is missing and cannot be fetched, or damaged; names the file and what to do.
    """
    path = locate(root, folders, name)
    if path is None:
        return _download(root, folders[0], name, urls, checksum)
    if (found := md5(path)) != checksum:
        raise UserError(
            f"{path}: its content has the checksum {found}, but {checksum} is expected (truncated or changed); "
            f"move it away, then run the command again to download it"
        )
    return path


def _download(root: Path, folder: str, name: str, urls: list[str], checksum: str) -> Path:
    missing = f"{name} was not found under {root / folder}"
    if offline():
        raise UserError(f"{missing}, and LIT_GEN_OFFLINE=1 forbids downloading it; put the official file there")
    target = (root if _writable(root) else cache_folder()) / folder / name
    new = not target.parent.exists()
    target.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(target.suffixes)  # .gz: md5 looks inside
    reasons: list[str] = []
    for url in urls:
        try:
            with whole(target, suffix) as partial:
                download_url(url, str(target.parent), partial.name)
                if (found := md5(partial)) != checksum:
                    raise UserError(f"checksum {found} instead of {checksum}")
            return target
        except (OSError, RuntimeError, UserError) as error:
            reasons.append(f"{url}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    if new:
        with contextlib.suppress(OSError):  # another process may have put something into it
            target.parent.rmdir()
    raise UserError(
        f"{missing}, and it could not be downloaded ({'; '.join(reasons)}); put the official file there, or point "
        f"data.root or LIT_GEN_DATA at a folder that holds it"
    )


def _writable(folder: Path) -> bool:
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    return os.access(existing, os.W_OK)


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of bytes (gzip or plain), http://yann.lecun.com/exdb/mnist/, as a uint8 array.

    Raises:
        UserError: if the file is damaged; says how much was found and expected.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read()
    except (OSError, EOFError) as error:
        raise UserError(f"{path} is truncated or damaged ({error}); fetch the official file again") from None
    dimensions = raw[3] if len(raw) >= 4 else 0
    if raw[:3] != b"\0\0\x08" or not dimensions:
        raise UserError(f"{path} is no IDX file of bytes; the official archive is expected")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">i4", dimensions, offset=4))
    start = 4 + 4 * dimensions
    if len(raw) - start != int(np.prod(shape)):
        raise UserError(
            f"{path} is truncated: {len(raw) - start} bytes were found, {int(np.prod(shape))} are expected; "
            f"fetch the official file again"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy()


def read_numbers(path: Path) -> np.ndarray:
    """The numbers of a packed CSV file of whole numbers from 0 to 255, row after row, as uint8 (n,).

    What else the file may hold is not noticed: the caller compares a checksum. A quarter of the time of `np.loadtxt`.

    Raises:
        UserError: if the file is missing or damaged.
    """
    found, before = [], b",,,"
    try:
        with gzip.open(path) as file:
            while part := file.read(1 << 18):
                text = np.frombuffer(before + part, np.uint8)
                before = (before + part)[-3:]
                figures = text - np.uint8(ord("0"))
                is_figure = figures < 10
                figures *= is_figure
                hundreds = figures[:-3] * (is_figure[1:-2] * np.uint8(100))
                values = figures[2:-1] + figures[1:-2] * np.uint8(10) + hundreds  # of what ends before each character
                found.append(values[np.flatnonzero(~is_figure[3:])])  # much faster than values[~is_figure[3:]]
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is missing or damaged ({error})") from None
    return np.concatenate(found) if found else np.empty(0, np.uint8)
