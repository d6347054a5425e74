"""What a corpus is made of: one text without end, or documents; found, read in pieces, and named by its content.

A fingerprint covers every byte of the text, and a short digest each document. They are kept with the files' paths,
sizes and times of change, so that a large corpus is read for them once, and again only when one of those differs.
"""

import hashlib
import importlib
import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from lit_gen.core.cache import cached
from lit_gen.core.errors import UserError, nearest
from lit_gen.data.text.grammar import ENGLISH
from lit_gen.data.text.readers import read_json_lines, read_parquet, read_text, reading

TEXT = (".txt", ".text", ".md", ".rst")
JSON = (".jsonl", ".jsonl.gz", ".json")
PARQUET = (".parquet",)
FOLDER = (*TEXT, ".jsonl", ".jsonl.gz", *PARQUET)
"""What is taken of a folder; other files can be named one by one, or by a pattern."""
EMBEDDED, GRAMMAR = "embedded", "grammar"


@dataclass(frozen=True)
class Source:
    """A corpus that can be read again and again.

    Attributes:
        name: what records call it.
        documents: whether it falls into documents, which have an end; else it is one text without end.
        files: what it is read from.
        column: where the text stands in files of records.
        entropy_bits_per_byte: the floor of every model's bits per byte, where it is known.
        embedded: whether it is the text that comes with Python.
    """

    name: str
    documents: bool
    files: tuple[Path, ...]
    column: str | None = None
    entropy_bits_per_byte: float | None = None
    embedded: bool = False

    def texts(self) -> Iterator[str]:
        """The documents, empty ones left out; of one text without end, its pieces."""
        yield from (text for _, text in self._named())

    def _named(self) -> Iterator[tuple[str, str]]:
        """As `texts`, each with the file or topic that it is from."""
        if self.embedded:
            topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
            yield from ((f"topic {name}", topics[name]) for name in sorted(topics))
        for path in self.files:
            name, found = path.name.lower(), read_text(path)
            if self.documents and name.endswith(JSON):
                found = read_json_lines(path, self.column)
            elif self.documents and name.endswith(PARQUET):
                found = read_parquet(path, self.column)
            elif self.documents:
                found = iter(["".join(found)])
            yield from ((path.name, text) for text in found if text)

    def label(self, number: int) -> str:
        """What a person can tell document ``number`` by: its file or topic, and how it begins."""
        where, text = next(islice(self._named(), number, None))
        return f"{where}, {text[:40]!r}" if self.documents else repr(text[:40])

    def state(self) -> str:
        """Names the files as they are now, by path, size and time of change.

        Raises:
            UserError: if one of them has gone.
        """
        status: list[tuple[str, int, int]] = []
        for file in self.files:
            with reading(file):
                found = file.stat()
            status.append((str(file.resolve()), found.st_size, found.st_mtime_ns))
        return hashlib.sha256(json.dumps([2, self.documents, self.column, status]).encode()).hexdigest()[:24]

    def part(self, begin: int, end: int) -> Iterator[str]:
        """As `texts`, of the documents begin to end (exclusive), or of those characters of a text without end."""
        if self.documents:
            yield from islice(self.texts(), begin, end)
            return
        position = 0
        for piece in self.texts():
            if position >= end:
                return
            if wanted := piece[max(0, begin - position) : end - position]:
                yield wanted
            position += len(piece)


@dataclass(frozen=True)
class Scan:
    """What one reading of a source finds.

    Attributes:
        sha256: of a text without end, that of its UTF-8 bytes; of documents, that of each one's length and bytes.
        text_bytes: number of UTF-8 bytes.
        alphabet: the characters that occur, sorted.
        lengths: int64, characters of each document, or of the one text.
        digests: uint64, names the content of each document, or of the one text.
        state: the source's `state` before it was read.
    """

    sha256: str
    text_bytes: int
    alphabet: str
    lengths: np.ndarray
    digests: np.ndarray
    state: str

    @property
    def characters(self) -> int:
        """Number of characters."""
        return int(self.lengths.sum())


