"""Tokens in a memory-mapped file that says what it holds.

Layout: 4096 bytes of header (a magic, then JSON, padded with spaces), then the ids, little-endian: uint16 where all of
the vocabulary fits, else uint32.
"""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lit_gen.core.errors import UserError

MAGIC = b"lit_gen tokens\n"
HEADER_BYTES = 4096
VERSION = 2
HINT = "move it away, then run the command again to encode the text anew"


@dataclass(frozen=True)
class Header:
    """What a token file says of itself.

    Attributes:
        vocab_size: number of ids of the tokenizer.
        tokenizer: what the tokenizer is called.
        tokenizer_sha256: everything that it depends on.
        text_sha256: the corpus that the text is part of.
        part: which part of it, as (begin, end) in characters or documents.
        tokens: number of ids.
        text_bytes: UTF-8 bytes of the text.
        characters: characters of the text.
        documents: documents in it; 0 for a text without end.
        lost: how text that the tokens do not hold comes back; empty where they hold all of it.
        complete: false while the file is being written.
        version: of this layout.
    """

    vocab_size: int
    tokenizer: str
    tokenizer_sha256: str
    text_sha256: str
    part: tuple[int, int]
    tokens: int = 0
    text_bytes: int = 0
    characters: int = 0
    documents: int = 0
    lost: str = ""
    complete: bool = False
    version: int = VERSION

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """Of the ids: 2 bytes hold up to 65,536 of them."""
        return token_dtype(self.vocab_size)


@dataclass(frozen=True)
class TokenFile:
    """An open token file: its header, its ids (tokens,) as a read-only memory map, and where it lies."""

    header: Header
    tokens: np.ndarray
    path: Path

    def checked(self, places: slice) -> np.ndarray:
        """The ids at ``places``, as `check_ids` gives them."""
        return check_ids(self.tokens[places], self.header.vocab_size, self.path)


def token_dtype(vocab_size: int) -> np.dtype[np.unsignedinteger]:
    """The smallest of uint16 and uint32 that holds all ids, little-endian."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def write(path: Path, header: Header, chunks: Iterable[tuple[np.ndarray, int, int, int, str]]) -> Header:
    """Write a token file; it is complete only when this returns.

    Args:
        path: the file; a caller that needs it to appear whole renames it afterwards.
        header: its counts are filled in.
        chunks: ids (n,), the bytes, characters and document ends that they stand for, and what is lost of them.

    Returns:
        The header as it was written.
    """
    totals, lost = np.zeros(4, dtype=np.int64), ""
    with path.open("wb") as file:
        file.write(_packed(header))
        for ids, text_bytes, characters, documents, example in chunks:
            assert not len(ids) or ids.max() < header.vocab_size
            file.write(np.ascontiguousarray(ids, dtype=header.dtype).data)
            totals += (len(ids), text_bytes, characters, documents)
            lost = lost or example
        tokens, text_bytes, characters, documents = totals.tolist()
        header = dataclasses.replace(
            header,
            tokens=tokens,
            text_bytes=text_bytes,
            characters=characters,
            documents=documents,
            lost=lost,
            complete=True,
        )
        file.seek(0)
        file.write(_packed(header))
    return header


def load(path: Path, expected: Header | None = None) -> TokenFile:
    """Open a token file.

    Args:
        path: the file.
        expected: what its header should say of tokenizer and text; the counts are not compared.

    Raises:
        UserError: if it is not a token file, of another version, truncated, or made from something else.
    """
    with path.open("rb") as file:
        raw = file.read(HEADER_BYTES)
    if not raw.startswith(MAGIC):
        raise UserError(f"{path} is no token file; {HINT}")
    try:
        found = json.loads(raw[len(MAGIC) :])
        header = Header(**found | {"part": tuple(found["part"])})
        _check_types(header)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{path} has a damaged header ({error}); {HINT}") from None
    if header.version != VERSION or not header.complete:
        reason = "incomplete" if header.version == VERSION else f"of version {header.version}, {VERSION} is expected"
        raise UserError(f"{path} is {reason}; {HINT}")
    size, wanted = path.stat().st_size, HEADER_BYTES + header.tokens * header.dtype.itemsize
    if size != wanted:
        raise UserError(f"{path} is truncated or damaged: it has {size} bytes, {wanted} are expected; {HINT}")
    for name in ("vocab_size", "tokenizer_sha256", "text_sha256", "part"):
        if expected is not None and getattr(header, name) != getattr(expected, name):
            raise UserError(
                f"{path} was made from something else ({name} is {getattr(header, name)}, {getattr(expected, name)} is "
                f"expected); {HINT}"
            )
    if not header.tokens:  # an empty file cannot be mapped
        return TokenFile(header, np.empty(0, header.dtype), path)
    return TokenFile(header, np.memmap(path, header.dtype, "r", offset=HEADER_BYTES, shape=(header.tokens,)), path)


def _check_types(header: Header) -> None:
    """Raise ValueError where a field is of another type than it is declared, or a number is negative."""
    for field in dataclasses.fields(header):
        value = getattr(header, field.name)
        if field.name == "part":
            fits = [type(place) for place in value] == [int, int] and min(value) >= 0
        else:
            fits = type(value) is field.type and (field.type is not int or value >= 0)
        if not fits:
            raise ValueError(f"{field.name} is {value!r:.40}")


def check_ids(ids: np.ndarray, vocab_size: int, path: Path | None) -> np.ndarray:
    """Give back ids that were read of a token file, once they are seen to be of the vocabulary.

    The header says nothing of the ids themselves: to read all of a large file for that at each start takes too long.

    Raises:
        UserError: if one is not, which only a damaged file has.
    """
    largest = int(ids.max(initial=0))
    if largest >= vocab_size:
        raise UserError(
            f"{path or 'the tokens in memory'}: the id {largest} was found, less than {vocab_size} (the size of the "
            f"vocabulary) is expected; the file is damaged: {HINT}"
        )
    return ids


def _packed(header: Header) -> bytes:
    raw = MAGIC + json.dumps(dataclasses.asdict(header)).encode()
    assert len(raw) <= HEADER_BYTES, "a header of more than 4096 bytes"
    return raw.ljust(HEADER_BYTES)
