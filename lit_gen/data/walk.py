"""Which files belong to a set: one rule for pictures and texts, for folders and patterns.

Links are followed, but below each folder at the top (a split or a class) a folder is entered once, because folders that
link to each other would have more paths than files. Hidden parts and files of systems are skipped at any depth below
the named folder. What is skipped is counted, and the run says it.
"""

import fnmatch
import functools
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from lit_gen.core.errors import UserError
from lit_gen.protocols.data import Split

SYSTEM = {"thumbs.db", "desktop.ini", "@eadir", "__macosx", "$recycle.bin", "#recycle", "system volume information"}
OTHER = "other file"
SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Folders whose names say which split they are."""


def as_text(path: Path | str) -> str:
    """A name as text that every file can hold: bytes that are not UTF-8 become a backslash, x and their digits."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def identity(status: os.stat_result) -> tuple[str, ...]:
    """What changes in a file's status with its content, even if a program resets its time: inode and ctime too."""
    return str(status.st_size), str(status.st_mtime_ns), str(status.st_ctime_ns), str(status.st_ino)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or belongs to a system."""
    return name.startswith(".") or name.lower() in SYSTEM


class Walk:
    """The files below a folder, in the order of their paths.

    Args:
        folder: where to look.
        takes: whether a file is one of the set, by its path below ``folder``.
        hidden: whether hidden parts are included.

    Attributes:
        folder: as given.
        names: paths below ``folder``, with ``/``, of what belongs to the set; as text, because a `Path` takes longer to
            make than a file to stat.
        passed: what does not belong to it, by kind: the first name and the count.

    Raises:
        UserError: if a folder cannot be read.
    """

    def __init__(self, folder: Path, takes: Callable[[str], bool], hidden: bool = False) -> None:
        self.folder = folder
        self.passed: dict[str, tuple[str, int]] = {}
        self._takes, self._hidden = takes, hidden
        self._top: set[tuple[int, int]] = set()
        self.names = self._visit("", self._top)

    @functools.cached_property
    def files(self) -> list[Path]:
        """What belongs to the set."""
        return [self.folder / name for name in self.names]

    def _visit(self, name: str, entered: set[tuple[int, int]]) -> list[str]:
        """The files below a folder, unless it is one of those that were entered."""
        folder = self.folder / name
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError as error:
            raise UserError(f"{folder} cannot be read ({error.strerror or error})") from None
        here = status.st_dev, status.st_ino
        if here in entered:
            self._pass("link to a folder that is taken already", folder.name)
            return []
        entered.add(here)
        below = f"{name}/" if name else ""
        found = {entry.name: self._look(below + entry.name, entry, entered) for entry in entries}
        return [path for name in sorted(found) for path in found[name]]

    def _look(self, name: str, entry: "os.DirEntry[str]", entered: set[tuple[int, int]]) -> list[str]:
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError:  # links in a ring
            is_folder = is_file = False
        if is_hidden(entry.name) and not self._hidden:
            self._pass("hidden folder" if is_folder else "hidden file", entry.name)
        elif is_folder:
            at_the_top = entered is self._top  # below each folder there, folders are entered anew
            return self._visit(name, set(entered) if at_the_top else entered)
        elif is_file and self._takes(name):
            return [name]
        else:
            self._pass(OTHER if (self.folder / name).exists() else "broken link", entry.name)
        return []

    def _pass(self, kind: str, name: str) -> None:
        first, count = self.passed.get(kind, (name, 0))
        self.passed[kind] = first, count + 1


def passed_over(walks: Iterable[Walk]) -> str:
    """``"; passed over: 2 broken links (a.png, ...), 1 hidden folder (.cache)"``, or ``""``."""
    kinds: dict[str, tuple[str, int]] = {}
    for walk in walks:
        for kind, (name, number) in walk.passed.items():
            first, count = kinds.get(kind, (name, 0))
            kinds[kind] = first, count + number
    told = [_told(kind, name, number) for kind, (name, number) in sorted(kinds.items())]
    return f"; passed over: {', '.join(told)}" if told else ""


def _told(kind: str, first: str, number: int) -> str:
    if number == 1:
        return f"1 {kind} ({first})"
    return f"{number:,} {re.sub('link|file|folder', lambda word: f'{word[0]}s', kind, count=1)} ({first}, ...)"


def matching(pattern: str, base: Path) -> Walk | None:
    """The files that match a pattern such as ``books/**/*.txt``, by the rule of folders; None if none can.

    Hidden parts are included if the pattern names them (``.notes/*.txt``).

    Args:
        pattern: ``**`` for any number of folders; relative to ``base``, or absolute.
        base: where a relative pattern begins.

    Raises:
        ValueError: if it is not a pattern.
    """
    parts = Path(pattern).parts
    fixed = next((i for i, part in enumerate(parts) if any(c in part for c in "*?[")), len(parts))
    start, rest = base.joinpath(*parts[:fixed]), parts[fixed:]
    if any("**" in part and part != "**" for part in rest):
        raise ValueError("** stands for whole folders")
    if not start.is_dir():
        return None
    hidden = any(part.startswith(".") for part in rest)
    walk = Walk(start, lambda name: _fits(Path(name).parts, rest), hidden)
    walk.passed.pop(OTHER, None)  # the pattern says which
    return walk


def _fits(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def splits_by_folder(names: set[str], folder: Path) -> dict[str, Split]:
    """Which split each subfolder is, if all of them have such names and one is for training; else nothing.

    Raises:
        UserError: if two are the same split.
    """
    found: dict[str, Split] = {name: SPLITS[name.lower()] for name in sorted(names) if name.lower() in SPLITS}
    if len(found) < len(names) or "train" not in found.values():
        return {}
    for split in found.values():
        same = [name for name, other in found.items() if other == split]
        if len(same) > 1:
            raise UserError(f"{folder} holds {' and '.join(same)}, one folder for {split} is expected")
    return found
