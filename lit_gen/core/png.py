"""Images of [-1, 1] as PNG files of 8 or 16 bits; Pillow writes no colour of 16 bits."""

import struct
import zlib
from pathlib import Path

import numpy as np
from torch import Tensor

from lit_gen.core.files import whole
from lit_gen.core.images import level_of, quantize, save_png
from lit_gen.core.ours import SOFTWARE

WIDE = 65536  # levels of 16 bits
COLOURS = {1: 0, 3: 2}  # channels, and PNG's number of the kind of colour


def bits_of(levels: int | None) -> int:
    """Bits of a channel that a PNG needs for so many grey levels: 8 or 16; 8 where they are not known."""
    return 16 if levels is not None and levels > 256 else 8


def save_image(image: Tensor, path: Path, bits: int = 8, flush: bool = True) -> None:
    """Write one image, rounded to the nearest level and clamped, so that a reader never meets half a file.

    Args:
        image: float (C, H, W) in [-1, 1], with one or three channels.
        path: the file.
        bits: of a channel, 8 or 16.
        flush: whether to wait until it is on the disk, see `lit_gen.core.files.whole`.
    """
    if bits == 8:
        save_png(quantize(image), path, flush)
        return
    numbers = level_of(image.detach().cpu().float(), WIDE).permute(1, 2, 0).numpy().astype(">u2")
    with whole(path, flush=flush) as partial:
        partial.write_bytes(_encoded(numbers))


def _encoded(numbers: np.ndarray) -> bytes:
    """A PNG file of levels (H, W, C), big-endian uint16; https://www.w3.org/TR/png-3, sections 5, 7 and 11."""
    height, width, channels = numbers.shape
    rows = np.ascontiguousarray(numbers).view(np.uint8).reshape(height, -1)
    scanlines = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)  # each begins with its filter, none
    header = struct.pack(">IIBBBBB", width, height, 16, COLOURS[channels], 0, 0, 0)
    said = b"Software\0" + SOFTWARE.encode("ascii")
    parts = {b"IHDR": header, b"tEXt": said, b"IDAT": zlib.compress(scanlines.tobytes()), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts.items())


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
