"""Checkpoints: found by a run, read without running their code, compared with a model."""

import pkgutil
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule

from lit_gen.core import archives, files
from lit_gen.core.errors import UserError, note
from lit_gen.core.options import RENAMED, forget_single
from lit_gen.core.terminal import one_line
from lit_gen.core.yaml_text import check_size
from lit_gen.runs import directory, slurm
from lit_gen.runs.readable import why_unread
from lit_gen.runs.rebuilding import check_finite, compare


def resolve(path: Path) -> Path:
    """The checkpoint that a path stands for: a file for itself, a folder for the newest one of its run or runs.

    Raises:
        UserError: if there is neither.
    """
    if path.is_file() and path.suffix in (".yaml", ".yml", ".csv", ".json", ".png", ".txt"):
        kind = "a config" if path.suffix in (".yaml", ".yml") else "no checkpoint"
        raise UserError(f"{path} is {kind}; a checkpoint or a run directory is expected")
    if path.is_file() and path.suffix == ".safetensors":
        raise UserError(f"{path} is an exported network, for safetensors.torch.load_file; a checkpoint is expected")
    if path.is_file():
        return path
    if not path.exists():
        hint = directory.nearest_to(path)
        raise UserError(f"{path} does not exist; a checkpoint or a run directory is expected{hint}")
    runs = [p.parent for p in path.glob(f"*/{directory.CONFIG}")] if not (path / directory.CONFIG).is_file() else []
    if not runs:
        return newest(path)
    written = {run: found[-1].stat().st_mtime for run in runs if (found := directory.checkpoints(run))}
    if not written:
        raise UserError(f"{path} holds {len(runs)} {'run' if len(runs) == 1 else 'runs'}, none with a checkpoint yet")
    return newest(max(written, key=written.__getitem__))


def newest(run: Path, set_aside: bool = False) -> Path:
    """The newest checkpoint of a run that is whole; says which newer ones are damaged.

    Args:
        run: the run directory.
        set_aside: rename the damaged ones, so that none lies beside what is written from now on.

    Raises:
        UserError: if there is none.
    """
    found = directory.checkpoints(directory.find(run))
    damaged: dict[Path, str] = {}
    if not found:
        raise UserError(f"{run} holds no checkpoint yet, so there is nothing to continue or to sample from")
    for path in reversed(found):
        if (reason := damage(path)) is None:
            for bad in damaged if slurm.rank() == 0 else ():
                aside = f" and was set aside as {files.set_aside(bad, '.damaged').name}" if set_aside else ""
                note(f"{bad} is damaged ({damaged[bad]}){aside}; {path.name}, the one before it, is used")
            return path
        damaged[path] = reason
    raise UserError(f"{found[-1]} is damaged ({damaged[found[-1]]}), and the run has no older checkpoint that is whole")


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's bytes; None if it is as it was written.

    A checkpoint is a zip archive with a check sum of each part.
    """
    try:
        if path.stat().st_size == 0:
            return "it is empty"
        with archives.opened(path) as archive:
            bad = archive.testzip()
    except FileNotFoundError:  # another rank has set it aside
        return "it is gone"
    except (zipfile.BadZipFile, EOFError, zlib.error, struct.error, NotImplementedError, ValueError) as error:
        return f"it is truncated or is no checkpoint: {error}"
    return None if bad is None else f"the check sum of its part {bad} is wrong"


def read(path: Path) -> dict[str, Any]:
    """A checkpoint's content, its tensors on the CPU; no code of the file is ever run.

    Raises:
        UserError: if the file is damaged or is not a checkpoint.
    """
    if (reason := damage(path)) is not None:
        raise UserError(f"{path} is damaged ({reason}); an older checkpoint of the run may lie beside it")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Validating sparse")  # which is refused below
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # torch raises anything for a file that only looks like a checkpoint
        raise UserError(f"{path} is no checkpoint ({why_unread(error)})") from None
    weights, step = (content.get(n) for n in ("state_dict", "global_step")) if isinstance(content, dict) else (0, 0)
    if not isinstance(weights, dict) or type(step) is not int or step < 0:
        raise UserError(f"{path} is no lit_gen checkpoint: it holds no training state")
    if strange := next((name for name, value in weights.items() if not _is_weight(name, value)), None):
        raise UserError(f"{path} is no lit_gen checkpoint: its weight {strange!r} is no tensor with values")
    try:
        for part in ("hyper_parameters", "seal", "since_log"):  # a list may hold one other many times, or itself
            check_size(content.get(part))
    except UserError as error:
        raise UserError(f"{path} is no lit_gen checkpoint: under {part}, {error}") from None
    if not _are_sums(content.get("since_log")):
        raise UserError(f"{path} is no lit_gen checkpoint: its since_log holds no sums of a log entry")
    forget_single(content.get("hyper_parameters"), "accumulate")
    refuse_old_paths(content.get("hyper_parameters"), path)
    return content


def _is_weight(name: object, value: object) -> bool:
    if not isinstance(name, str):
        return False
    if name.endswith("_extra_state"):  # torch's name for what a module keeps beside tensors
        return True
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        return False
    return not (value.is_meta or value.is_nested or value.is_quantized)


def _are_sums(found: object) -> bool:
    """Whether this is what `lit_gen.training.monitor.Monitor` keeps: each term's sum on each rank, and its count."""
    if found is None:
        return True
    sums, counts = (found.get(name) for name in ("sums", "counts")) if isinstance(found, dict) else (None, None)
    if not isinstance(sums, dict) or not isinstance(counts, dict) or not sums.keys() <= counts.keys():
        return False
    ranks = [value for each in sums.values() for value in (each if isinstance(each, list) else [None])]
    return all(type(value) in (int, float) for value in (*ranks, *counts.values()))


