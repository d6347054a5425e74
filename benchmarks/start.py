"""What a command costs before it does anything: CPU time beside that of ``import torch, lightning``.

    python -m benchmarks.start [--turns 20]

Each lane has a process of its own in each turn, with one thread. Printed are the median and the quartiles of the
turns' ratios, and of the seconds. ``imports, garbage not collected`` imports in the way that the command line does.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile

PYTHON, RUN = [sys.executable, "-c"], [sys.executable, "-m", "lit_gen"]
FIT = ("fit", "--config=gan.yaml", "--trainer.max_steps=1", "--samples.enabled=false")
COLLECTOR = "import gc; gc.disable(); import torch, lightning; gc.enable(); gc.freeze()"
IMPORTS = "imports"
LANES = {
    IMPORTS: [*PYTHON, "import torch, lightning"],
    "imports, garbage not collected": [*PYTHON, COLLECTOR],
    "fit --config gan.yaml": [*RUN, *FIT, "--trainer.callbacks.FID=false"],
    "the same with an evaluation": [*RUN, *FIT],
    "--help": [*RUN, "--help"],
    "--version": [*RUN, "--version"],
    "configs": [*RUN, "configs"],
    "fit --help": [*RUN, "fit", "--help"],
}


def cost(command: list[str]) -> float:
    """CPU seconds of a command.

    Raises:
        RuntimeError: if it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:  # a run is written into the working folder
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {result.returncode}\n{result.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(turns: int) -> dict[str, list[float]]:
    """CPU seconds by lane, one of each turn after one to warm up."""
    found: dict[str, list[float]] = {name: [] for name in LANES}
    for turn in range(turns + 1):
        for name, command in LANES.items():
            seconds = cost(command)
            if turn:
                found[name].append(seconds)
    return found


def shown(numbers: list[float]) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(numbers, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=20)
    turns = parser.parse_args().turns
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    found = measure(turns)
    print(f"| {'command':32} | {'CPU seconds':24} | {'over the imports':24} |\n|---|---|---|")
    for name, seconds in found.items():
        ratios = [a / b for a, b in zip(seconds, found[IMPORTS], strict=True)]
        print(f"| {name:32} | {shown(seconds):24} | {shown(ratios):24} |")


if __name__ == "__main__":
    main()
