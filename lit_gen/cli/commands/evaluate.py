"""``evaluate``: score any images, a run's, or texts, with the metrics and the protocol record of a training run."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from lit_gen.cli.commands import adapting, drawing, evaluate_density, evaluate_text
from lit_gen.cli.errors import ArgumentParser
from lit_gen.cli.launch.hardware import usable_device
from lit_gen.cli.launch.run_dir import of_checkpoint
from lit_gen.core import images as pictures
from lit_gen.core.errors import UserError, nearest, note, under
from lit_gen.core.options import at_least
from lit_gen.core.terminal import printable
from lit_gen.data.images.cifar import CIFAR10
from lit_gen.data.images.digits8 import Digits8
from lit_gen.data.images.files import SUFFIXES as PICTURES
from lit_gen.data.images.files import read_images
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.mnist import MNIST, FashionMNIST
from lit_gen.data.images.module import ImageData
from lit_gen.data.images.npz import SUFFIXES, images_of, read_arrays
from lit_gen.data.images.pixels import Levels
from lit_gen.evaluation.comparison import METRICS, check_metrics
from lit_gen.evaluation.extractors.base import INCEPTION
from lit_gen.evaluation.extractors.load import load_extractor
from lit_gen.evaluation.generated import EXACT, Drawing
from lit_gen.evaluation.images import Scorer
from lit_gen.evaluation.names import thousands
from lit_gen.evaluation.real import SPLITS, Reals
from lit_gen.evaluation.reference import Reference, published_statistics
from lit_gen.evaluation.result import Result, beside_others, save_record, table
from lit_gen.metrics.text import KEYS
from lit_gen.protocols.data import Split
from lit_gen.protocols.images import FeatureExtractor, ImageGenerator
from lit_gen.runs.checkpoints import read
from lit_gen.runs.opened import Run, load
from lit_gen.runs.translating import instead

SETS: dict[str, tuple[Callable[[str | None], ImageData], str]] = {
    "mnist": (lambda root: MNIST(root=root, val_size=0), "lenet-mnist"),
    "mnist-5k": (lambda root: MNIST(root=root, embedded=True), "lenet-mnist"),
    "fashion-mnist": (lambda root: FashionMNIST(root=root, val_size=0), "lenet-fashion-mnist"),
    "digits8": (lambda root: Digits8(root=root), "lenet-digits8"),
    "cifar10": (lambda root: CIFAR10(root=root, val_size=0), INCEPTION),
}
"""References by name (all of their training images), and the default extractor for each."""


def run(arguments: list[str]) -> int:
    """Run ``evaluate`` and return the exit code."""
    parser = _parser()
    options, own = drawing.parse(parser, arguments[1:])
    if evaluate_text.wanted(options, parser):
        drawing.of_model(None, own, parser)
        return _told(evaluate_text.score(options, parser), options.out)
    options.metrics = [name.strip() for name in (options.metrics or "fid").split(",")]
    at_least(2, "--", count=options.count)
    at_least(1, "--", repeats=options.repeats)
    where = usable_device(options.device)
    if evaluate_density.NLL in options.metrics:
        drawing.of_model(None, own, parser)
        return _told(evaluate_density.score(options, where, SETS, _images), options.out)
    is_run = _is_run(Path(options.source))
    for name in options.metrics:
        if name not in METRICS:
            near = nearest(name, [*METRICS, evaluate_density.NLL])
            raise UserError(f"--metrics: {name!r} is not a metric{near} (expected {', '.join(METRICS)}, or nll)")
    with under("--"):
        check_metrics(options.metrics, is_run and (options.count or 0) > EXACT, None)
    _expect_both(Path(options.source), options.reference)
    name = options.extractor or SETS.get(options.reference.partition(":")[0], ("", INCEPTION))[1]
    try:
        extractor = load_extractor(name, options.extractor_weights, options.extractor_hash)
    except UserError as error:
        of_option = str(error).startswith("extractor")  # others begin with a file, or with "the weights"
        raise UserError(f"--{error}" if of_option else str(error)) from error.__cause__
    reference = _reference(options, extractor, where)
    with under("--"):
        scorer = Scorer(extractor, reference, options.metrics)
    source = _source(Path(options.source), extractor, options.trust)
    options.adapter = adapting.of_source(source, options)
    options.drawing = drawing.of_model(source.model if isinstance(source, Run) else None, own, parser)
    if "strength" in options.drawing:
        raise UserError("--strength changes an image, and evaluate draws new ones; leave it out")
    result, shown = _score(options, scorer, source, where)
    print(table(result), end="")
    out = Path(options.out) if options.out else None
    if out is None and isinstance(source, Run):
        against = re.sub(r"[^\w.-]+", "-", options.reference)
        how = "-".join([options.weights, *(f"{name}{value}" for name, value in options.drawing.items())])
        how += f"-adapter{options.adapter['adapter_sha256'][:12]}" if options.adapter else ""
        how = re.sub(r"[^\w.-]+", "-", how)
        what = f"{extractor.name}-{thousands(result.protocol['count'])}-{how}-{against}"
        out = of_checkpoint(source.checkpoint) / "eval" / f"{source.checkpoint.stem}-{what}"
    if out is not None:
        step = int(read(source.checkpoint)["global_step"]) if isinstance(source, Run) else None
        content = {"step": step, "values": result.values, "floors": result.floors, "protocol": result.protocol}
        record = save_record(out if options.out else beside_others(out, result.protocol), content)
        print(f"{'record':32} {printable(record)}")
        if shown is not None:
            pictures.save_png(pictures.grid(shown[: result.protocol["count"]]), record.with_suffix(".png"))
    return 0


def _told(result: Result, out: str | None) -> int:
    """Print the numbers of a density or of texts, and write their record where one is asked for."""
    print(table(result), end="")
    if out is not None:
        content = {"step": None, "values": result.values, "floors": {}, "protocol": result.protocol}
        print(f"{'record':32} {printable(save_record(Path(out), content))}")
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "evaluate",
        "Score a folder of images, an .npz or .npy of them, a run's samples, or a .jsonl of texts.",
        "samples --reference mnist-5k --extractor lenet-mnist",
        "runs/gan --reference mnist-5k:val --count 1000 --metrics fid,prc --repeats 3",
        "texts.jsonl --reference references.jsonl --metrics bleu,chrf --out texts.json",
    )
    parser.add_argument(
        "source", metavar="DIR_OR_FILE_OR_RUN", help="images, texts, or a run or checkpoint to draw from"
    )
    parser.add_argument(
        "--reference",
        required=True,
        help=f"the real images: {', '.join(SETS)} (training images; mnist:test for a split), a folder, an .npz "
        f"or .npy of images, or an .npz of mu and sigma; for nll, the run whose density scores the images; "
        f"for texts, a .jsonl of their references",
    )
    parser.add_argument(
        "--metrics",
        help=f"some of {','.join(METRICS)} (default fid); or nll; for texts some of {','.join(KEYS)} (default all)",
    )
    parser.add_argument(
        "--extractor",
        help=f"a name, a .pt2 or TorchScript file (default: the lenet of a named reference, else {INCEPTION})",
    )
    parser.add_argument("--extractor_weights", help=f"file with the weights of {INCEPTION} (default: downloaded)")
    parser.add_argument("--extractor_hash", help="expected SHA-256 of the weights, or its first digits")
    parser.add_argument(
        "--count",
        type=int,
        help="how many images (default: all of a folder, in the order of their paths; 10,000 of a run)",
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=1,
        help="for a run: how many sets of images to draw, for the mean and minimum of each metric",
    )
    parser.add_argument(
        "--weights", choices=["ema", "raw"], default="ema", help="for a run: averaged or raw weights (default ema)"
    )
    parser.add_argument("--adapter", metavar="PATH", help="for a run without one: a folder of peft's, or a run")
    parser.add_argument("--root", help="folder with the data sets (default LIT_GEN_DATA, else the cache folder)")
    parser.add_argument("--device", default="cpu", help="where to run (default cpu)")
    parser.add_argument("--out", help="the record, a .json file (default: in a run's eval folder; else none)")
    evaluate_text.add_options(parser)
    parser.add_trust()
    return parser


# ---- the two sides


def _expect_both(source: Path, reference: str) -> None:
    """Refuse what is not there before anything is loaded."""
    if not source.exists():
        raise UserError(f"{source} does not exist; a folder, .npz or .npy of images, a run or a checkpoint is expected")
    if source.suffix.lower() in PICTURES and source.is_file():
        raise UserError(f"{source} is one image; a folder of images is expected, such as {source.parent}")
    name, path = reference.partition(":")[0], Path(reference)
    if name not in SETS and not path.is_dir() and not (path.suffix in SUFFIXES and path.is_file()):
        known = f"expected a folder, an .npz or .npy, or one of {', '.join(SETS)}"
        raise UserError(f"--reference: {reference!r} is not a reference{nearest(name, SETS)} ({known})")


def _is_run(path: Path) -> bool:
    checkpoint = path.is_file() and path.suffix not in SUFFIXES
    return checkpoint or (path / "config.yaml").is_file() or any(path.glob("*/config.yaml"))


def _source(path: Path, extractor: FeatureExtractor, trust: list[str]) -> Tensor | Run:
    """Images uint8 (n, C, H, W), or a run to draw from."""
    if path.suffix in SUFFIXES and path.is_file():
        return _images(read_arrays(path), path)
    if _is_run(path):
        return load(path, trust)
    images = read_images(path, 1 if extractor.channels == 1 else 3, "evaluate")
    if len(images) < 2:
        raise UserError(f"{path} holds one image, at least 2 are expected")
    return images


def _images(arrays: dict[str, np.ndarray], path: Path) -> Tensor:
    """The images of a file of arrays; says what was converted."""
    levels = Levels(str(path))
    images = images_of(arrays, path, levels)
    for sentence in levels.said():
        note(sentence)
    return images


def _reference(options: argparse.Namespace, extractor: FeatureExtractor, where: torch.device) -> Reals | Reference:
    """Real images, or published statistics."""
    name, _, split = options.reference.partition(":")
    if name in SETS:
        data = SETS[name][0](options.root)
        data.prepare_data()
        splits = [s for s in SPLITS if len(data.split(s))]
        if (split if ":" in options.reference else "train") not in splits:
            raise UserError(f"--reference: {name} has no split {split!r}{nearest(split, splits)} ({', '.join(splits)})")
        return Reals(data.split, cast(Split, split or "train"), name, extractor, where)
    path = Path(options.reference)
    if path.suffix in SUFFIXES and path.is_file():
        arrays = read_arrays(path)
        if "mu" in arrays:
            with under("--"):
                statistics = published_statistics(path)
                check_metrics(options.metrics, False, statistics)
            return statistics
        images = _images(arrays, path)
    else:
        images = read_images(path, 1 if extractor.channels == 1 else 3, "--reference")
    return Reals(
        lambda split: ImageSet(images[: None if split == "train" else 0]), "train", path.name, extractor, where
    )


# ---- scoring


def _score(
    options: argparse.Namespace, scorer: Scorer, source: Tensor | Run, where: torch.device
) -> tuple[Result, Tensor | None]:
    """The numbers, and the first images of a run."""
    if isinstance(source, Run):
        count = options.count or 10_000
        model: Any = source.model.to(where)
        if not isinstance(model, ImageGenerator):
            raise UserError(f"{source.checkpoint}: {type(model).__name__} does not draw images{instead(model)}")
        drawn = Drawing(model, options.weights, where, **options.drawing)
        record = {"source": str(source.checkpoint), **options.adapter}
        result = scorer.drawn(drawn, count, options.repeats, streaming=count > EXACT, record=record)
        return result, drawn.shown
    if options.repeats > 1:
        raise UserError("--repeats: a folder holds one set of images; only a run can draw others")
    if options.count is not None and options.count > len(source):
        raise UserError(f"--count: {options.count} was found, but there are {len(source)} images")
    return scorer.given(source[: options.count], where, {"source": options.source}), None
