"""Holes in images, each a function of ``(seed, purpose, step, index)``; see `lit_gen.data.images.degradations`."""

import math

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from lit_gen.core import randomness
from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least, expect
from lit_gen.data.images.degradations import Degradation, Observed, Rows

TRIES = 100  # draws of a free form until it leaves something


class Mask:
    """Base of what says where the holes of an image are."""

    name: str
    """What records call it."""

    def hole(self, generator: np.random.Generator, height: int, width: int) -> np.ndarray:
        """Draw bool (height, width), true where nothing is left."""
        raise NotImplementedError


class Holes(Degradation):
    """An image that is 0, the middle of the range, where a mask hides it.

    Args:
        mask: where.
    """

    def __init__(self, mask: Mask) -> None:
        self.mask = mask
        self.name = mask.name

    def __call__(self, images: Tensor, rows: Rows) -> Observed:
        """See `lit_gen.data.images.degradations.Degradation`.

        Raises:
            UserError: for a mask that hides a whole image.
        """
        height, width = images.shape[2:]
        drawn = [
            self.mask.hole(randomness.host(rows.seed, rows.purpose, rows.step, index), height, width)
            for index in rows.indices.tolist()
        ]
        holes = np.stack(drawn)
        if holes.all((1, 2)).any():
            raise UserError(f"data.degradation.mask: {self.name} hides a whole image of {height}x{width} pixels")
        hidden = torch.from_numpy(holes)[:, None].to(images.device)
        return Observed(images.masked_fill(hidden, 0), hidden.to(images.dtype))


class _Rectangle(Mask):
    """A rectangle in an image.

    Args:
        share: of the height and of the width, rounded to whole pixels.
    """

    kind = ""

    def __init__(self, share: float = 0.5) -> None:
        expect(0 < share < 1, "data.degradation.mask.share", share, "a number between 0 and 1")
        self.share = share
        self.name = f"{self.kind} {share:g}"

    def hole(self, generator: np.random.Generator, height: int, width: int) -> np.ndarray:
        """See `Mask`."""
        high, wide = (max(1, round(self.share * pixels)) for pixels in (height, width))
        top, left = (self._begin(generator, room) for room in (height - high, width - wide))
        return _rectangle(height, width, top, left, high, wide)

    def _begin(self, generator: np.random.Generator, room: int) -> int:
        """Where it begins, of ``room + 1`` places."""
        raise NotImplementedError


class Center(_Rectangle):
    """A rectangle in the middle; see `Box`."""

    kind = "center"

    def _begin(self, generator: np.random.Generator, room: int) -> int:
        return room // 2


class Box(_Rectangle):
    """A rectangle at a random place, uniform over all places within the image.

    Args:
        share: of the height and of the width, rounded to whole pixels.
    """

    kind = "box"

    def _begin(self, generator: np.random.Generator, room: int) -> int:
        return int(generator.integers(0, room + 1))


class Half(Mask):
    """One half: of a digit, the other one is to be completed.

    Args:
        side: which half is hidden: ``left``, ``right``, ``top``, ``bottom``.
    """

    def __init__(self, side: str = "bottom") -> None:
        expect(
            side in ("left", "right", "top", "bottom"), "data.degradation.mask.side", side, "left, right, top or bottom"
        )
        self.side = side
        self.name = f"{side} half"

    def hole(self, generator: np.random.Generator, height: int, width: int) -> np.ndarray:
        """See `Mask`; of an odd number of pixels the smaller part is hidden."""
        high, wide = (height // 2, width) if self.side in ("top", "bottom") else (height, width // 2)
        top = height - high if self.side == "bottom" else 0
        left = width - wide if self.side == "right" else 0
        return _rectangle(height, width, top, left, high, wide)


class FreeForm(Mask):
    """Strokes of a brush that turns at random; after Yu et al., 2019, algorithm 1, https://arxiv.org/abs/1806.03589.

    Each stroke begins anywhere and has up to ``vertices`` straight parts, in any direction, with round ends.

    Args:
        strokes: the most strokes, at least one is drawn.
        vertices: the most parts of a stroke.
        length: the longest part, as a share of the longer side.
        brush: the widest brush, as a share of the longer side.
    """

    def __init__(self, strokes: int = 4, vertices: int = 6, length: float = 0.3, brush: float = 0.12) -> None:
        at_least(1, "data.degradation.mask.", strokes=strokes, vertices=vertices)
        for name, share in (("length", length), ("brush", brush)):
            expect(0 < share <= 1, f"data.degradation.mask.{name}", share, "a number above 0 and up to 1")
        self.strokes, self.vertices, self.length, self.brush = strokes, vertices, length, brush
        self.name = f"free form {strokes}x{vertices}, {length:g}, {brush:g}"

    def hole(self, generator: np.random.Generator, height: int, width: int) -> np.ndarray:
        """See `Mask`; drawn anew where it hides everything or nothing.

        Raises:
            UserError: if that happens too often.
        """
        for _ in range(TRIES):
            found = self._drawn(generator, height, width)
            if found.any() and not found.all():
                return found
        raise UserError(f"data.degradation.mask: {self.name} hides a whole image of {height}x{width} pixels")

    def _drawn(self, generator: np.random.Generator, height: int, width: int) -> np.ndarray:
        picture = Image.new("1", (width, height))
        pen, side = ImageDraw.Draw(picture), max(height, width)
        for _ in range(int(generator.integers(1, self.strokes + 1))):
            x, y = generator.random() * width, generator.random() * height
            for _ in range(int(generator.integers(1, self.vertices + 1))):
                angle = 2 * math.pi * generator.random()
                way = self.length * side * generator.random()
                brush = max(1, round(self.brush * side * generator.random()))
                to_x = min(max(x + way * math.sin(angle), 0), width - 1)
                to_y = min(max(y + way * math.cos(angle), 0), height - 1)
                pen.line([(x, y), (to_x, to_y)], fill=1, width=brush)
                half = brush / 2
                pen.ellipse([(to_x - half, to_y - half), (to_x + half, to_y + half)], fill=1)
                x, y = to_x, to_y
        return np.array(picture)


def _rectangle(height: int, width: int, top: int, left: int, high: int, wide: int) -> np.ndarray:
    hole = np.zeros((height, width), dtype=bool)
    hole[top : top + high, left : left + wide] = True
    return hole
