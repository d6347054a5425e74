"""Where downloads, decoded sets and features of real images are kept, and how a file gets there whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

from lit_gen.pictures import replace


def cache_folder() -> Path:
    """Where downloads and decoded sets are kept: ``LIT_GEN_CACHE``, else ``~/.cache/lit_gen``."""
    chosen = os.environ.get("LIT_GEN_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "lit_gen"


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


def offline() -> bool:
    """Whether ``LIT_GEN_OFFLINE=1`` forbids any connection."""
    return os.environ.get("LIT_GEN_OFFLINE", "0") not in ("", "0")
