"""The run directory ``runs/<name>/<id>/``: where everything about one run lies, and how to find it again.

config.yaml     the resolved configuration        checkpoints/   step=00001000.ckpt, ...
run.yaml        command line, versions, commit    samples/       step=00000200.png, ...
uncommitted.diff  what the commit does not say    metrics.csv    one row per log entry, append-only
                                                  eval/          numbers with their protocol, and what was scored
"""

import contextlib
import csv
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning_utilities.core.rank_zero import rank_zero_only

from lit_gen import cluster
from lit_gen.errors import UserError
from lit_gen.pictures import replace

CONFIG = "config.yaml"
RECORD = "run.yaml"
METRICS = "metrics.csv"
CHECKPOINTS = "checkpoints"
ENVIRONMENT = "LIT_GEN_RUN"  # rank 0 hands the run directory to the ranks it launches under this name

_STEP = re.compile(r"step=(\d+)\.ckpt")


def given_id() -> str | None:
    """The run id where something decides it: a W&B sweep's trial, or the SLURM job, whose id a requeue keeps."""
    trial = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
    return trial or cluster.job_name()


def create(root: Path, name: str, identifier: str | None = None) -> Path:
    """Make and return ``root/name/id``, the id being the time where nothing decides it.

    A time that is taken gets a counter, so that no two runs share a directory.

    Raises:
        UserError: if the folder cannot be written.
    """
    given = identifier or given_id()
    chosen = given or time.strftime("%Y%m%d-%H%M%S")
    try:
        for attempt in range(1000):
            path = root / name / (chosen if attempt == 0 else f"{chosen}-{attempt + 1}")
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.mkdir()
            except FileExistsError:
                if given is None:
                    continue  # another run began within this second
                # the other ranks find what the first has just made, a requeued job what it left
                if (
                    cluster.rank() == 0
                    and not began_before_requeue(path)
                    and ((path / CONFIG).exists() or checkpoints(path))
                ):
                    raise UserError(
                        f"run_id: {path} already holds a run; --resume it, or choose another --run_id"
                    ) from None
            check_writable(path)
            return path
    except OSError as error:
        raise UserError(f"run_root: {root} cannot be written ({error.strerror}); choose a folder that can") from None
    raise UserError(f"run_root: {root / name} already holds a thousand runs named {chosen}")


def began_before_requeue(run: Path) -> bool:
    """Whether this job, and this trial of a sweep, wrote to the run before SLURM put it back into the queue."""
    if not cluster.restarted() or not (run / RECORD).is_file():
        return False
    *_, last = yaml.safe_load_all((run / RECORD).read_text(encoding="utf-8"))
    return bool(last.get("job") == cluster.identity())


def remove_if_empty(path: str | None) -> None:
    """Remove a run directory in which nothing was written: a mistake on the command line leaves no trace."""
    if path and Path(path).is_dir() and not any(Path(path).iterdir()):
        Path(path).rmdir()
        with contextlib.suppress(OSError):
            Path(path).parent.rmdir()


def check_writable(path: Path) -> None:
    """Write and remove a small file, so that a full or read-only disk is found before the first step."""
    probe = path / f".writable-{cluster.rank()}"
    probe.write_bytes(b"\0" * 4096)
    probe.unlink()


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    found = [(int(match[1]), p) for p in (run / CHECKPOINTS).glob("*.ckpt") if (match := _STEP.fullmatch(p.name))]
    return [path for _, path in sorted(found)]


def find(path: Path) -> Path:
    """The run directory at ``path``.

    Raises:
        UserError: if there is none.
    """
    if not path.is_dir():
        raise UserError(f"{path} is no folder; a run directory, such as runs/gan/20260131-120000, is expected")
    if not (path / CONFIG).is_file():
        inner = sorted(p.parent for p in path.glob(f"*/{CONFIG}"))
        hint = f"; did you mean {str(inner[-1])!r}?" if inner else ""
        raise UserError(f"{path} is no run directory: it holds no {CONFIG}{hint}")
    return path


def latest_checkpoint(run: Path) -> Path:
    """The newest checkpoint of a run.

    Raises:
        UserError: if the run has none.
    """
    found = checkpoints(find(run))
    if not found:
        raise UserError(f"{run} holds no checkpoint yet, so there is nothing to continue or to sample from")
    return found[-1]


def last_checkpoint_of(trainer: Trainer) -> str:
    """A clause that names the last checkpoint this trainer wrote, for error messages."""
    latest = next(filter(None, (getattr(c, "latest", None) for c in trainer.checkpoint_callbacks)), None)
    return f"the last good checkpoint is {latest}" if latest else "no checkpoint was written before it"


def write_config(run: Path, text: str) -> None:
    """Write ``config.yaml``; an earlier, different one is kept as ``config.1.yaml`` and so on."""
    path = run / CONFIG
    if path.is_file():
        if path.read_text(encoding="utf-8") == text:
            return
        number = next(n for n in range(1, 10_000) if not (run / f"config.{n}.yaml").exists())
        replace(path, run / f"config.{number}.yaml")
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    replace(partial, path)


def log_scalars(module: LightningModule, scalars: Mapping[str, float], step: int | None = None) -> None:
    """Send scalars to every logger against the one step counter; keep them for the progress bar and monitors.

    Args:
        module: whose trainer has the loggers.
        scalars: values by name.
        step: the step that they belong to; None for the trainer's.
    """
    trainer = module.trainer
    if trainer.sanity_checking:
        return
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in scalars.items()})
    for logger in trainer.loggers:
        logger.log_metrics(dict(scalars), step=trainer.global_step if step is None else step)
        logger.save()


class RunLogger(Logger):
    """Base of our loggers: lightning builds folders from a logger's name and version, and there is one run directory.

    Args:
        save_dir: the run directory.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self._folder = Path(save_dir)

    @property
    def name(self) -> str:
        """Empty."""
        return ""

    @property
    def version(self) -> str:
        """Empty."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run directory."""
        return str(self._folder)


class MetricsCSV(RunLogger):
    """``metrics.csv``: append-only, flushed per row, cut back to the checkpoint's step on resume.

    A new column is appended to the header by rewriting the file atomically; values that a row lacks are empty.

    Args:
        save_dir: the run directory.
    """

    def __init__(self, save_dir: str = "{run_dir}") -> None:
        super().__init__(save_dir)
        self._path = self._folder / METRICS
        self._header: list[str] | None = None

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The configuration lies beside the file, in config.yaml."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row, and hand it to the operating system before returning."""
        if _rank() != 0:
            return
        row = {"step": str(step), **{k: repr(float(v)) for k, v in metrics.items() if k != "epoch"}}
        if self._header is None:
            self._header, _ = self._read()
        missing = [name for name in row if name not in self._header]
        if missing:
            _, rows = self._read()
            self._header = self._header + missing
            self._rewrite(rows)
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._header, restval="").writerow(row)

    def cut(self, step: int) -> None:
        """Drop the rows after ``step``, and a row that a kill cut short: the resumed run writes them again."""
        if not self._path.is_file() or _rank() != 0:
            return
        self._header, rows = self._read()
        self._rewrite([r for r in rows if r["step"].isdigit() and int(r["step"]) <= step])

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        if not self._path.is_file():
            return [], []
        text = self._path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        reader = csv.DictReader(whole.splitlines(), restval="")
        return list(reader.fieldnames or []), list(reader)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        assert self._header is not None
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self._header, restval="")
            writer.writeheader()
            writer.writerows(rows)
        replace(partial, self._path)


def _rank() -> int:
    return int(getattr(rank_zero_only, "rank", 0))
