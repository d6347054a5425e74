"""Texts from files, piece by piece: UTF-8 text, JSON lines, CSV, Parquet. Line ends stay as they are.

The first bytes of a file and its name say what it is: a byte order mark is dropped, and what is not text is named.
"""

import codecs
import contextlib
import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

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
        if _is_marked(file, path):
            offset = len(codecs.BOM_UTF8)
        while True:
            block = file.read(BLOCK)
            if (place := block.find(0)) >= 0:
                raise UserError(_nul(path, file.tell() - len(block) + place))
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
    """The strings under ``column`` of a file with one JSON object a line; see `json_records`.

    Raises:
        UserError: with the line's number, as there, or if there is no string under ``column``.
    """
    for where, record in json_records(path):
        _check_column(column, list(record), where)
        yield text_of(record[column], column, where)


def json_records(path: Path) -> Iterator[tuple[str, dict[Any, Any]]]:
    """The objects of a file with one JSON object a line, each after where it stands; blank lines are skipped.

    The file may be compressed by gzip or zstd.

    Raises:
        UserError: with the line's number: not a JSON object, or not UTF-8.
    """
    with reading(path), _unpacked(path) as file:
        offset = 0
        for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
            if len(raw) == LONGEST_LINE:
                raise UserError(f"{path}, line {number}: {LONGEST_LINE:,} bytes were found, one document is expected")
            start = len(codecs.BOM_UTF8) if number == 1 and raw.startswith(codecs.BOM_UTF8) else 0
            try:
                line = raw[start:].decode("utf-8")
            except UnicodeDecodeError as error:
                place = start + error.start
                raise UserError(_not_utf8(path, offset + place, raw[place])) from None
            offset += len(raw)
            if line.strip():
                yield f"{path}, line {number}", _object(line, f"{path}, line {number}")


def read_table(path: Path, column: str | None) -> Iterator[str]:
    """The strings in ``column`` of a ``.csv`` or ``.tsv``; see `table_records`."""
    for _, record in table_records(path, column):
        assert column is not None
        yield record[column]


def table_records(path: Path, *columns: str | None) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a ``.csv`` or ``.tsv`` whose first line names the columns, each after where it ends.

    Raises:
        UserError: if one of ``columns`` is missing; with the line's number: broken quotes, another number of fields; or
            as `read_text`.
    """
    csv.field_size_limit(2**31 - 1)  # documents are long
    lines = csv.reader(_lines(read_text(path)), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    try:
        names = next(lines, [])
        for column in columns:
            _check_column(column, names, str(path))
            if column is not None and names.count(column) > 1:
                raise UserError(f"{path}: {names.count(column)} columns are called {column!r}, one is expected")
        for fields in lines:
            if fields and len(fields) != len(names):
                raise UserError(
                    f"{path}, line {lines.line_num}: {len(fields)} fields were found, {len(names)} are expected"
                )
            if fields:
                yield f"{path}, line {lines.line_num}", dict(zip(names, fields, strict=True))
    except csv.Error as error:
        raise UserError(f"{path}, line {lines.line_num}: broken CSV ({error})") from None


def _lines(pieces: Iterator[str]) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        yield from (f"{line}\n" for line in whole)
    if rest:
        yield rest


BINARY = {
    b"\x1f\x8b": "compressed by gzip; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it",
    b"\xfd7zXZ\0": "compressed by xz; unpack it",
    b"BZh91AY&SY": "compressed by bzip2; unpack it",
    b"PK\x03\x04": "a ZIP archive, as .docx, .odt and .epub are; save what it holds as plain text",
    b"\xd0\xcf\x11\xe0": "an old Office document; save it as plain text",
    b"%PDF-": "a PDF; extract its text (pdftotext)",
    b"{\\rtf": "RTF; save it as plain text",
    codecs.BOM_UTF32_LE: "UTF-32; convert it (iconv -f utf-32 -t utf-8)",
    codecs.BOM_UTF32_BE: "UTF-32; convert it (iconv -f utf-32 -t utf-8)",
    codecs.BOM_UTF16_LE: "UTF-16; convert it (iconv -f utf-16 -t utf-8)",
    codecs.BOM_UTF16_BE: "UTF-16; convert it (iconv -f utf-16 -t utf-8)",
}
"""What a file with these first bytes is, and what to do; the first match counts."""


def _is_marked(file: IO[bytes], path: Path) -> bool:
    """Whether a file of text begins with UTF-8's byte order mark, which is then read.

    Raises:
        UserError: if it does not begin as a text does.
    """
    head = file.read(16)
    for magic, what in BINARY.items():
        if head.startswith(magic):
            raise UserError(f"{path} is {what}")
    marked = head.startswith(codecs.BOM_UTF8)
    file.seek(len(codecs.BOM_UTF8) if marked else 0)
    return marked


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file of records, unpacked if it is compressed."""
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(b"\x1f\x8b") or path.suffix.lower() == ".gz":
        with gzip.open(path, "rb") as packed:
            yield cast(IO[bytes], packed)
    elif head == b"\x28\xb5\x2f\xfd" or path.suffix.lower() == ".zst":
        try:
            import pyarrow
        except ImportError:
            raise UserError(f"{path}: zstd needs the package pyarrow, which is missing; pip install pyarrow") from None
        with pyarrow.input_stream(str(path), compression="zstd") as stream:
            yield io.BufferedReader(stream, BLOCK)
    else:
        with path.open("rb") as file:
            _is_marked(file, path)
            file.seek(0)
            yield file


def _object(line: str, where: str) -> dict[Any, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # the latter for brackets in brackets
        record = None
    if not isinstance(record, dict):
        raise UserError(f"{where}: {line.strip()[:40]!r} was found, one JSON object per line is expected")
    return record


def read_parquet(path: Path, column: str | None) -> Iterator[str]:
    """The strings in ``column`` of a Parquet file, read batch by batch.

    Raises:
        UserError: if there is no such column, if it does not hold strings, the file is damaged, or pyarrow is missing.
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
                    yield text_of(value, column, f"{path}, row {row}")
    except pyarrow.ArrowException as error:
        raise UserError(f"{path} is no readable Parquet file ({str(error).splitlines()[0]})") from None


def _check_column(column: str | None, columns: list[str], where: str) -> None:
    if column not in columns:
        raise UserError(
            f"data.column: {'nothing' if column is None else repr(column)} was found, the column that holds the text "
            f"is expected; {where}, has {', '.join(map(repr, columns)) or 'none'}{nearest(column or '', columns)}"
        )


def text_of(value: Any, column: str | None, where: str) -> str:
    """The text in a field of a record.

    Raises:
        UserError: if it is no string, or not one of characters only.
    """
    if not isinstance(value, str):
        raise UserError(f"{where}: {column!r} holds {value!r:.40}, a string is expected")
    if "\0" in value:
        raise UserError(f"{where}: {column!r} holds a NUL character, which is no text")
    with contextlib.suppress(UnicodeEncodeError):
        value.encode("utf-8")
        return value
    raise UserError(f"{where}: {column!r} holds half a surrogate pair, which is no character")


def _not_utf8(path: Path, offset: int, byte: int) -> str:
    return (
        f"{path} is not UTF-8: byte 0x{byte:02x} at offset {offset}; convert it from the encoding that it has "
        f"(iconv -f ENCODING -t utf-8), if it is a text"
    )


def _nul(path: Path, offset: int) -> str:
    return f"{path} is no UTF-8 text: a NUL byte at offset {offset}, as UTF-16 without a mark and binary files have"


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an error of a file that cannot be read into a sentence that names it."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:  # a wrong gzip is an OSError
        raise UserError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from None
