"""``transform``: every image of a folder through a model that changes images, as PNG files of the same names."""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from lit_gen import __version__
from lit_gen.cli.commands.transform_files import Picture, Reader, find
from lit_gen.cli.errors import ArgumentParser
from lit_gen.cli.launch.hardware import usable_device
from lit_gen.core.errors import UserError, note, under
from lit_gen.core.files import write_whole
from lit_gen.core.ours import keep_others
from lit_gen.core.png import COLOURS, bits_of, save_image
from lit_gen.core.terminal import printable
from lit_gen.data.images.files import SUFFIXES
from lit_gen.evaluation.names import weights_used
from lit_gen.runs.checkpoints import step_of
from lit_gen.runs.opened import Run, load
from lit_gen.runs.translating import check_tiles, translator

RECORD = "transform.json"
T = TypeVar("T")


def run(arguments: list[str]) -> int:
    """Run ``transform`` and return the exit code."""
    options = _parser().parse_args(arguments[1:])
    check_tiles("--", options.tile, options.border)
    if options.mask and options.masks:
        raise UserError("--mask is one for all images, and --masks has one for each; one of them is expected")
    source, out = _path(options.folder), _path(options.out)
    mask, masks = (None if given is None else _path(given) for given in (options.mask, options.masks))
    pictures = find(source, mask, masks, note)
    opened = load(options.path, options.trust)
    _check_model(opened, options)
    _check_out(out, source, pictures, options.overwrite)
    opened.model.to(usable_device(options.device))
    converted = _written(opened, pictures, str(source), out, options)
    record = _record(opened, options, len(pictures), converted)
    write_whole(out / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(pictures):,} image{'s' * (len(pictures) > 1)} in {printable(out)}")
    return 0


def _path(given: str) -> Path:
    return Path(given).expanduser()  # the shell leaves the tilde of --out=~/x as it is


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "transform",
        "Translate, enlarge, fill in or denoise images with a model that was trained on pairs.",
        "runs/superres photos --out larger",
        "runs/inpaint photos --masks holes --out filled",
        "runs/denoise photo.jpg --out . --tile 256 --device cuda",
    )
    parser.add_argument(
        "path",
        metavar="RUN_OR_CHECKPOINT",
        help="a checkpoint file, a run directory, or runs/NAME (the newest run of that name)",
    )
    parser.add_argument(
        "folder", metavar="FOLDER_OR_IMAGE", help="images of any size, also in subfolders; or one image"
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help=f"folder for the PNGs of the same names, and {RECORD}"
    )
    parser.add_argument("--mask", metavar="IMAGE", help="for all images: white where they are to be filled in")
    parser.add_argument("--masks", metavar="FOLDER", help="a mask for each image, of the same name")
    parser.add_argument(
        "--tile", type=int, metavar="N", help="run the network on squares of N pixels: for large images"
    )
    parser.add_argument(
        "--border",
        type=int,
        metavar="N",
        help="pixels around each tile (default: as many as make the result that of the whole image)",
    )
    parser.add_argument(
        "--weights",
        choices=["ema", "raw"],
        default="ema",
        help="averaged or raw weights (default ema; raw where no average is kept)",
    )
    parser.add_argument("--device", default="cpu", help="where to run (default cpu)")
    parser.add_trust()
    parser.add_overwrite()
    return parser


# ---- before anything is written


def _check_model(opened: Run, options: argparse.Namespace) -> None:
    """Refuse a model that changes no pictures, or that needs or has no mask."""
    model, told = translator(opened.model, opened.checkpoint), f"{opened.checkpoint} ({type(opened.model).__name__})"
    masked, given = getattr(model, "masked", None), options.mask or options.masks
    if masked and not given:
        raise UserError(f"--mask: {told} fills in holes; --mask IMAGE or --masks FOLDER is expected, white for a hole")
    if masked is False and given:
        name = "mask" if options.mask else "masks"
        raise UserError(f"--{name}: {told} was trained without holes, so that it fills in none; leave it out")
    if (channels := _channels(opened)) not in (None, *COLOURS):
        hint = "in Python lit_gen.load(RUN).translate takes them"
        raise UserError(f"{told} changes images of {channels} channels, which are no pictures; {hint}")


