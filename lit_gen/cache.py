"""Where downloads, decoded sets and features of real images are kept, and how a file gets there whole or not at all."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from lit_gen.errors import UserError
from lit_gen.pictures import replace


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
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.touch()
    try:
        with writing(full=True):
            write(partial)
        with writing():
            replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


@contextlib.contextmanager
def writing(full: bool = False) -> Iterator[None]:
    """Turn what the system says of a cache folder that cannot be written into a sentence that names it.

    Args:
        full: of all errors, take a full disk alone: the others may be about what is read meanwhile.

    Raises:
        UserError: with the reason.
    """
    try:
        yield
    except OSError as error:
        if full and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"the cache folder {cache_folder()} cannot be written ({error.strerror or error}); set LIT_GEN_CACHE to "
            f"one that can"
        ) from None


def offline() -> bool:
    """Whether ``LIT_GEN_OFFLINE=1`` forbids any connection."""
    return os.environ.get("LIT_GEN_OFFLINE", "0") not in ("", "0")
