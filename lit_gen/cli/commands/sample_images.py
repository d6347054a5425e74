"""``sample`` of an image model: numbered PNGs and a grid; a scatter plot of points, an ``.npy`` of other vectors."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_gen.cli.commands import sample_edits
from lit_gen.core import files
from lit_gen.core import images as pictures
from lit_gen.core.errors import UserError, nearest
from lit_gen.core.options import at_least, expect
from lit_gen.core.ours import keep_others
from lit_gen.core.randomness import BLOCK
from lit_gen.core.sampling import check_labels
from lit_gen.core.terminal import printable
from lit_gen.runs.checkpoints import read
from lit_gen.runs.opened import Run

MOST_SHOWN = 1024  # images in a grid
MOST_BLOCKS, MOST_NUMBERS = 16, 2**22  # drawn at a time: small images, for which a call costs as much as drawing some


def check(options: argparse.Namespace) -> None:
    """Check the options before anything is loaded.

    Raises:
        UserError: for the first that is out of range.
    """
    at_least(1, "--", n=options.n, batch_size=options.batch_size)
    at_least(0, "--", start=options.start)
    expect((options.start or 0) < 2**62, "--start", options.start, "less than 2^62")
    at_least(2, "--", interpolate=options.interpolate)
    sample_edits.check(options)
    if options.labels is not None:
        options.labels = [part.strip() for part in options.labels.split(",")]


def draw(opened: Run, options: argparse.Namespace) -> None:
    """Draw into the folder ``--out``."""
    for name, default in (("n", 64), ("out", "samples"), ("start", 0), ("weights", "ema")):
        if getattr(options, name) is None:
            setattr(options, name, default)
    if options.labels is not None:  # before anything is written
        named = any(not _is_number(part) for part in options.labels)
        options.labels = _labels(options.labels, class_names(read(opened.checkpoint)) if named else [])
        check_labels(options.labels, getattr(opened.model, "num_classes", None), "--labels")
    if callable(drawer := getattr(opened.model, "drawer", None)):
        drawer(options.weights, **options.drawing)  # refuses the model's own options
    options.edit = sample_edits.read(opened, options)
    print(f"from {printable(opened.checkpoint)}")
    _write(opened, options, Path(options.out))


def class_names(checkpoint: Mapping[str, Any]) -> list[str]:
    """The class names that a checkpoint's data module has stored; empty if it has stored none."""
    stored = (state for state in checkpoint.values() if isinstance(state, dict) and "images_per_step" in state)
    return next((state["classes"] for state in stored if "classes" in state), [])


def _is_number(part: str) -> bool:
    return part.lstrip("+-").isdecimal()


def _labels(parts: list[str], names: list[str]) -> Tensor:
    """Labels by number, or by the name of a class."""
    labels = []
    for part in parts:
        try:
            label = int(part) if _is_number(part) else names.index(part)
            if abs(label) >= 2**62:
                raise ValueError  # more than a tensor holds
            labels.append(label)
        except ValueError:
            known = f" or classes ({', '.join(names[:10])}{', ...' if len(names) > 10 else ''})" if names else ""
            raise UserError(
                f"--labels: {part!r} was found, whole numbers{known} with commas between are expected"
                f"{nearest(part, names)}"
            ) from None
    return torch.tensor(labels)


def _chosen(options: argparse.Namespace, start: int, count: int) -> Tensor | None:
    """The labels of ``count`` images from index ``start`` on: those of ``--labels`` in turn, from the first image."""
    if options.labels is None:
        return None
    turn: Tensor = options.labels[
        torch.arange(start - options.start, start - options.start + count) % len(options.labels)
    ]
    return turn


def _write(opened: Run, options: argparse.Namespace, out: Path) -> None:
    """Write block after block, so that memory does not grow with the number of images."""
    out.mkdir(parents=True, exist_ok=True)
    count = options.n * (options.interpolate or 1)
    older = {p.name for p in out.glob("[0-9]" * 6 + ".png")} - {f"{options.start + i:06d}.png" for i in range(count)}
    if older:
        raise UserError(f"--out {out}: it holds images of an earlier call ({min(older)}); empty it or choose another")
    grid = out.resolve().with_name(f"{out.resolve().name}-grid.png")  # beside the folder: metrics read every PNG in it
    targets = list(out.glob("[0-9]" * 6 + ".png"))
    keep_others([*targets, grid, out / "scatter.png"], "--out", options.overwrite)
    shown: list[Tensor] = []
    written = 0
    for images in _drawn(opened, options):
        if images.shape[1] in (1, 3) and images.shape[2:] != (1, 1):
            levels = pictures.quantize(images).cpu()
            for i, image in enumerate(levels):
                # not flushed one by one: 3 ms each instead of 0.3, for up to 50,000 images that are easily drawn anew
                pictures.save_png(image, out / f"{options.start + written + i:06d}.png", flush=False)
            shown += [levels] if written < MOST_SHOWN else []
        else:
            shown.append(images.cpu())
        written += len(images)
    whole = torch.cat(shown)
    by_class = len(options.labels) if options.labels is not None and len(options.labels) > 1 else None
    columns = options.interpolate or by_class
    if whole.dtype == torch.uint8:
        pictures.save_png(pictures.grid(whole[:MOST_SHOWN], columns), grid)
        print(printable(out.parent / grid.name))
    elif whole.shape[1] == 2:
        pictures.save_scatter(whole, out / "scatter.png")
        print(printable(out / "scatter.png"))
    else:
        _write_rows(whole.flatten(1), out / "vectors.npy", options.overwrite)


def _write_rows(rows: Tensor, path: Path, overwrite: bool) -> None:
    """Write vectors (n, D), of which no picture tells anything, as they are."""
    if path.exists() and not overwrite:
        raise UserError(f"--out: {path} exists; say --overwrite to replace it")
    with files.whole(path, suffix=".npy") as partial:
        np.save(partial, rows.numpy())
    print(printable(path))


def _drawn(opened: Run, options: argparse.Namespace) -> Iterator[Tensor]:
    """Images (B, C, H, W), whole blocks at a time: no image depends on the batch size."""
    start, end = options.start, options.start + options.n
    if options.interpolate:
        paths = opened.interpolate(
            options.n,
            options.interpolate,
            start=start,
            labels=_chosen(options, start, options.n),
            weights=options.weights,
            **options.drawing,
        )
        yield paths.flatten(0, 1)
        return
    size = -(-(options.batch_size or BLOCK) // BLOCK) * BLOCK
    first = start
    while first < end:
        last = min(end, (first // size + 1) * size)
        labels = _chosen(options, first, last - first)
        asked = {"labels": labels, "weights": options.weights, **options.edit, **options.drawing}
        images = opened.sample(last - first, start=first, **asked)
        yield images
        first = last
        if options.batch_size is None:
            size = min(MOST_BLOCKS, max(1, MOST_NUMBERS // (BLOCK * images[0].numel()))) * BLOCK
