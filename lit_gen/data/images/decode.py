"""One image file, as an image in grey or RGB: only the formats that are expected, and bounded in size."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageFile, ImageOps

from lit_gen.core.errors import UserError
from lit_gen.data.images.pixels import Levels

FORMATS = ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"]
"""The formats that are read, by content, not by name: Pillow would start Ghostscript for an EPS file."""
MOST_PIXELS = 100_000_000


def read_image(path: Path, channels: Literal[1, 3], levels: Levels) -> Image.Image:
    """An image file in grey or RGB, as `Levels.of_picture` makes it.

    Raises:
        UserError: if it cannot be read.
    """
    with _opened(path) as opened:
        return levels.of_picture(opened, channels, str(path))


def read_levels(path: Path, levels: Levels) -> np.ndarray:
    """An image file (C, H, W) with the channels and levels that it has: uint16 as `of_16_bits` reads it, else uint8.

    What is neither grey nor RGB is what `Levels.of_picture` makes of it.

    Raises:
        UserError: if it cannot be read.
    """
    wide = of_16_bits(path)
    if wide is not None:
        return wide
    with _opened(path) as opened:
        return as_array(levels.of_picture(opened, None, str(path)))


def of_16_bits(path: Path) -> np.ndarray | None:
    """The levels, uint16 (C, H, W), of a file of 16-bit grey or a PNG of 16-bit colour; None for another file.

    None also for one with transparency.

    Raises:
        UserError: if it cannot be read, or for levels beyond 16 bits.
    """
    with _opened(path) as image:
        if "transparency" in image.info:
            return None
        if image.mode[0] == "I":
            array = np.asarray(ImageOps.exif_transpose(image))
            if array.min() < 0 or array.max() > 65535:
                found = f"levels from {array.min()} to {array.max()} were found"
                raise UserError(f"{path}: {found}, 0 to 65535 are expected")
            return array.astype(np.uint16)[None]
        if image.format != "PNG" or image.mode != "RGB" or [str(tile[3]) for tile in image.tile] != ["RGB;16B"]:
            return None
        upper = as_array(ImageOps.exif_transpose(image))
    with _opened(path) as image:  # Pillow keeps one byte of two: in the other order it is the lower
        image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
        lower = as_array(ImageOps.exif_transpose(image))
    return np.asarray(256 * upper.astype(np.uint16) + lower)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    try:
        with Image.open(path, formats=FORMATS) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise ValueError(f"{opened.width}x{opened.height} pixels")
            yield opened
    except UserError:
        raise
    except Exception as error:  # decoders raise anything for damaged files, and for a picture that is too large
        raise UserError(f"{path} is no readable image ({str(error)[:200]}); mend it or move it away") from None


def as_array(image: Image.Image) -> np.ndarray:
    """A grey or RGB image as uint8 (C, H, W)."""
    return np.ascontiguousarray(np.atleast_3d(np.asarray(image, dtype=np.uint8)).transpose(2, 0, 1))
