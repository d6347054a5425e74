"""Which files of the package a run passes through: what a reader opens to follow it.

    python benchmarks/walk.py gan.yaml vae.yaml gpt.yaml
    python benchmarks/walk.py gan.yaml --evaluation --list

A file counts where one of its functions is called in a run of four steps; imports do not count. Without
``--evaluation`` the callbacks of the config, the samples and the checkpoints are left out.
"""

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import yaml

CONFIGS = Path(__file__).parents[1] / "configs"
FUNCTION = 0x1  # CO_OPTIMIZED: neither a module's code nor a class's


def passed(arguments: list[str]) -> list[Path]:
    """The files of the package whose functions ``lit-gen fit`` calls with these arguments."""
    from lit_gen.cli import entry

    root, found = Path(entry.__file__).parents[1], set()

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_flags & FUNCTION:
            found.add(frame.f_code.co_filename)

    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        entry.run(["fit", "--help"])  # all imports, which call functions too
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            code = entry.run(arguments)
    finally:
        sys.setprofile(None)
    if code:
        raise SystemExit(code)
    return sorted(p for p in map(Path, found) if root in p.parents)


def options(config: str, evaluation: bool, folder: str) -> list[str]:
    """A short run of a config, on the CPU, without loggers but `metrics.csv`."""
    chosen = ["fit", f"--config={config}", "--config=smoke.yaml", "--trainer.accelerator=cpu", f"--run_root={folder}"]
    chosen.append("--trainer.logger.TensorBoardLogger=false")
    if not evaluation:
        callbacks = yaml.safe_load((CONFIGS / config).read_text(encoding="utf-8"))["trainer"].get("callbacks", [])
        names = [(c["class_path"] if isinstance(c, dict) else c).rsplit(".", 1)[-1] for c in callbacks]
        chosen += [f"--trainer.callbacks.{name}=false" for name in names]
        chosen += ["--samples.enabled=false", "--checkpoint.enabled=false"]
    return chosen


def main() -> None:
    """Print a line for each config."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+")
    parser.add_argument("--evaluation", action="store_true", help="with callbacks, samples and checkpoints")
    parser.add_argument("--list", action="store_true", help="name the files")
    given = parser.parse_args()
    if len(given.configs) > 1:  # a process each: what one run keeps, the next does not call again
        for config in given.configs:
            rest = [option for option in sys.argv[1:] if option not in given.configs]
            subprocess.run([sys.executable, __file__, config, *rest], check=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        files = passed(options(given.configs[0], given.evaluation, folder))
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    print(f"{given.configs[0]:12} {len(sizes):3} files {sum(sizes.values()):6,} lines")
    for path, size in sizes.items() if given.list else []:
        print(f"  {size:4} {'/'.join(path.parts[path.parts.index('lit_gen') + 1 :])}")


if __name__ == "__main__":
    main()
