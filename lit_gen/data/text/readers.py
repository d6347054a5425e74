"""Texts from files, piece by piece: UTF-8 text, JSON lines, Parquet. Line ends stay as they are."""

import codecs
import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_gen.core.errors import UserError, nearest

BLOCK = 1 << 20
"""Bytes that are read at a time."""

LONGEST_LINE = 1 << 28
"""Bytes of one JSON object; a packed file may unpack to a thousand times its size."""


def read_text(path: Path) -> Iterator[str]:
    """The text of a UTF-8 file in pieces.

    Raises:
        UserError: if it is not UTF-8, with the offset of the first wrong byte, or cannot be read.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0  # of what the decoder sees next: its rest of an unfinished character, then the block
    with reading(path), path.open("rb") as file:
        while True:
            block = file.read(BLOCK)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                raise UserError(_not_utf8(path, offset + error.start, error.object[error.start])) from None
            if text:
                yield text
            if not block:
                return
            offset = file.tell() - len(decoder.getstate()[0])


def read_json_lines(path: Path, column: str | None) -> Iterator[str]:
    """The strings under ``column`` of a file with one JSON object a line, perhaps gzipped; blank lines are skipped.

    Raises:
        UserError: with the line's number: no JSON object, not UTF-8, or no string under ``column``.
    """
    with reading(path), gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        offset = 0
        for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
            if len(raw) == LONGEST_LINE:
                raise UserError(f"{path}, line {number}: {LONGEST_LINE:,} bytes were found, one document is expected")
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(_not_utf8(path, offset + error.start, raw[error.start])) from None
            offset += len(raw)
            if line.strip():
                yield _field(line, column, f"{path}, line {number}")


def _field(line: str, column: str | None, where: str) -> str:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise UserError(f"{where}: {line.strip()[:40]!r} was found, one JSON object per line is expected")
    _check_column(column, list(record), where)
    return _string(record[column], column, where)


def read_parquet(path: Path, column: str | None) -> Iterator[str]:
    """The strings in ``column`` of a Parquet file, read batch by batch.

    Raises:
        UserError: if there is no such column, it holds no strings, the file is damaged, or pyarrow is missing.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{path}: Parquet needs the package pyarrow, which is missing; pip install pyarrow") from None
    try:
        with reading(path), parquet.ParquetFile(path) as file:
            _check_column(column, file.schema_arrow.names, str(path))
            row = 0
            for batch in file.iter_batches(batch_size=1024, columns=[column]):
                for value in batch.column(0).to_pylist():
                    row += 1
                    yield _string(value, column, f"{path}, row {row}")
    except pyarrow.ArrowException as error:
        raise UserError(f"{path} is no readable Parquet file ({str(error).splitlines()[0]})") from None


def _check_column(column: str | None, columns: list[str], where: str) -> None:
    if column not in columns:
        raise UserError(
            f"data.column: {'nothing' if column is None else repr(column)} was found, the column that holds the text "
            f"is expected; {where}, has {', '.join(map(repr, columns)) or 'none'}{nearest(column or '', columns)}"
        )


def _string(value: Any, column: str | None, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: {column!r} holds {value!r:.40}, a string is expected")
    with contextlib.suppress(UnicodeEncodeError):
        value.encode("utf-8")
        return value
    raise UserError(f"{where}: {column!r} holds half a surrogate pair, which is no character")


def _not_utf8(path: Path, offset: int, byte: int) -> str:
    return f"{path} is not UTF-8: byte 0x{byte:02x} at offset {offset}; convert it (iconv -f latin1 -t utf-8, say)"


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the system says of a file that cannot be read into a sentence that names it."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:  # a wrong gzip is an OSError
        raise UserError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from None
