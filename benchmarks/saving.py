"""What a checkpoint of 100 million weights with Adam's two moments each, 1.1 GiB, costs: time, memory, training's wait.

    python benchmarks/saving.py FOLDER

Each way and repetition has a process of its own, one after another, on one thread. FOLDER lies on the disk in question.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from lit_gen.core.files import whole
from lit_gen.runs.checkpoint_io import CheckpointFiles

WAYS, REPEATS, PARTS, SIZE = ("lightning", "file", "thread"), 3, 100, 1_000_000


def save(way: str, folder: Path) -> None:
    """Save once and print what it cost."""
    torch.set_num_threads(1)
    names = ("weight", "exp_avg", "exp_avg_sq")
    state = {f"{name}.{i}": torch.randn(SIZE) for name in names for i in range(PARTS)}
    path, before = folder / f"{way}.ckpt", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    if way == "lightning":
        with whole(path) as partial:
            TorchCheckpointIO().save_checkpoint(state, partial)
        stood = time.perf_counter() - wall
    else:
        files = CheckpointFiles(asynchronous=way == "thread")
        files.save_checkpoint(state, path)
        stood = time.perf_counter() - wall
        files.wait()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    path.unlink()
    print(f"{way:10} CPU {cpu:5.2f} s  wall {wall:5.2f} s  training waited {stood:5.2f} s  memory +{memory:.2f} GiB")


def main() -> None:
    """Print a line for each way and repetition."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--way", choices=WAYS, help="only this one, once")
    given = parser.parse_args()
    if given.way is not None:
        save(given.way, given.folder)
        return
    for _ in range(REPEATS):
        for way in WAYS:
            subprocess.run([sys.executable, __file__, str(given.folder), "--way", way], check=True)


if __name__ == "__main__":
    main()
