"""``sample`` and ``export``: from a run or a checkpoint to pictures and weights."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from lit_gen import pictures
from lit_gen.cli.errors import ArgumentParser
from lit_gen.cli.hardware import usable_device
from lit_gen.errors import UserError
from lit_gen.gan.sampling import check_labels
from lit_gen.loading import Run, load
from lit_gen.randomness import BLOCK

MOST_SHOWN = 1024  # images in a grid


def run(arguments: list[str]) -> int:
    """Run ``sample`` or ``export`` and return the exit code."""
    return _sample(arguments[1:]) if arguments[0] == "sample" else _export(arguments[1:])


def _sample(arguments: list[str]) -> int:
    parser = ArgumentParser("sample", "Draw images: numbered PNGs, and a grid beside their folder.")
    parser.add_argument(
        "path",
        metavar="RUN_OR_CHECKPOINT",
        help="a file, a run directory (its newest checkpoint) or runs/NAME (its newest run)",
    )
    parser.add_argument("--n", type=int, default=64, help="how many images (default 64)")
    parser.add_argument("--out", default="samples", help="folder to write into (default ./samples)")
    parser.add_argument("--start", type=int, default=0, help="index of the first image (default 0)")
    parser.add_argument(
        "--batch_size", type=int, default=BLOCK, help="images at a time, in whole blocks of 64; no image depends on it"
    )
    parser.add_argument("--weights", choices=["ema", "raw"], default="ema", help="which weights (default ema)")
    parser.add_argument(
        "--labels",
        metavar="0,1,2",
        help="classes to draw, in turn, of a conditional model (default: as in the training set)",
    )
    parser.add_argument("--interpolate", type=int, metavar="STEPS", help="n paths of so many steps between two samples")
    parser.add_argument("--device", default="cpu", help="where to run (default cpu)")
    options = parser.parse_args(arguments)
    for name, least in (("n", 1), ("start", 0), ("batch_size", 1), ("interpolate", 2)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name}: {value} was found, a whole number of at least {least} is expected")
    if options.labels is not None:
        options.labels = _labels(options.labels)
    opened = load(options.path)
    if options.labels is not None:  # before anything is written
        check_labels(options.labels, getattr(opened.model, "num_classes", None), "--labels")
    print(f"from {opened.checkpoint}")
    opened.model.to(usable_device(options.device))
    _write(opened, options, Path(options.out))
    return 0


def _labels(text: str) -> Tensor:
    try:
        return torch.tensor([int(part) for part in text.split(",")])
    except ValueError:
        raise UserError(f"--labels: {text!r} was found, whole numbers with commas between are expected") from None


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
    shown: list[Tensor] = []
    written = 0
    for images in _drawn(opened, options):
        if images.shape[1] in (1, 3):
            levels = pictures.quantize(images).cpu()
            for i, image in enumerate(levels):
                pictures.save_png(image, out / f"{options.start + written + i:06d}.png")
            shown += [levels] if written < MOST_SHOWN else []
        else:
            shown.append(images.cpu())
        written += len(images)
    whole = torch.cat(shown)
    by_class = len(options.labels) if options.labels is not None and len(options.labels) > 1 else None
    columns = options.interpolate or by_class
    if whole.dtype == torch.uint8:
        grid = out.resolve().with_name(f"{out.resolve().name}-grid.png")  # beside: metrics read every PNG of the folder
        pictures.save_png(pictures.grid(whole[:MOST_SHOWN], columns), grid)
        print(out.parent / grid.name)
    else:
        pictures.save_scatter(whole, out / "scatter.png")
        print(out / "scatter.png")


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
        )
        yield paths.flatten(0, 1)
        return
    size = -(-options.batch_size // BLOCK) * BLOCK
    first = start
    while first < end:
        last = min(end, (first // size + 1) * size)
        labels = _chosen(options, first, last - first)
        yield opened.sample(last - first, start=first, labels=labels, weights=options.weights)
        first = last


def _export(arguments: list[str]) -> int:
    parser = ArgumentParser("export", "Write the generator's averaged weights.")
    parser.add_argument("path", metavar="RUN_OR_CHECKPOINT")
    parser.add_argument("file", metavar="FILE.safetensors")
    options = parser.parse_args(arguments)
    load(options.path).export(options.file)
    print(options.file)
    return 0
