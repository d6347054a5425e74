"""The files and lines that a reader passes to follow a run, counted the same way in any version of the package.

    python benchmarks/walk.py gan.yaml vae.yaml gpt.yaml
    python benchmarks/walk.py gan.yaml --evaluation --list

The rule: a file counts, with all its lines, where a run of four steps executes at least seven different lines of its
functions. Imports do not count. Without ``--evaluation`` the config's callbacks, samples, checkpoints and validation
are switched off, and what is left of the room ``callbacks`` does not count: it only finds out that nothing is due.

With fewer than seven lines a file is passed but not read: an option is checked, one of several losses is called, a
collective returns because there is one process. Seven is calibrated on the version before the rooms (22 November 2026),
which a person counted by hand: ``gan.yaml`` 27 files and 4,500 lines, with evaluation 43 and 6,700; ``gpt.yaml`` with
evaluation 40 and 6,100. There the rule gives 27 and 4,414, 43 and 6,663; 37 and 5,564. To count another version::

    git worktree add --detach OLD COMMIT
    PYTHONPATH=OLD python benchmarks/walk.py gan.yaml
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from pathlib import Path
from types import CodeType

import yaml

import lit_gen

ROOT = Path(lit_gen.__file__).parent
CONFIGS = ROOT.parent / "configs"
FUNCTION = 0x1  # CO_OPTIMIZED: neither a module's code nor a class's
LEAST = 7


def executed(arguments: list[str]) -> dict[str, int]:
    """How many different lines of each file's functions ``lit-gen fit`` executes with these arguments."""
    from lit_gen.cli import entry

    found: dict[str, set[int]] = defaultdict(set)
    inside: dict[CodeType, bool] = {}

    def enter(frame, event, _):
        code = frame.f_code
        if code not in inside:
            inside[code] = bool(code.co_flags & FUNCTION) and ROOT in Path(code.co_filename).parents
        return step if inside[code] else None

    def step(frame, event, _):
        if event == "line":
            found[frame.f_code.co_filename].add(frame.f_lineno)
        return step

    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        entry.run(["fit", "--help"])  # all imports, which call functions too
    threading.settrace(enter)
    sys.settrace(enter)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            code = entry.run(arguments)
    finally:
        sys.settrace(None)
    if code:
        raise SystemExit(code)
    return {Path(name).relative_to(ROOT).as_posix(): len(lines) for name, lines in found.items()}


def options(config: str, evaluation: bool) -> list[str]:
    """A short run of a config, on the CPU, without loggers but `metrics.csv`."""
    chosen = ["fit", f"--config={config}", "--config=smoke.yaml", "--trainer.accelerator=cpu"]
    chosen.append("--trainer.logger.TensorBoardLogger=false")
    if not evaluation:
        callbacks = yaml.safe_load((CONFIGS / config).read_text(encoding="utf-8"))["trainer"].get("callbacks", [])
        names = [(c["class_path"] if isinstance(c, dict) else c).rsplit(".", 1)[-1] for c in callbacks]
        chosen += [f"--trainer.callbacks.{name}=false" for name in names]
        chosen += ["--samples.enabled=false", "--checkpoint.enabled=false", "--trainer.limit_val_batches=0"]
    return chosen


def main() -> None:
    """Print a line for each config."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+")
    parser.add_argument("--evaluation", action="store_true", help="with callbacks, samples, checkpoints and validation")
    parser.add_argument("--list", action="store_true", help="name the files, the lines executed before the lines")
    given = parser.parse_args()
    if len(given.configs) > 1:  # a process each: what one run keeps, the next does not call again
        for config in given.configs:
            rest = [option for option in sys.argv[1:] if option not in given.configs]
            subprocess.run([sys.executable, Path(__file__).resolve(), config, *rest], check=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # as a user: outside the checkout
        lines = executed(options(given.configs[0], given.evaluation))
    sizes = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in sorted(lines)}
    left_out = () if given.evaluation else ("callbacks/",)
    passed = [name for name in sizes if lines[name] >= LEAST and not name.startswith(left_out)]
    print(f"{given.configs[0]:12} {len(passed):3} files {sum(sizes[name] for name in passed):6,} lines")
    for name in sizes if given.list else []:
        print(f"  {lines[name]:4} of {sizes[name]:4} {name}{'' if name in passed else ' (does not count)'}")


if __name__ == "__main__":
    main()
