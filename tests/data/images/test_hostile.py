"""Pictures of others: bounded, one sentence, no program started for one."""

import contextlib
import os
import struct
import tracemalloc
import zlib

import pytest
from PIL import EpsImagePlugin, Image

from lit_gen.core.errors import UserError
from lit_gen.data.images.decode import read_image
from lit_gen.data.images.files import read_images
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


BITMAP = struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0)
FILES = {
    "60,000 x 60,000": lambda: png(60_000, 60_000),
    "12,000 x 12,000": lambda: png(12_000, 12_000),
    "1 x 2,000,000,000": lambda: png(1, 2_000_000_000),
    "a comment without end": lambda: png(2, 2, bytes(6), text(300_000_000)),
    "no pixels": lambda: png(2, 2),
    "a program for Ghostscript": lambda: EPS,
    "a vector graphic": lambda: b"\xd7\xcd\xc6\x9a" + bytes(40),
    "an icon": lambda: b"icns" + bytes(40),
    "a table": lambda: b"SIMPLE  =                    T" + bytes(2880),
    "nothing": lambda: b"",
    "text": lambda: b"hello",
    "a bitmap of terabytes": lambda: b"BM" + BITMAP,
}
LARGE = {"60,000 x 60,000", "12,000 x 12,000", "1 x 2,000,000,000", "a bitmap of terabytes"}


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """What a Ghostscript leaves behind that is started; the real one may not be installed."""
    room = tmp_path / "elsewhere"
    room.mkdir()
    (room / "gs").write_text(f"#!/bin/sh\ntouch '{room}/EXECUTED'\nexit 1\n", encoding="utf-8")
    (room / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(room), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # Pillow looks for it once
    return room / "EXECUTED"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_it_is_refused_and_takes_no_memory(tmp_path, name, executed):
    folder = tmp_path / "pictures"
    folder.mkdir()
    path = folder / "x.png"
    path.write_bytes(FILES[name]())
    tracemalloc.start()
    try:
        told = r" \(.*pixels" if name in LARGE else ""  # Pillow's own memory is not traced
        with pytest.raises(UserError, match=rf"x\.png is no readable image{told}"):
            read_image(path, 3, Levels("x"))
        with pytest.raises(UserError, match=r"x\.png is no readable image"):
            read_images(folder, 1, "--reference")
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert not executed.exists()


@pytest.mark.skipif(os.name == "nt", reason="Ghostscript is a script here")
def test_what_pillow_would_do_with_one(tmp_path, executed):
    """The program is live: Pillow itself starts Ghostscript for it."""
    (tmp_path / "x.png").write_bytes(EPS)
    with contextlib.suppress(Exception), Image.open(tmp_path / "x.png") as opened:
        opened.load()
    assert executed.exists()


def test_what_is_a_picture_is_read(tmp_path):
    for kind in ("png", "jpeg", "bmp", "gif", "tiff", "webp", "ppm"):
        Image.new("RGB", (5, 4), "red").save(tmp_path / f"x.{kind}")
        assert read_image(tmp_path / f"x.{kind}", 3, Levels("x")).size == (5, 4)
