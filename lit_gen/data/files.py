"""Finding, checking and downloading the files of a data set; writing caches that are complete or absent."""

import gzip
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torchvision.datasets.utils import download_url

from lit_gen.data.images import cache_folder
from lit_gen.errors import UserError
from lit_gen.pictures import replace


def offline() -> bool:
    """Whether ``LIT_GEN_OFFLINE=1`` forbids any connection."""
    return os.environ.get("LIT_GEN_OFFLINE", "0") not in ("", "0")


def md5(path: Path) -> str:
    """The file's MD5, in hexadecimal: what the publishers of these sets give."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def locate(root: Path, folders: tuple[str, ...], name: str) -> Path | None:
    """The file ``name`` in one of ``folders`` of ``root`` or of the cache folder."""
    candidates = [base / folder / name for base in (root, cache_folder()) for folder in folders]
    return next((p for p in candidates if p.is_file()), None)


def ensure(root: Path, folders: tuple[str, ...], name: str, urls: list[str], checksum: str) -> Path:
    """The official file ``name``: found and verified, else downloaded into the first of ``folders`` and verified.

    Raises:
        UserError: if it is missing and cannot be fetched, or damaged; names the file and what to do.
    """
    path = locate(root, folders, name)
    if path is None:
        path = _download(root, folders[0], name, urls, checksum)
    elif md5(path) != checksum:
        raise UserError(
            f"{path}: the checksum is {md5(path)}, but {checksum} is expected (truncated or changed); delete it, "
            f"then run the command again to download it"
        )
    return path


def _download(root: Path, folder: str, name: str, urls: list[str], checksum: str) -> Path:
    missing = f"{name} was not found under {root / folder}"
    if offline():
        raise UserError(f"{missing}, and LIT_GEN_OFFLINE=1 forbids downloading it; put the official file there")
    base = root if _writable(root) else cache_folder()
    target = base / folder
    reasons: list[str] = []
    for url in urls:
        try:
            target.mkdir(parents=True, exist_ok=True)
            partial = target / f"{name}.partial"
            download_url(url, str(target), partial.name, checksum)
            replace(partial, target / name)
            return target / name
        except (OSError, RuntimeError) as error:
            reasons.append(f"{url}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
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
        raise UserError(f"{path} is truncated or damaged ({error}); delete it and fetch it again") from None
    dimensions = raw[3] if len(raw) >= 4 else 0
    if raw[:3] != b"\0\0\x08" or not dimensions:
        raise UserError(f"{path} is no IDX file of bytes; the official archive is expected")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">i4", dimensions, offset=4))
    start = 4 + 4 * dimensions
    if len(raw) - start != int(np.prod(shape)):
        raise UserError(
            f"{path} is truncated: {len(raw) - start} bytes were found, {int(np.prod(shape))} are expected; "
            f"delete it and fetch it again"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy()


def cached(name: str, write: Callable[[Path], None]) -> Path:
    """The file ``name`` of the cache folder, made by ``write(path)`` if it is absent; never left half-written."""
    path = cache_folder() / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            write(partial)
            replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    return path
