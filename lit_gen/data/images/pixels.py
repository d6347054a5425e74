"""Pixels of any mode and range as levels 0..255: unchanged, scaled, which the run says, or refused.

The scale depends on the mode, never on one picture, so all pictures of a set are scaled alike.
"""

import threading
from collections.abc import Iterator
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from lit_gen.core.errors import UserError

GREY, COLOUR, FRAMES, CLEAR = (
    "of 16-bit grey",
    "of 16-bit colour",
    "with several frames",
    "with transparency",
)
INTEGERS, UNIT, SIGNED, TRUTH = "of integers", "of floats in [0, 1]", "of floats in [-1, 1]", "of true and false"
_ROUNDING = 1e-3  # of floats, outside their range: less than half a level


class Levels:
    """Converts the pictures and arrays of one set, and remembers what was not of 8 bits; threads may share it.

    Args:
        source: what sentences about the whole set call it.
        bits: bits of a level if the mode has more than 8; None: all bits of the mode.
    """

    def __init__(self, source: str, bits: int | None = None) -> None:
        self.source, self.bits = source, bits
        self._met: dict[str, tuple[int, float, float]] = {}  # what: how many, smallest and largest level
        self._lock = threading.Lock()

    def of_picture(self, image: Image.Image, channels: Literal[1, 3] | None, where: str) -> Image.Image:
        """A picture, turned upright (EXIF), laid on white where it is transparent, in grey or RGB.

        Args:
            image: of any mode.
            channels: 1 for grey, 3 for RGB; None for grey if the picture is.
            where: what the picture is called.

        Raises:
            UserError: if its levels are outside the range of its mode.
        """
        wide = _is_wide(image)
        if getattr(image, "is_animated", False):
            self._note(FRAMES)
        image = ImageOps.exif_transpose(image)
        if channels is None:
            channels = 1 if image.mode in ("1", "L", "LA", "La") or image.mode[0] in "IF" else 3
        if image.mode[0] in "IF":
            image = self._deep(image, where)
        elif wide:
            image = self._colour(image, where)
        if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            if np.asarray(image.getchannel("A")).min() < 255:
                self._note(CLEAR)
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("L" if channels == 1 else "RGB")

    def of_array(self, array: np.ndarray, where: str, count: int = 1) -> np.ndarray:
        """An array of any numbers as uint8, of the same shape.

        Levels are uint8, or other integers from 0 to 255; floats are in [-1, 1]; uint16 is scaled.

        Raises:
            UserError: if they have another range.
        """
        kind = array.dtype.kind
        if array.dtype == np.uint8 or not array.size:
            return array.astype(np.uint8, copy=False)
        if kind == "b":
            self._note(TRUTH, count=count)
            return array.astype(np.uint8) * np.uint8(255)
        if kind == "f":
            low, high = _range(array, where)
            if min(low + 1, 1 - high) < -_ROUNDING:
                raise UserError(f"{where}: floats from {low:.6g} to {high:.6g} were found, {_EXPECTED}")
            self._note(SIGNED, low, high, count)
            return ((array.astype(np.float32) + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
        if kind not in "iu":
            raise UserError(f"{where}: {array.dtype} was found, {_EXPECTED}")
        low, high = _range(array, where)
        if array.dtype == np.uint16 or self.bits is not None:
            self._note(GREY, low, high, count)
            return _scaled(array, self.bits or 16, where)
        if low < 0 or high > 255:
            raise UserError(
                f"{where}: {array.dtype} levels from {low:.0f} to {high:.0f} were found, 0 to 255 are expected, or "
                f"uint16 for levels of 16 bits, or data.bits, which TensorSet has"
            )
        self._note(INTEGERS, low, high, count)
        return array.astype(np.uint8)

    def said(self) -> list[str]:
        """Sentences about the set's pixels for the user; called when all are converted.

        Raises:
            UserError: if all of them together have a range that is not accepted.
        """
        if self.bits is not None and GREY not in self._met:
            raise UserError(f"data.bits: {self.bits} was found, but {self.source} has no levels of more than 8 bits")
        for what, kind in ((SIGNED, "floats"), (INTEGERS, "integers")):
            _, low, high = self._met.get(what, (0, -1, 2))
            if low >= 0 and (what == SIGNED or high <= 1):
                hint = "; torchvision's ToTensor gives [0, 1], Normalize([0.5], [0.5]) after it [-1, 1]"
                raise UserError(
                    f"{self.source}: {kind} from {low:.6g} to {high:.6g} were found, {_EXPECTED}"
                    f"{hint if what == SIGNED else ''}"
                )
        return [sentence for what in sorted(self._met) for sentence in self._sentences(what)]

    def _sentences(self, what: str) -> Iterator[str]:
        count, _, high = self._met[what]
        images = f"{self.source}: {count:,} {'image' if count == 1 else 'images'} {what}"
        if what == GREY:
            bits = self.bits or 16
            used = int(high).bit_length()
            hint = f"; the largest is {high:.0f}, which has {used} bits: data.bits {max(used, 8)} scales by that"
            yield f"{images}: 0 to {2**bits - 1} became 0 to 255{hint if 0 < used < bits - 1 else ''}"
        elif what == COLOUR:
            yield f"{images}: the upper 8 bits are taken{f'; the largest is {high:.0f} of 255' if high < 64 else ''}"
        elif what == FRAMES:
            yield f"{images}: the first is taken"
        elif what == CLEAR:
            yield f"{images}: laid on white"
        elif what == UNIT:
            yield f"{images}: 0 to 1 became 0 to 255"
        elif what == TRUTH:
            yield f"{images}: they became 255 and 0"
        elif what == INTEGERS:
            yield f"{images} from {self._met[what][1]:.0f} to {high:.0f}: taken as levels of 0 to 255"

    def _deep(self, image: Image.Image, where: str) -> Image.Image:
        """Grey of 16 or 32 bits, or of floats, as grey of 8 bits; white where it is transparent."""
        array = np.asarray(image)
        low, high = _range(array, where)
        if image.mode[0] == "F":
            if low < -_ROUNDING or high > 1 + _ROUNDING:
                raise UserError(
                    f"{where}: floats from {low:.6g} to {high:.6g} were found, 0 to 1 is expected of a file"
                )
            self._note(UNIT, low, high)
            levels = (array * 255).round().clip(0, 255).astype(np.uint8)
        else:
            levels = _scaled(array, self.bits or 16, where)
            self._note(GREY, low, high)
        if isinstance(clear := image.info.get("transparency"), int | float):
            if (array == clear).any():
                self._note(CLEAR)
            levels = np.where(array == clear, np.uint8(255), levels)
        return Image.fromarray(levels)

    def _colour(self, image: Image.Image, where: str) -> Image.Image:
        """Colour, or grey with alpha, of 16 bits: PIL has taken the upper 8."""
        if self.bits is not None:
            raise UserError(f"{where}: data.bits scales grey levels, 16-bit {image.mode} was found")
        bands = np.atleast_2d(image.getextrema())
        self._note(COLOUR, 0, int(bands[: 3 if len(bands) >= 3 else 1].max()))
        if isinstance(clear := image.info.get("transparency"), tuple):
            image.info["transparency"] = tuple(level >> 8 for level in clear)
        return image

    def _note(self, what: str, low: float = 0, high: float = 0, count: int = 1) -> None:
        with self._lock:
            before, least, most = self._met.get(what, (0, low, high))
            self._met[what] = before + count, min(low, least), max(high, most)


_EXPECTED = "levels 0 to 255 or floats in [-1, 1] are expected"


def _is_wide(image: Image.Image) -> bool:
    """Whether a file that is not read yet has 16 bits per channel, of which PIL will take 8."""
    for tile in getattr(image, "tile", None) or []:
        args = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        return bool(args and ";16" in str(args[0]) and image.mode[0] not in "IF")
    return False


def _range(array: np.ndarray, where: str) -> tuple[float, float]:
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise UserError(f"{where}: NaN or infinite levels were found, {_EXPECTED}")
    return low, high


def _scaled(array: np.ndarray, bits: int, where: str) -> np.ndarray:
    top = 2**bits - 1
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > top:
        raise UserError(
            f"{where}: levels from {low} to {high} were found, 0 to {top} ({bits} bits) are expected; data.bits says "
            f"how many bits a level has, up to 32"
        )
    levels: np.ndarray = (array.astype(np.int64) * 255 + top // 2) // top
    return levels.astype(np.uint8)
