"""Zip archives that all readers read alike: what the check sees is what PyTorch loads.

A zip file says in several places where its directory is. Python's zipfile looks before the end record, PyTorch where
that record points: a file with two directories is one archive to the first and another to the second.
"""

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")  # of ZIP64, directly before the end record
_RECORD = struct.Struct("<4sQ2H2L4Q")  # of ZIP64, directly before its locator
_ZIP64 = 1  # what a part's extra field is called that holds its large sizes


def opened(source: Path | IO[bytes]) -> zipfile.ZipFile:
    """Open an archive for reading, after a check: one directory, nothing before or behind it, no part twice.

    Raises:
        zipfile.BadZipFile: if it is not an archive, or two readers may read it differently.
        OSError: if it cannot be read.
    """
    archive = zipfile.ZipFile(source)
    try:
        if (reason := _ambiguous(archive)) is not None:
            raise zipfile.BadZipFile(reason)
    except BaseException:
        archive.close()
        raise
    return archive


def _ambiguous(archive: zipfile.ZipFile) -> str | None:
    file, parts = archive.fp, archive.infolist()
    assert file is not None
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size - _LOCATOR.size - _RECORD.size))
    tail = file.read()
    file.seek(0)
    if tail[-_END.size :][:4] != b"PK\5\6" or tail[-2:] != b"\0\0":
        return "something stands behind the end of its directory"
    _, _, _, here, total, length, offset, _ = _END.unpack(tail[-_END.size :])
    end = size - _END.size
    locator = tail[: -_END.size][-_LOCATOR.size :]
    if locator[:4] == b"PK\6\7":
        end -= _LOCATOR.size + _RECORD.size
        if _LOCATOR.unpack(locator)[2] != end or tail[:4] != b"PK\6\6":
            return "its end records contradict each other"
        here, total, length, offset = _RECORD.unpack(tail[: _RECORD.size])[6:]
    if offset + length != end or not here == total == len(parts):
        return "its directory is not where its end record says"
    if file.read(4) != b"PK\3\4" or min((part.header_offset for part in parts), default=0) != 0:
        return "something stands before its first part"
    if any(part.orig_filename != part.filename for part in parts):  # zipfile cuts a name at a NUL
        return "the name of a part holds a NUL"
    if len({part.filename.lower() for part in parts}) != len(parts):  # PyTorch takes upper and lower case as one
        return "a part is there twice"
    if any(list(_extra_fields(part)).count(_ZIP64) > 1 for part in parts):
        return "a part has two sizes"
    if any(part.compress_type == zipfile.ZIP_STORED and part.compress_size != part.file_size for part in parts):
        return "a part has two sizes"
    if sum(part.compress_size for part in parts) > size:
        return "its parts overlap"
    return "its parts are encrypted" if any(part.flag_bits & 1 for part in parts) else None


def _extra_fields(part: zipfile.ZipInfo) -> Iterator[int]:
    """What the extra fields of a part are called."""
    place = 0
    while place + 4 <= len(part.extra):
        name, length = struct.unpack_from("<2H", part.extra, place)
        yield name
        place += 4 + length
