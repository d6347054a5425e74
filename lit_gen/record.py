"""What a run was made with: the command line, versions, commit, and what the commit does not say."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import time
from pathlib import Path

import torch
import yaml


def describe_environment(run: Path, arguments: list[str]) -> None:
    """Append one document to ``run.yaml`` per start, and write what the commit does not say beside it."""
    starts = 1 + sum(1 for _ in run.glob("uncommitted*.diff"))
    diff = _uncommitted(run.parent.parent)
    name = f"uncommitted-{starts}.diff" if starts > 1 else "uncommitted.diff"
    document = {
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": shlex.join(["lit-gen", *arguments]),
        "arguments": arguments,
        "folder": str(Path.cwd()),
        "commit": (_git("rev-parse", "HEAD") or "").strip() or None,
        "uncommitted": name if diff else None,
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {
            "torch": str(torch.__version__),  # with its build
            **{name: _version(name) for name in ("lit-gen", "torchvision", "lightning", "numpy")},
        },
    }
    with (run / "run.yaml").open("a", encoding="utf-8") as file:
        yaml.safe_dump(document, file, explicit_start=True, sort_keys=False, allow_unicode=True)
    if diff:
        (run / name).write_text(diff, encoding="utf-8")


def _uncommitted(runs: Path) -> str:
    """A patch of the working folder against its commit, new source files included, those of the runs left out."""
    plain = ("diff", "--binary", "--no-color", "--no-ext-diff")
    patch = _git(*plain, "HEAD")
    if patch is None:
        return ""
    for new in (_git("ls-files", "--others", "--exclude-standard", "-z") or "").split("\0"):
        path = Path(new)
        source = path.suffix in (".py", ".yaml", ".yml", ".toml", ".sh") and path.is_file()
        if source and path.stat().st_size < 100_000 and runs.resolve() not in path.resolve().parents:
            patch += _git(*plain, "--no-index", "--", os.devnull, new, accept=(0, 1)) or ""
    return patch


def _git(*arguments: str, accept: tuple[int, ...] = (0,)) -> str | None:
    command = ["git", "-c", "core.quotepath=off", *arguments]
    try:
        result = subprocess.run(command, capture_output=True, timeout=20, encoding="utf-8", errors="replace")
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout if result.returncode in accept else None  # not a repository, say


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