def scan(source: Source) -> Scan:
    """Read a source once, or what is kept of an earlier reading.

    Raises:
        UserError: if it cannot be read, or is empty.
    """
    state = source.state()
    if source.embedded:
        return _read(source, state)

    def write(path: Path) -> None:
        found = _read(source, state)
        facts = json.dumps([found.sha256, found.text_bytes, found.alphabet]).encode()
        with path.open("wb") as file:
            np.savez(file, facts=np.frombuffer(facts, np.uint8), lengths=found.lengths, digests=found.digests)

    with np.load(cached(f"text/scan-{state}.npz", write)) as archive:
        sha256, text_bytes, alphabet = json.loads(archive["facts"].tobytes())
        return Scan(sha256, text_bytes, alphabet, archive["lengths"], archive["digests"], state)


def _read(source: Source, state: str) -> Scan:
    digest, alphabet, lengths, text_bytes = hashlib.sha256(), set[str](), [], 0
    short, digests = hashlib.blake2b(digest_size=8), bytearray()
    for text in source.texts():
        raw = text.encode("utf-8")
        if source.documents:
            digest.update(f"{len(raw)}\n".encode())
            digests += hashlib.blake2b(raw, digest_size=8).digest()
        else:
            short.update(raw)
        digest.update(raw)
        alphabet.update(text)
        lengths.append(len(text))
        text_bytes += len(raw)
    if not text_bytes:
        raise UserError(f"{', '.join(map(str, source.files[:3]))}: no text was found, the file or files are empty")
    counts = np.array(lengths if source.documents else [sum(lengths)], dtype=np.int64)
    names = np.frombuffer(bytes(digests) if source.documents else short.digest(), dtype="<u8")
    return Scan(digest.hexdigest(), text_bytes, "".join(sorted(alphabet)), counts, names, state)


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
        column: where the text stands in files of records.
        grammar_characters: at least so many characters of the grammar.

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
    files = tuple(file for one in named for file in _files(one, option, root))
    single = isinstance(path, str) and files == (_existing(path, root),) and not _records(files[0])
    first = Path(named[0])
    name = (first.name if first.is_absolute() else first.as_posix()) + (f"+{len(named) - 1}" if len(named) > 1 else "")
    return Source(name, not single, files, column)


def _grammar(characters: int) -> Source:
    def write(path: Path) -> None:
        path.write_text(ENGLISH.text(characters), encoding="utf-8", newline="")

    # the seed is not the run's: runs with other seeds read the same text
    file = cached(f"text/grammar-{ENGLISH.sha256[:12]}-{characters}.txt", write)
    return Source(f"grammar-{characters}", False, (file,), entropy_bits_per_byte=ENGLISH.entropy_bits_per_char)


def _records(file: Path) -> bool:
    return file.name.lower().endswith((*JSON, *PARQUET))


def _existing(name: str, root: Path) -> Path | None:
    path = Path(name).expanduser()
    return next((p for p in (path, root / path) if p.exists()), None)


def _files(name: str, option: str, root: Path) -> list[Path]:
    """The files of one name: itself, those of a folder, or those that fit a pattern, in order."""
    found = _existing(name, root)
    if found is not None and found.is_dir():
        files = sorted(p for p in found.rglob("*") if p.name.lower().endswith(FOLDER) and p.is_file())
        files = [p for p in files if not any(part.startswith(".") for part in p.relative_to(found).parts)]
        if not files:
            raise UserError(
                f"{option}: {found} holds no text files ({', '.join(FOLDER)} are looked for); name others by a "
                f"pattern, such as {name}/**/*.py"
            )
        return files
    if found is not None:
        return [found]
    if any(c in name for c in "*?["):
        path = Path(name).expanduser()
        bases = [Path(path.anchor)] if path.is_absolute() else [Path(), root]
        for base in bases:
            try:
                fitting = [p for p in base.glob(str(path.relative_to(path.anchor))) if p.is_file()]
            except (ValueError, NotImplementedError, IndexError) as error:
                raise UserError(f"{option}: {name} is no pattern of files ({error}), books/**/*.txt is one") from None
            if fitting:
                return sorted(fitting)
        raise UserError(f"{option}: no file fits the pattern {name}, here or under {root}")
    raise UserError(f"{option}: {name} was not found, here or under {root}{_suggestion(name, root)}")


def _suggestion(name: str, root: Path) -> str:
    folders = (Path(name).expanduser().parent, (root / name).parent)
    beside = [p.name for folder in folders if folder.is_dir() for p in folder.iterdir()]
    return nearest(Path(name).name, [*beside, EMBEDDED, GRAMMAR])
