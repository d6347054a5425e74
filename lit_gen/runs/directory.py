"""The run directory ``runs/<name>/<id>/``: where everything about one run lies, and how to find it again.

config.yaml     the resolved configuration        checkpoints/   step=00001000.ckpt, ...
run.yaml        command line, versions, commit    samples/       step=00000200.png, ...
uncommitted.diff  changes since the commit        metrics.csv    one row per log entry, append-only
lease           the process that trains it        eval/          numbers with their protocol, and what was scored
"""

import contextlib
import os
import re
import secrets
import shutil
import time
from pathlib import Path

from lightning import Trainer

from lit_gen.core.errors import UserError, nearest
from lit_gen.core.files import write_whole
from lit_gen.core.options import expect
from lit_gen.runs import lease, record, slurm

SEPARATOR = "\n" + "-" * 80 + "\n"  # between texts

CONFIG = "config.yaml"
METRICS = "metrics.csv"
CHECKPOINTS = "checkpoints"
ENVIRONMENT = "LIT_GEN_RUN"  # rank 0 hands the run directory to the ranks it launches under this name

_STEP = re.compile(r"step=(\d+)\.ckpt")
_OF_A_START = re.compile(
    rf"config\.yaml|run\.yaml|uncommitted.*\.diff|{lease.LEASE}|events\.out\.tfevents\..*|hparams\.yaml"
)
_made: list[Path] = []  # by this process, the innermost first


def given_id() -> str | None:
    """The run id that a W&B sweep's trial gives, or the SLURM job, whose id a requeue keeps; None without either.

    Raises:
        UserError: if it is not a name for a folder, see `component`.
    """
    trial = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
    job = slurm.job_name()
    return component("WANDB_RUN_ID", trial) if trial else component("the SLURM job", job) if job else None


def component(option: str, name: str) -> str:
    """Return a name if it is one printable component of a path, so that a file of that name stays in its folder.

    Raises:
        UserError: if it is not.
    """
    one = name not in ("", ".", "..") and name.isprintable() and not {"/", "\\"} & set(name)
    expected = "one printable name of a folder, without / and \\"
    expect(one and len(os.fsencode(name)) <= 200, option, name, expected)
    return name


def create(root: Path, name: str, identifier: str | None = None, take_over: bool = False) -> Path:
    """Make ``root/name/id``, take its lease and return it; without any other id, the id is the time.

    If that directory exists, the time gets a counter, so that two runs never share a directory.

    Raises:
        UserError: if the folder cannot be written, holds a run, or belongs to another process; or for an invalid name.
    """
    component("run_name", name)
    given = component("run_id", identifier) if identifier else given_id()
    chosen = given or time.strftime("%Y%m%d-%H%M%S")
    missing = [path for path in (root / name, *(root / name).parents) if not path.exists()]
    try:
        for attempt in range(1000):
            path = root / name / (chosen if attempt == 0 else f"{chosen}-{attempt + 1}")
            path.parent.mkdir(parents=True, exist_ok=True)
            _made[:] = missing
            try:
                path.mkdir()
                _made.insert(0, path)
            except FileExistsError:
                if given is None:
                    continue  # another run began within this second
                if path.is_symlink() and not path.exists():
                    raise UserError(f"run_id: {path} is a link that leads nowhere; choose another --run_id") from None
                if not path.is_dir():
                    raise UserError(f"run_id: {path} is a file; choose another --run_id") from None
                _refuse_run(path)
            lease.take(path, take_over)
            _refuse_run(path)  # of a process that made it, and has ended while this one waited
            check_writable(path)
            return path
    except NotADirectoryError:
        file = next(path for path in (root, *root.parents, root / name) if path.exists() and not path.is_dir())
        raise UserError(f"run_root: {file} is a file, a folder is expected") from None
    except OSError as error:
        raise UserError(f"run_root: {root} cannot be written ({error.strerror}); choose a folder that can") from None
    raise UserError(f"run_root: {root / name} already holds a thousand runs named {chosen}")


def _refuse_run(path: Path) -> None:
    """Refuse a used directory; other ranks may find what the first has made, and a requeued job what it left."""
    if slurm.rank() == 0 and not record.began_before_requeue(path) and ((path / CONFIG).exists() or checkpoints(path)):
        raise UserError(f"run_id: {path} already holds a run; --resume it, or choose another --run_id") from None


def remove_unused() -> None:
    """Remove what `create` made in this process, if nothing was trained: a mistake leaves no trace.

    A log without a row, the config and the record of the start are nothing that anybody misses; whatever else is there
    keeps the run. The lease is the last to go: nobody can take the run while its files are removed.
    """
    made, _made[:] = list(_made), []
    run = next((path for path in made if path.is_dir()), None)
    if run is not None and lease.held() and not any(_of_worth(path) for path in run.rglob("*") if path.is_file()):
        for path in run.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != lease.LEASE:
                path.unlink(missing_ok=True)
    lease.release()
    for path in made:
        with contextlib.suppress(OSError):  # it holds something
            path.rmdir()


def _of_worth(path: Path) -> bool:
    if path.name == METRICS:
        return path.read_bytes().count(b"\n") > 1
    return not _OF_A_START.fullmatch(path.name)


def check_writable(path: Path) -> None:
    """Write and remove a small file, so that a full or read-only disk is found before the first step."""
    probe = path / f".writable-{secrets.token_hex(8)}"  # ranks have one each
    probe.write_bytes(b"\0" * 4096)
    probe.unlink()


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    found = [(int(match[1]), p) for p in (run / CHECKPOINTS).glob("*.ckpt") if (match := _STEP.fullmatch(p.name))]
    return [path for _, path in sorted(found)]


def nearest_to(path: Path) -> str:
    """``"; did you mean 'runs/gan'?"`` for the name beside it that is closest, or ``""``."""
    beside = [str(other) for other in path.parent.iterdir() if other != path] if path.parent.is_dir() else []
    return nearest(str(path), beside)


def _around(path: Path) -> str:
    """A hint at the run that a path lies in, or at a run below it."""
    inside = [parent for parent in path.parents if (parent / CONFIG).is_file()]
    below = sorted(p.parent for p in (*path.glob(f"*/{CONFIG}"), *path.glob(f"*/*/{CONFIG}")))
    found = inside[:1] or below[-1:]
    return f"; did you mean {str(found[0])!r}?" if found else ""


def find(path: Path) -> Path:
    """The run directory at ``path``.

    Raises:
        UserError: if there is no run.
    """
    if not path.is_dir():
        expected = "a run directory, such as runs/gan/20260131-120000, is expected"
        raise UserError(f"{path} is no folder; {expected}{_around(path) or nearest_to(path)}")
    if not (path / CONFIG).is_file():
        raise UserError(f"{path} is no run directory: it holds no {CONFIG}{_around(path)}")
    return path


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
        write_whole(run / f"config.{number}.yaml", path.read_bytes())  # a copy: a kill here leaves the run its config
    write_whole(path, text)