def _channels(opened: Run) -> int | None:
    """Channels of the model's sources, without a mask; None where the model does not tell."""
    shape = getattr(opened.model, "source_shape", None)
    return None if shape is None else int(shape[0])


def _check_out(out: Path, source: Path, pictures: list[Picture], overwrite: bool) -> None:
    """Refuse a folder that holds what would be replaced, or would be mixed with what is written."""
    targets = [out / picture.name for picture in pictures]
    read = {path.resolve() for picture in pictures for path in (picture.path, picture.mask) if path is not None}
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        inside = "that folder itself" if out.resolve() == source.resolve() else "within that folder"
        raise UserError(f"--out: the images of {source} are read, and {out} is {inside}; another one is expected")
    if same := next((target for target in targets if target.resolve() in read), None):
        raise UserError(f"--out: {same} is read, and would be replaced; another folder is expected")
    keep_others(targets, "--out", overwrite)
    record = out / RECORD
    if record.is_file() and not overwrite and not _is_ours(record):
        raise UserError(f"--out: {record} exists, and lit_gen did not write it; say --overwrite to replace it")
    kept = set(targets)
    for path in sorted(out.rglob("*")) if source.is_dir() else ():
        if path.suffix.lower() in SUFFIXES and path not in kept and path.is_file():
            raise UserError(f"--out: {out} holds another image ({path.relative_to(out)}); empty it or choose another")


def _is_ours(record: Path) -> bool:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("command") == "transform"


# ---- what is written


def _written(opened: Run, pictures: list[Picture], source: str, out: Path, options: argparse.Namespace) -> list[str]:
    """Check all images, then write all; returns what was converted.

    One image is run at a time, so that no result depends on another. The smallest is the first, as the likeliest to be
    refused by the network.
    """
    levels = getattr(opened.model, "levels", None)
    bits = bits_of(levels), bits_of(getattr(opened.model, "source_levels", None) or levels)
    reader = Reader(source, _channels(opened), bits[1])
    sides = {}
    for picture in _shown(pictures, "reading"):
        image, _ = _read(reader, picture)
        sides[picture] = min(image.shape[2:])
    for sentence in (converted := reader.said()):
        note(sentence)
    print(f"from {printable(opened.checkpoint)}")
    again = Reader(source, reader.channels, reader.bits)
    asked = {"weights": options.weights, "tile": options.tile, "border": options.border}
    for k, picture in enumerate(_shown(sorted(pictures, key=sides.__getitem__), "transforming")):
        image, mask = _read(again, picture)
        with under(f"{picture.path}: "):
            (made,) = opened.translate(image, mask=mask, **asked)
        if len(made) not in COLOURS:
            raise UserError(f"{opened.checkpoint} makes images of {len(made)} channels, which no PNG holds")
        if k == 0:
            (out / RECORD).unlink(missing_ok=True)  # it tells of files that are now replaced
        save_image(made, out / picture.name, bits[0], flush=False)
    return converted


def _read(reader: Reader, picture: Picture) -> tuple[Tensor, Tensor | None]:
    image = reader.image(picture.path)
    if picture.mask is None:
        return image, None
    return image, reader.mask(picture.mask, picture.path, tuple(image.shape[2:]))


def _shown(items: list[T], doing: str) -> Iterable[T]:
    """The items, with a progress line on a terminal."""
    if not sys.stderr.isatty():
        return items
    return track(items, doing, transient=True, console=Console(stderr=True))


def _record(opened: Run, options: argparse.Namespace, count: int, converted: list[str]) -> dict[str, Any]:
    asked = {name: getattr(options, name) for name in ("folder", "mask", "masks", "tile", "border", "device")}
    return {
        "command": "transform",
        "checkpoint": str(opened.checkpoint),
        "step": step_of(opened.checkpoint),
        "model": type(opened.model).__name__,
        "weights": weights_used(opened.model, options.weights),
        **asked,
        "images": count,
        "converted": converted,
        "versions": {"lit-gen": __version__, "torch": str(torch.__version__)},
    }
