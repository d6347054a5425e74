"""Which files lit_gen wrote itself, so that a command overwrites no other."""

import json
from collections.abc import Iterable
from pathlib import Path

from lit_gen.core.errors import UserError

SOFTWARE = "lit_gen"  # what our PNG files say under this name


def is_ours(path: Path) -> bool:
    """Whether a file is a picture or an exported network that lit_gen wrote; other files cannot say so.

    An exported network names its checkpoint and describes itself, see `lit_gen.runs.opened.Run.export`.
    """
    with path.open("rb") as file:
        begin = file.read(256)
        if begin.startswith(b"\x89PNG\r\n"):
            return b"tEXtSoftware\0" + SOFTWARE.encode() in begin
        length = int.from_bytes(begin[:8], "little")
        if not 2 <= length <= 100_000_000:
            return False
        file.seek(8)
        try:
            metadata = json.loads(file.read(length)).get("__metadata__", {})
        except (ValueError, AttributeError, RecursionError):
            return False
    described = isinstance(metadata, dict) and any('"class_path": ' in str(text) for text in metadata.values())
    return described and "checkpoint" in metadata


def keep_others(paths: Iterable[Path], option: str, overwrite: bool) -> None:
    """Refuse to overwrite what lit_gen did not write; special files, such as /dev/stdout, always pass.

    Args:
        paths: what is about to be written.
        option: named before the file, such as ``--out``.
        overwrite: allow it all the same.

    Raises:
        UserError: with the first such file.
    """
    for path in paths if not overwrite else ():
        if path.is_dir():
            raise UserError(f"{option}: {path} is a folder, a file is expected")
        if path.is_file() and path.stat().st_size and not is_ours(path):
            raise UserError(f"{option}: {path} exists, and lit_gen did not write it; say --overwrite to replace it")
