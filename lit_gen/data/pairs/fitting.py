"""One pair from disk as tensors: its sizes, channels and levels, which all pairs of a set share."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lit_gen.core.errors import UserError
from lit_gen.core.images import level_of, of_level
from lit_gen.core.options import expect
from lit_gen.data.pairs.reading import Side

TRIES = 100  # draws of a window until it holds more than a hole
DEEP = 65536
"""Levels of 16 bits."""


class Pair(NamedTuple):
    """A decoded pair."""

    source: Tensor
    """uint8 (C, h, w); float32 in [-1, 1] of 16 bits."""
    target: Tensor
    """uint8 or float32 (C', factor * h, factor * w)."""
    factor: int
    names: tuple[str, str]
    """What messages call both."""


class Window(NamedTuple):
    """What is taken of a pair, in pixels of the source."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False

    def of(self, image: Tensor, factor: int = 1) -> Tensor:
        """That part of an image (C, H, W) that is ``factor`` times larger."""
        top, left, height, width = (factor * n for n in self[:4])
        part = image[:, top : top + height, left : left + width]
        return part.flip(-1) if self.mirrored else part


def drawn_window(
    generator: np.random.Generator, size: tuple[int, int], taken: tuple[int, int], flip: bool, hole: Tensor | None
) -> Window:
    """A random part of a source, drawn anew where nothing but a hole would be taken.

    Args:
        generator: of the draws.
        size: height and width of the source.
        taken: those of the part.
        flip: whether it may be mirrored.
        hole: bool (1, height, width), true where nothing is left; None without masks.
    """
    rooms = [whole - part for whole, part in zip(size, taken, strict=True)]
    for _ in range(TRIES):
        top, left = (int(generator.integers(0, room + 1)) for room in rooms)
        window = Window(top, left, *taken)
        if hole is None or not window.of(hole).all():
            break
    return window._replace(mirrored=flip and bool(generator.random() < 0.5))


def fitted(source: Side, target: Side, load_size: int | None) -> Pair:
    """A pair as tensors, resized.

    Args:
        source: what is changed.
        target: what it becomes.
        load_size: height and width of the target; None for its own.

    Raises:
        UserError: unless the target is as large as the source, or a whole number of times larger.
    """
    (height, width), (high, wide) = source.pixels.shape[1:], target.pixels.shape[1:]
    factor = high // height
    if factor < 1 or (height * factor, width * factor) != (high, wide):
        raise UserError(
            f"{target.where} is {wide}x{high}, but its source, {source.where}, is {width}x{height}; the same size, or "
            f"one that is a whole number of times larger, is expected"
        )
    tensors = [_tensor(side.pixels) for side in (source, target)]
    if load_size is not None:
        if load_size % factor:
            raise UserError(
                f"data.load_size: {load_size} was found, a multiple of {factor} is expected, since targets are "
                f"{factor} times larger"
            )
        tensors = [_resized(x, size) for x, size in zip(tensors, (load_size // factor, load_size), strict=True)]
    return Pair(tensors[0], tensors[1], factor, (source.where, target.where))


def check_alike(pair: Pair, first: Pair, crop_size: int | None) -> None:
    """Refuse a pair that is not like the first one of its set.

    Raises:
        UserError: if its channels, bits, factor, or, without ``crop_size``, sizes are others.
    """
    for image, other, where, there in zip(pair[:2], first[:2], pair.names, first.names, strict=True):
        assert isinstance(image, Tensor)
        assert isinstance(other, Tensor)
        if len(image) != len(other):
            raise UserError(f"{where} has {_channels(image)}, but {there} has {_channels(other)}; one kind is expected")
        if image.dtype != other.dtype:
            bits = [16 if x.is_floating_point() else 8 for x in (image, other)]
            raise UserError(f"{where} has {bits[0]} bits, but {there} has {bits[1]}; one kind is expected")
        if crop_size is None and image.shape != other.shape:
            raise UserError(
                f"{where} is {_size(image)}, but {there} is {_size(other)}; set data.load_size or data.crop_size"
            )
    if pair.factor != first.factor:
        raise UserError(
            f"{pair.names[1]} is {pair.factor} times larger than its source, but {first.names[1]} {first.factor} "
            f"times; one factor is expected"
        )
    if crop_size is not None and min(pair.target.shape[1:]) < crop_size:
        raise UserError(f"{pair.names[1]} is {_size(pair.target)}, smaller than data.crop_size {crop_size}")


def check_crop(crop_size: int | None, load_size: int | None, factor: int) -> None:
    """Refuse a crop that is larger than the image, or no multiple of the factor."""
    if crop_size is not None:
        most = "" if load_size is None else f" of at most load_size ({load_size})"
        good = crop_size % factor == 0 and crop_size <= (load_size or crop_size)
        expect(good, "data.crop_size", crop_size, f"a multiple of {factor}{most}")


def stacked(rows: list[Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Images of one shape, perhaps none, (n, *shape)."""
    return torch.stack(rows) if rows else torch.zeros(0, *shape, dtype=dtype)


def _tensor(pixels: np.ndarray) -> Tensor:
    if pixels.dtype == np.uint8:
        return torch.from_numpy(np.array(pixels))
    return of_level(torch.from_numpy(pixels.astype(np.int32)), DEEP)


def _resized(image: Tensor, size: int) -> Tensor:
    """Bicubic as PIL's, at the levels that an image has."""
    if image.shape[1:] == (size, size):
        return image
    found = F.interpolate(image[None].float(), (size, size), mode="bicubic", antialias=True)[0]
    if image.dtype == torch.uint8:
        return found.round().clamp(0, 255).to(torch.uint8)
    return of_level(level_of(found, DEEP), DEEP)


def _size(image: Tensor) -> str:
    return f"{image.shape[2]}x{image.shape[1]}"


def _channels(image: Tensor) -> str:
    return f"{len(image)} {'channel' if len(image) == 1 else 'channels'}"
