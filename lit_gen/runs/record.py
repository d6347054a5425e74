"""What a run was made with: the command line, versions, the commit and the changes since."""

import contextlib
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from lit_gen.core.errors import UserError, note
from lit_gen.core.terminal import one_line
from lit_gen.core.yaml_text import load_all
from lit_gen.runs import slurm, trust
from lit_gen.runs.redaction import redacted, redacted_words

_SLURM = ("SLURM_RESTART_COUNT", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE")
RECORD = "run.yaml"


def describe_environment(run: Path, arguments: list[str], config: str) -> None:
    """Append one document to ``run.yaml`` per start, and write the changes since the commit beside it.

    Neither holds a secret that `lit_gen.runs.redaction` recognizes: people share run directories.

    Args:
        run: the run directory.
        arguments: the command line.
        config: the ``config.yaml`` of this start, which is sealed here, see `lit_gen.runs.trust`.
    """
    starts = 1 + sum(1 for _ in run.glob("uncommitted*.diff"))
    diff = _uncommitted(run.parent.parent)
    name = f"uncommitted-{starts}.diff" if starts > 1 else "uncommitted.diff"
    arguments = redacted_words(arguments)
    document = {
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": shlex.join(["lit-gen", *arguments]),
        "arguments": arguments,
        "folder": str(Path.cwd()),
        "commit": (_git("rev-parse", "HEAD") or "").strip() or None,
        "uncommitted": name if diff else None,
        "host": platform.node(),
        "job": _job(),
        "slurm": {name: os.environ[name] for name in _SLURM if name in os.environ} or None,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {
            "torch": str(torch.__version__),  # with its build
            **{name: _version(name) for name in ("lit-gen", "torchvision", "lightning", "numpy")},
        },
        trust.SEAL: trust.seal(yaml.safe_load(config), run=True, text=config),
    }
    _append(run / RECORD, yaml.safe_dump(document, explicit_start=True, sort_keys=False, allow_unicode=True))
    if diff:
        (run / name).write_text(diff, encoding="utf-8")


def began_before_requeue(run: Path) -> bool:
    """Whether this job, and this trial of a sweep, wrote to the run before SLURM put it back into the queue."""
    if not slurm.restarted() or not (run / RECORD).is_file():
        return False
    *_, last = _starts(run)
    return bool(last.get("job") == _job())


def own_folders(run: Path, text: str) -> dict[str, str | None] | None:
    """What the seal of one of a run's starts vouches for, see `lit_gen.runs.trust.folders`.

    A killed start may have left its seal and the configuration of the one before it.

    Args:
        run: the run directory.
        text: its ``config.yaml``.
    """
    kept = (trust.folders(start.get(trust.SEAL), None, run=True, text=text) for start in _starts(run))
    return next((own for own in kept if own is not None), None)


def _starts(run: Path) -> list[dict[str, Any]]:
    """What ``run.yaml`` says of each start; documents that a killed start has truncated are skipped."""
    found: list[Any] = []
    with contextlib.suppress(OSError):
        text = (run / RECORD).read_text(encoding="utf-8", errors="replace")
        for i, document in enumerate(re.split(r"(?m)^---$", text)):
            try:
                found += load_all(document)
            except (UserError, yaml.YAMLError):
                note(f"{run / RECORD}: what it says of start {max(i, 1)} is damaged, and is passed over")
    return [start for start in found if isinstance(start, dict)] or [{}]


def _append(path: Path, document: str) -> None:
    """Add a document and flush it to the disk; it begins on a new line even if the one before it was truncated."""
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            document = document if file.read() == b"\n" else f"\n{document}"
        file.write(document.encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())


def _uncommitted(runs: Path) -> str:
    """A patch of the working folder against its commit, new source files included, those of the runs left out.

    Its secrets are redacted; if the commit has one too, that part of the patch does not apply.
    """
    plain = ("diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty")
    patch = None if _runs_programs() else _git(*plain, "HEAD")
    if patch is None:
        return ""
    for new in (_git("ls-files", "--others", "--exclude-standard", "-z") or "").split("\0"):
        path = Path(new)
        source = path.suffix in (".py", ".yaml", ".yml", ".toml", ".sh") and path.is_file()
        if source and path.stat().st_size < 100_000 and runs.resolve() not in path.resolve().parents:
            patch += _git(*plain, "--no-index", "--", os.devnull, new, accept=(0, 1)) or ""
    parts = re.split(r"(?m)^(?=diff --git )", patch)
    return "".join(part if "\nGIT binary patch\n" in part else redacted(part) for part in parts)


def _job() -> dict[str, str] | None:
    """What a run belongs to: the job, and the trial of a sweep if it is one; None outside jobs."""
    names = ("SLURM_JOB_ID", "WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else ("SLURM_JOB_ID",)
    return {name: os.environ[name] for name in names if name in os.environ} or None


def _runs_programs() -> bool:
    """Whether a diff would run what the repository, not the person, names as a filter: nothing switches those off."""
    filters = _git("config", "--show-scope", "--name-only", "--get-regexp", r"^filter\.", accept=(0, 1))
    found = re.findall(r"(?m)^(?:local|worktree)\s+(\S+)", filters or "")
    if found:
        where = "in the repository's own configuration runs a program"
        note(f"uncommitted changes are not kept: {one_line(found[0])} {where}")
    return filters is None or bool(found)


def _git(*arguments: str, accept: tuple[int, ...] = (0,)) -> str | None:
    """What git answers; programs that a downloaded repository names are not run, and nothing is fetched."""
    settings = ("core.quotepath=off", "core.fsmonitor=false", f"core.hooksPath={os.devnull}")
    command = ["git", *(word for setting in settings for word in ("-c", setting)), *arguments]
    env = {**os.environ, "GIT_ALLOW_PROTOCOL": "", "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        result = subprocess.run(command, capture_output=True, timeout=20, encoding="utf-8", errors="replace", env=env)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout if result.returncode in accept else None  # not a repository, say


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
