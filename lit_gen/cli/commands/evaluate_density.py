"""``evaluate DATA --metrics nll --reference RUN``: the negative log-likelihood that a run's density gives any data."""

import argparse
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_gen.core.bits import bits_per_dim
from lit_gen.core.errors import UserError, note
from lit_gen.data.images.files import read_images
from lit_gen.data.images.module import ImageData
from lit_gen.data.images.npz import SUFFIXES, read_arrays
from lit_gen.data.vectors.table import ARRAYS, TEXT, packaged, read_table
from lit_gen.evaluation.names import suffix_of, thousands, weights_used
from lit_gen.evaluation.real import SPLITS
from lit_gen.evaluation.result import Result, versions
from lit_gen.protocols.flows import DensityModel, DensityRecorder
from lit_gen.runs.opened import Run, load

NLL = "nll"
Sets = Mapping[str, tuple[Callable[[str | None], ImageData], str]]


def score(options: argparse.Namespace, where: torch.device, sets: Sets, read: Callable[..., Tensor]) -> Result:
    """The numbers of all data of ``options.source``, or of the first ``options.count``.

    Args:
        options: of the command.
        where: the device.
        sets: named data sets, ``name:split`` as a source is one of them.
        read: of arrays and the path to images.

    Raises:
        UserError: for options of other metrics, a run without a density, or data that it is not of.
    """
    if options.metrics != [NLL]:
        raise UserError(
            f"--metrics: {','.join(options.metrics)} was found; nll, which compares no images, stands alone"
        )
    for name, given in (("repeats", options.repeats > 1), ("extractor", options.extractor is not None)):
        if given:
            raise UserError(f"--{name}: it has no meaning for nll, which is of a run's density; leave it out")
    if not Path(options.reference).exists():
        raise UserError(
            f"--reference: {options.reference} does not exist; for nll, a run or checkpoint with a density is expected"
        )
    run = load(options.reference, options.trust)
    model: Any = run.model.to(where)
    if not isinstance(model, DensityModel):
        raise UserError(
            f"--reference: {run.checkpoint}: {type(model).__name__} has no density; flows and diffusion models have one"
        )
    data, labels = _data(options, model, sets, read)
    count = options.count or len(data)
    if count > len(data):
        raise UserError(f"--count: {options.count} was found, but there are {len(data)} rows")
    if getattr(model, "num_classes", None) is None:
        labels = None
    if labels is not None and labels.shape != (len(data),):
        raise UserError(f"{options.source}: labels {tuple(labels.shape)} were found, ({len(data):,},) are expected")
    if not count:
        raise UserError(f"{options.source} has no rows; at least one is expected")
    nats = run.log_prob(data[:count], labels if labels is None else labels[:count], weights=options.weights)
    if bad := (~nats.isfinite()).nonzero().flatten().tolist():
        raise UserError(
            f"{options.source}: the density gives {float(nats[bad[0]])} nats to row {bad[0]} (counted from 0)"
        )
    return _result(-nats, data, run, options)


def _data(
    options: argparse.Namespace, model: Any, sets: Sets, read: Callable[..., Tensor]
) -> tuple[Tensor, Tensor | None]:
    """Images or points, and labels where there are some."""
    name, _, split = options.source.partition(":")
    path = Path(options.source)
    if name in sets and not path.exists():
        named = sets[name][0](options.root)
        named.prepare_data()
        if (split or "test") not in SPLITS or not len(found := named.split(split or "test")):
            raise UserError(f"evaluate: {name} has no split {split!r} ({', '.join(SPLITS)})")
        return found.images, found.labels
    if model.levels is None:
        return _rows(model, options.source, path)
    if not path.exists():
        raise UserError(f"{path} does not exist; a folder, an .npz or .npy, or one of {', '.join(sets)} is expected")
    if path.is_dir():
        return read_images(path, 1 if getattr(model, "shape", (1,))[0] == 1 else 3, "evaluate"), _labels(
            model, None, path
        )
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: a folder of images, an .npz or an .npy is expected")
    arrays = read_arrays(path)
    return read(arrays, path), _labels(model, arrays.get("labels"), path)


def _rows(model: Any, source: str, path: Path) -> tuple[Tensor, Tensor | None]:
    """Rows (N, D) of numbers, as float32 (N, D, 1, 1)."""
    kind, colon, name = source.partition(":")
    if colon and kind == "sklearn":
        table = packaged(name, "evaluate")
    elif not path.is_file() or path.suffix.lower() not in (*TEXT, *ARRAYS):
        ends = ", ".join((*TEXT, *ARRAYS))
        raise UserError(f"{path} was found, a file of rows of numbers ({ends}) or sklearn:NAME is expected")
    else:
        table = read_table(path, None, [], None)
        if table.unread:
            note(f"{path}: not read: {', '.join(table.unread)}")
    return torch.from_numpy(table.values.astype(np.float32))[:, :, None, None], _labels(model, table.labels, path)


def _labels(model: Any, found: np.ndarray | None, path: Path) -> Tensor | None:
    if getattr(model, "num_classes", None) is None:
        return None
    if found is None:
        raise UserError(f"{path} has no labels, which the density is conditioned on; an .npz has them under labels")
    if found.dtype.kind not in "iu":
        raise UserError(f"{path}: labels of {found.dtype} were found, whole numbers are expected")
    return torch.from_numpy(found.astype(np.int64))


def _result(nll: Tensor, data: Tensor, run: Run, options: argparse.Namespace) -> Result:
    model: Any = run.model
    count, dimensions = len(nll), math.prod(data.shape[1:])
    mean = math.fsum(nll.tolist()) / count
    spread = math.fsum((x - mean) ** 2 for x in nll.tolist())
    end = f"{thousands(count)}{suffix_of(options.weights)}"
    values = {f"nll{end}": mean}
    if count > 1:
        values[f"nll{end}_se"] = math.sqrt(spread / (count - 1) / count)
    if model.levels is not None:
        values[f"bits_per_dim{end}"] = bits_per_dim(mean, dimensions)
    how = model.scoring_record() if isinstance(model, DensityRecorder) else {}
    record = {
        "metrics": {NLL: {"units": "nats", "levels": model.levels, "noise": "by the row's number", **how}},
        "count": count,
        "source": options.source,
        "density": str(run.checkpoint),
        "weights": weights_used(model, options.weights),
        "seed": model.seed,
        "versions": versions(),
    }
    return Result(values, {}, record)
