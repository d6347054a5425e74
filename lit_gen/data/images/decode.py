"""One image file, as an image in grey or RGB: only the formats that are expected, and bounded in size."""

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

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
    try:
        with Image.open(path, formats=FORMATS) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise ValueError(f"{opened.width}x{opened.height} pixels")
            return levels.of_picture(opened, channels, str(path))
    except UserError:
        raise
    except Exception as error:  # decoders raise anything for damaged files, and for a picture that is too large
        raise UserError(f"{path} is no readable image ({str(error)[:200]}); mend it or move it away") from None


def as_array(image: Image.Image) -> np.ndarray:
    """A grey or RGB image as uint8 (C, H, W)."""
    return np.ascontiguousarray(np.atleast_3d(np.asarray(image, dtype=np.uint8)).transpose(2, 0, 1))
