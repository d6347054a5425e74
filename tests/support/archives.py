"""Archives that two readers read differently."""

import io
import struct
import zipfile

HEADER = struct.Struct("<4s6H3L5H2L")


def packed(parts):
    """A plain archive of parts by name."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, part in parts.items():
            archive.writestr(zipfile.ZipInfo(name), part)
    return target.getvalue()


def parts_of(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {part.filename: archive.read(part) for part in archive.infolist()}


def two_in_one(python, pytorch):
    """Parts by name as zipfile sees them, and as PyTorch does; the names are the same, the latter's are larger."""
    first, second = _split(packed(pytorch)), _split(packed(python))
    length = max(len(first[1]), len(second[1]))
    begin = len(first[0]) + length
    # zipfile adds to the offset of each part what lies between where the directory is and where it is said to be
    shift = begin + len(second[0]) - len(first[0])
    directory = _moved(_padded(second[1], length), begin - shift)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(python), len(python), length, len(first[0]), 0)
    return first[0] + _padded(first[1], length) + second[0] + directory + end


def _split(content):
    length, begin = struct.unpack("<2L", content[-10:-2])
    return content[:begin], content[begin : begin + length]


def _padded(directory, length):
    """With a comment on its last part."""
    place = directory.rfind(b"PK\1\2")
    fields = list(HEADER.unpack_from(directory, place))
    fields[12] = length - len(directory)
    return directory[:place] + HEADER.pack(*fields) + directory[place + HEADER.size :] + b"x" * fields[12]


def _moved(directory, by):
    changed, place = b"", 0
    while place < len(directory):
        fields = list(HEADER.unpack_from(directory, place))
        length = HEADER.size + sum(fields[10:13])
        fields[16] += by
        changed += HEADER.pack(*fields) + directory[place + HEADER.size : place + length]
        place += length
    return changed
