"""Images between tensors and picture files: the one quantiser and its inverse, grids, an atomic PNG writer."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from lit_gen.core.files import whole
from lit_gen.core.ours import SOFTWARE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


ROUNDING = 8e-5
"""How far from a level a number in [-1, 1] may be: a hundredth of the distance between 256 levels."""


def quantize(images: Tensor) -> Tensor:
    """Images in [-1, 1] to uint8, rounded to the nearest level and clamped: the same for files and for metrics."""
    return ((images.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def level_of(images: Tensor, levels: int) -> Tensor:
    """Numbers of the levels of images in [-1, 1]: float, 0 to ``levels - 1``, rounded to the nearest and clamped."""
    return ((images + 1) * ((levels - 1) / 2)).round().clamp(0, levels - 1)


def of_level(numbers: Tensor, levels: int) -> Tensor:
    """Numbers of levels, 0 to ``levels - 1``, to images in [-1, 1], which `quantize` makes the nearest of 256 levels.

    `level_of` inverts this, and also what `quantize` and `to_float` make of it, for up to 256 levels.
    """
    return numbers.float() * (2 / (levels - 1)) - 1


def at_level(images: Tensor, levels: int) -> Tensor:
    """Which numbers of images are at one of the levels, or at the nearest of 256 levels to one; NaN is not."""
    distance = (images - of_level(level_of(images, levels), levels)).abs()
    fits = distance <= ROUNDING
    if levels < 256:
        stored = (images - of_level(level_of(images, 256), 256)).abs() <= ROUNDING
        fits |= stored & (distance <= 1 / 255 + ROUNDING)
    return fits


def grid(images: Tensor, columns: int | None = None, gap: int = 2) -> Tensor:
    """Arrange uint8 images (N, C, H, W) in rows on a grey ground, as one uint8 image (C, ., .)."""
    count, channels, height, width = images.shape
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    rows = math.ceil(count / columns)
    canvas = torch.full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), 128, dtype=torch.uint8)
    for i, image in enumerate(images.cpu()):
        top, left = (i // columns) * (height + gap) + gap, (i % columns) * (width + gap) + gap
        canvas[:, top : top + height, left : left + width] = image
    return canvas


def save_png(image: Tensor, path: Path, flush: bool = True) -> None:
    """Write one uint8 image (C, H, W), with one or three channels, so that a reader never meets half a file.

    Args:
        image: the levels.
        path: the file.
        flush: whether to wait until it is on the disk, see `lit_gen.core.files.whole`.
    """
    array = np.ascontiguousarray(image.cpu().permute(1, 2, 0).numpy())
    picture = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    said = PngImagePlugin.PngInfo()
    said.add_text("Software", SOFTWARE)
    with whole(path, flush=flush) as partial:
        picture.save(partial, format="PNG", pnginfo=said)


def load_png(path: Path) -> Tensor:
    """The picture that `save_png` wrote, uint8 (C, H, W)."""
    with Image.open(path, formats=["PNG"]) as image:
        array = torch.from_numpy(np.array(image))
    return array[None] if array.ndim == 2 else array.permute(2, 0, 1)


def of_figure(figure: "Figure") -> Tensor:
    """A matplotlib figure as a picture, uint8 (3, H, W)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def save_scatter(points: Tensor, path: Path, reference: Tensor | None = None) -> None:
    """Write a scatter plot of points (N, 2, 1, 1) over reference points, with equal axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=100)
    axes = figure.add_subplot()
    if reference is not None and len(reference):
        x, y = reference.flatten(1).cpu().T.numpy()
        axes.scatter(x, y, s=4, c="0.75", label="data")
        low, high = float(reference.min()), float(reference.max())
        margin = 0.25 * (high - low)
        axes.set_xlim(low - margin, high + margin)
        axes.set_ylim(low - margin, high + margin)
    x, y = points.flatten(1).cpu().T.numpy()
    axes.scatter(x, y, s=4, c="C3", label="samples")
    axes.set_aspect("equal")
    axes.legend(loc="upper right")
    with whole(path) as partial:
        FigureCanvasAgg(figure).print_png(str(partial), metadata={"Software": SOFTWARE})


def histogram(points: Tensor, box: tuple[float, float, float, float], bins: int) -> Tensor:
    """The density of points (N, 2, 1, 1) in each of bins x bins cells of a box, float64, rows from the least y on.

    Args:
        points: those outside the box count as points without a cell.
        box: x from, x to, y from, y to.
        bins: cells on each side.
    """
    left, right, bottom, top = box
    x, y = points.flatten(1).cpu().double().T.numpy()
    counts = np.histogram2d(y, x, bins, ((bottom, top), (left, right)))[0]
    return torch.from_numpy(counts) / (len(x) * (right - left) * (top - bottom) / bins**2)


def plane(panels: dict[str, Tensor], box: tuple[float, float, float, float], most: float) -> Tensor:
    """Heat maps of one box side by side, with equal axes and one scale of colors, as a picture, uint8 (3, H, W).

    Args:
        panels: values, (rows, columns), rows from the least y on, by their titles.
        box: x from, x to, y from, y to.
        most: the value from which on the color is the brightest.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(panels), 5), dpi=100, layout="constrained")
    for axes, (title, values) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        shown = axes.imshow(values.cpu().numpy(), origin="lower", extent=box, vmin=0, vmax=most, aspect="equal")
        axes.set_title(title)
    figure.colorbar(shown, ax=figure.axes, shrink=0.8)
    return of_figure(figure)


def to_float(images: Tensor) -> Tensor:
    """Levels 0..255 to [-1, 1]; float points as they are."""
    return images.float().div_(127.5).sub_(1) if images.dtype == torch.uint8 else images
