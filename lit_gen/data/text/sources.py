"""Finding the corpus that a configuration names: files, folders, patterns, Python's own help, or the grammar."""

import platform
from pathlib import Path

from lit_gen.core.cache import cached
from lit_gen.core.errors import UserError, nearest
from lit_gen.data.text.documents import JSON, PARQUET, TABLES, Source
from lit_gen.data.text.grammar import ENGLISH
from lit_gen.data.walk import Walk, is_hidden, matching, passed_over, splits_by_folder
from lit_gen.protocols.data import Split

TEXT = (".txt", ".text", ".md", ".rst")
FOLDER = (*TEXT, *(suffix for suffix in JSON if suffix != ".json"), *PARQUET)
"""What is read of a folder, and tables too if a column is named; other files can be named one by one or by pattern."""
EMBEDDED, GRAMMAR = "embedded", "grammar"


def find(
    path: str | list[str], option: str, *, root: Path, column: str | None = None, grammar_characters: int = 0
) -> Source:
    """The corpus that a configuration names.

    Args:
        path: ``embedded`` (the topics of Python's own help, as documents), ``grammar`` (see
            `lit_gen.data.text.grammar`, one text); a text file (one text); a file of records, a folder, a pattern such
            as ``books/**/*.txt``, or a list of files and patterns (documents).
        option: the option's name, for messages.
        root: where relative paths are looked up that are not found as they are.
        column: the text's column in files of records.
        grammar_characters: the least number of characters of the grammar.

    Raises:
        UserError: if there is nothing of that name.
    """
    if path == EMBEDDED:
        return Source(f"python-topics-{platform.python_version()}", True, (), embedded=True)
    if path == GRAMMAR:
        return _grammar(grammar_characters)
    if not path:
        raise UserError(f"{option}: nothing was found, a file, folder, pattern, embedded or grammar is expected")
    named = [path] if isinstance(path, str) else list(path)
    if alone := [name for name in named if name in (EMBEDDED, GRAMMAR)]:
        raise UserError(
            f"{option}: {alone[0]} was found in a list, where files, folders and patterns are expected; embedded and "
            f"grammar cannot stand in a list (a file of that name is ./{alone[0]})"
        )
    walks = [_walk(one, option, root, column) for one in named]
    files = tuple(file for walk in walks for file in (walk.files if isinstance(walk, Walk) else walk))
    looked = [walk for walk in walks if isinstance(walk, Walk)]
    found = f"{len(files):,} {'file' if len(files) == 1 else 'files'}{passed_over(looked)}" if looked else ""
    single = isinstance(path, str) and files == (_existing(path, root),) and not _records(files[0])
    first = Path(named[0])
    name = (first.name if first.is_absolute() else first.as_posix()) + (f"+{len(named) - 1}" if len(named) > 1 else "")
    return Source(name, not single, files, column, found=found)


def by_folder(path: str | list[str], root: Path) -> dict[Split, str]:
    """The splits of a folder whose subfolders are train, val and test; nothing for anything else."""
    found = _existing(path, root) if isinstance(path, str) and path not in ("", EMBEDDED, GRAMMAR) else None
    if found is None or not found.is_dir():
        return {}
    beside = [entry for entry in found.iterdir() if not is_hidden(entry.name)]
    names = splits_by_folder({entry.name for entry in beside if entry.is_dir()}, found)
    loose = any(entry.is_file() and entry.name.lower().endswith((*FOLDER, *TABLES)) for entry in beside)
    return {} if loose else {split: str(found / name) for name, split in names.items()}


def _grammar(characters: int) -> Source:
    def write(path: Path) -> None:
        path.write_text(ENGLISH.text(characters), encoding="utf-8", newline="")

    # the seed is not the run's: runs with other seeds read the same text
    file = cached(f"text/grammar-{ENGLISH.sha256[:12]}-{characters}.txt", write)
    bits = ENGLISH.entropy_bits_per_char
    return Source(f"grammar-{characters}", False, (file,), entropy_bits_per_byte=bits, generated=True)


def _records(file: Path) -> bool:
    return file.name.lower().endswith((*JSON, *PARQUET, *TABLES))


def _existing(name: str, root: Path) -> Path | None:
    path = Path(name).expanduser()
    return next((p for p in (path, root / path) if p.exists()), None)


def _walk(name: str, option: str, root: Path, column: str | None) -> Walk | list[Path]:
    """The files of one name: itself, those of a folder, or those that fit a pattern, in order."""
    found = _existing(name, root)
    if found is not None and found.is_dir():
        taken = FOLDER if column is None else (*FOLDER, *TABLES)
        walk = Walk(found, lambda name: name.lower().endswith(taken))
        if not walk.files:
            raise UserError(
                f"{option}: {found} holds no text files ({', '.join(taken)} are looked for{passed_over([walk])}); name "
                f"others by a pattern, such as {name}/**/*.log"
            )
        return walk
    if found is not None:
        return [found]
    if any(c in name for c in "*?["):
        path = Path(name).expanduser()
        for base in [Path(path.anchor)] if path.is_absolute() else [Path(), root]:
            try:
                fitting = matching(str(path.relative_to(path.anchor)), base)
            except ValueError as error:
                raise UserError(f"{option}: {name} is no pattern of files ({error}), books/**/*.txt is one") from None
            if fitting is not None and fitting.files:
                return fitting
        raise UserError(f"{option}: no file fits the pattern {name}, here or under {root}")
    raise UserError(f"{option}: {name} was not found, here or under {root}{_suggestion(name, root)}")


def _suggestion(name: str, root: Path) -> str:
    folders = (Path(name).expanduser().parent, (root / name).parent)
    beside = [p.name for folder in folders if folder.is_dir() for p in folder.iterdir()]
    return nearest(Path(name).name, [*beside, EMBEDDED, GRAMMAR])
