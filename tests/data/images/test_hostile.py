"""Pictures of others: bounded, one sentence, no program started for one."""

import struct
import time
import zlib

import pytest
from PIL import Image

from lit_gen.core.errors import UserError
from lit_gen.data.images.decode import read_image
from lit_gen.data.images.folder import read_images
from lit_gen.data.images.pixels import Levels

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(EXECUTED) (w) file closefile\nshowpage\n"


def png(width, height, data=b"", more=b""):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + more + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def text(size):
    content = b"Comment\0\0" + zlib.compress(bytes(size))
    return struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))


FILES = {
    "60,000 x 60,000": png(60_000, 60_000),
    "12,000 x 12,000": png(12_000, 12_000),
    "1 x 2,000,000,000": png(1, 2_000_000_000),
    "a comment without end": png(2, 2, bytes(6), text(300_000_000)),
    "no pixels": png(2, 2),
    "a program for Ghostscript": EPS,
    "a vector graphic": b"\xd7\xcd\xc6\x9a" + bytes(40),
    "an icon": b"icns" + bytes(40),
    "a table": b"SIMPLE  =                    T" + bytes(2880),
    "nothing": b"",
    "text": b"hello",
    "a bitmap of terabytes": b"BM"
    + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_it_is_refused_in_a_moment(tmp_path, name):
    path = tmp_path / "x.png"
    path.write_bytes(FILES[name])
    begun = time.process_time()
    with pytest.raises(UserError, match=r"x\.png is no readable image"):
        read_image(path, 3, Levels("x"))
    with pytest.raises(UserError, match=r"x\.png is no readable image"):
        read_images(tmp_path, 1, "--reference")
    assert time.process_time() - begun < 2
    assert not (tmp_path / "EXECUTED").exists()


def test_what_is_a_picture_is_read(tmp_path):
    for kind in ("png", "jpeg", "bmp", "gif", "tiff", "webp", "ppm"):
        Image.new("RGB", (5, 4), "red").save(tmp_path / f"x.{kind}")
        assert read_image(tmp_path / f"x.{kind}", 3, Levels("x")).size == (5, 4)