def _are_loops(found: object) -> bool:
    """Whether this says where training stood; Lightning begins at 0 without a word where a part of it is missing."""
    loop = found.get("fit_loop") if isinstance(found, dict) else None
    return isinstance(loop, dict) and {"epoch_progress", "epoch_loop.batch_progress"} <= loop.keys()


def _are_states(found: object) -> bool:
    return isinstance(found, list) and bool(found)


def counts(path: Path) -> bool:
    """Whether a checkpoint was due; false for one that was only written before something that may fail."""
    content = _glance(path)
    return bool(content.get("boundary", {"counts": True})["counts"])


def step_of(path: Path) -> int | None:
    """The step of a checkpoint; None for any other file."""
    return _glance(path).get("global_step")


def _glance(path: Path) -> dict[str, Any]:
    """A checkpoint's content, its tensors left on the disk; empty for any other file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:
        return {}
    return content if isinstance(content, dict) else {}


def refuse_old_paths(content: Any, file: Path) -> None:
    """Refuse a file of an earlier version that names a module of ours that has moved, or an old option.

    Args:
        content: strings, lists and dictionaries of ``file``.
        file: names it in the message.

    Raises:
        UserError: with the first old name.
    """
    if old := next((name for name in _options(content) if name in RENAMED), None):
        raise UserError(f"{file} was written by an earlier lit_gen: it names {old}, which is {RENAMED[old]} now")
    package = str(Path(__file__).parents[1])
    modules = {found.name: found.ispkg for found in pkgutil.walk_packages([package], "lit_gen.")}
    for path in _dotted_paths(content):
        if modules.get(path.rpartition(".")[0], True) and path not in modules:  # a package of ours holds modules only
            raise UserError(f"{file} was written by an earlier lit_gen: it names {path}, which is not there any more")


def _options(content: Any) -> Iterator[str]:
    """The options of every class of ours in ``content``, and the numbers that they schedule."""
    for value in content.values() if isinstance(content, dict) else ():
        yield from _options(value)
    if isinstance(content, dict) and str(content.get("_class_path", content.get("class_path"))).startswith("lit_gen."):
        given = content.get("init_args") or content
        yield from (*given, *(given.get("schedules") or ()))


def _dotted_paths(content: Any) -> Iterator[str]:
    """Every ``lit_gen.room.module.name`` in ``content``."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list | tuple):
        for element in content:
            yield from _dotted_paths(element)
    elif isinstance(content, str) and re.fullmatch(r"lit_gen(\.\w+){2,}", content):
        yield content


def check_fits(path: Path | None, model: LightningModule, resumed: Path | None = None, trains: bool = False) -> int:
    """Compare a checkpoint's weights with the model's, and return its step.

    Args:
        path: the checkpoint; None for a run from the beginning, at step 0.
        model: the configured one.
        resumed: the run that it continues, if it does.
        trains: whether training goes on from it, which needs more than weights.

    Raises:
        UserError: if they are of another model; names the first difference. Also if an earlier version wrote the run,
            if weights are NaN, or if something is missing that training needs.
    """
    if path is None:
        return 0
    content = read(path)
    if resumed is not None and "boundary" not in content:
        raise UserError(
            f"{path} was written by an earlier lit_gen, whose runs cannot be resumed; --ckpt_path in place of --resume "
            f"continues it in a new run"
        )
    hyper_parameters = content.get("hyper_parameters")
    saved = str(hyper_parameters.get("_class_path", "")) if isinstance(hyper_parameters, dict) else ""
    kind = type(model).__qualname__
    if saved and saved.rsplit(".", 1)[-1] != kind:
        raise UserError(f"{path} is of another model: {one_line(saved)} was found, {kind} is configured")
    compare(path, content["state_dict"], model, "the configured model")
    check_finite(path, model, content["state_dict"])
    for name, there in (("loops", _are_loops), ("optimizer_states", _are_states)) if trains else ():
        if not there(content.get(name)):
            raise UserError(f"{path} holds no {name.replace('_', ' ')}, so that training cannot go on from it")
    return int(content["global_step"])
