"""A corpus: one continuous text, or documents; read in pieces, and named by its content.

A fingerprint covers every byte of the text, and a short digest each document. They are kept with the files' paths,
sizes, times of change and inodes, so a large corpus is read for them once, and again only if one of these differs.
"""

import hashlib
import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from lit_gen.core.cache import cached, hash_of_file, read_npz
from lit_gen.core.errors import UserError
from lit_gen.data.text.readers import read_json_lines, read_parquet, read_table, read_text, reading
from lit_gen.data.walk import as_text, identity

JSON = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".jsonl.zst", ".ndjson.zst", ".json")
PARQUET = (".parquet",)
TABLES = (".csv", ".tsv")


@dataclass(frozen=True)
class Source:
    """A corpus that can be read again and again.

    Attributes:
        name: what records call it.
        documents: whether it consists of documents, which have an end; else it is one continuous text.
        files: what it is read from.
        column: the text's column in files of records.
        entropy_bits_per_byte: the floor of every model's bits per byte, if it is known.
        embedded: whether it is the text that comes with Python.
        found: what was found and skipped in folders and patterns, in words.
        generated: whether lit_gen made its files, in the cache folder.
    """

    name: str
    documents: bool
    files: tuple[Path, ...]
    column: str | None = None
    entropy_bits_per_byte: float | None = None
    embedded: bool = False
    found: str = ""
    generated: bool = False

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
            elif self.documents and name.endswith(TABLES):
                found = read_table(path, self.column)
            elif self.documents and name.endswith(PARQUET):
                found = read_parquet(path, self.column)
            elif self.documents:
                found = iter(["".join(found)])
            yield from ((path.name, text) for text in found if text)

    def label(self, number: int) -> str:
        """How to recognize document ``number``: its file or topic, and its beginning."""
        where, text = next(islice(self._named(), number, None))
        return f"{where}, {text[:40]!r}" if self.documents else repr(text[:40])

    @property
    def has_records(self) -> bool:
        """Whether any of its files has columns."""
        return any(file.name.lower().endswith((*JSON, *PARQUET, *TABLES)) for file in self.files)

    def state(self) -> str:
        """Names the files as they are now, by path and `identity`; a generated one by its content.

        Another process that starts at the same time may put the same text in its place.

        Raises:
            UserError: if one of them has gone.
        """
        status: list[tuple[str, ...]] = []
        for file in self.files:
            with reading(file):
                found = (hash_of_file(file),) if self.generated else identity(file.stat())
            status.append((as_text(file.resolve()), *found))
        return hashlib.sha256(json.dumps([3, self.documents, self.column, status]).encode()).hexdigest()[:24]

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

    path = cached(f"text/scan-{state}.npz", write)
    try:
        archive = read_npz(path)
        sha256, text_bytes, alphabet = json.loads(archive["facts"].tobytes())
        return Scan(sha256, text_bytes, alphabet, archive["lengths"], archive["digests"], state)
    except (UserError, KeyError, ValueError):
        raise UserError(f"{path} is damaged; move it away, then run the command again to read the text anew") from None


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
