"""What a second rank costs: ``python -m benchmarks.ranks [--turns 5] [CONFIG ...]``.

CPU time of all threads for the same steps of a shipped config, on gloo, one thread of torch each: one rank with the
whole batch over two ranks, each with half of it, together. Its bound is one rank with the whole batch over twice one
rank with half of it: small batches use a processor less well, and each rank has the optimizer's step and the loop to
itself. Medians and quartiles over turns; each run is a child forked from a process that has imported everything.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch.distributed import TCPStore

from benchmarks.interleaved import SHORT
from lit_gen.cli import entry

CONFIGS = {"gan.yaml": (64, 40), "gan_mlp.yaml": (64, 120), "vae.yaml": (64, 120), "gpt_shakespeare_cpu.yaml": (12, 60)}
"""The batch, and steps that are timed."""
WARM_UP = 32


class Timer(Callback):
    """Writes the CPU seconds of the steps after the first ones."""

    def __init__(self, folder: str) -> None:
        self.folder, self._began = Path(folder), 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """After the first steps."""
        if trainer.global_step == WARM_UP:
            self._began = time.process_time()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After the last one."""
        (self.folder / f"{trainer.global_rank}.seconds").write_text(str(time.process_time() - self._began))


def train(config: str, steps: int, batch: int, ranks: int) -> float:
    """CPU seconds of all ranks together."""
    store = TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=30), False)  # torchrun's place to meet
    with tempfile.TemporaryDirectory() as folder:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
        timer = f"{{class_path: benchmarks.ranks.Timer, init_args: {{folder: {folder}}}}}"
        arguments = ["fit", f"--config={config}", *SHORT, f"--run_root={folder}", f"--data.batch_size={batch}"]
        arguments += [f"--trainer.max_steps={WARM_UP + steps}", f"--trainer.callbacks+={timer}"]
        arguments += [f"--trainer.devices={ranks}", *(["--trainer.strategy=ddp"] if ranks > 1 else [])]
        children = [child(arguments, {**place, **as_torchrun(rank, ranks)}, folder) for rank in range(ranks)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        if any(codes):
            raise SystemExit(f"{config}: exit codes {codes}\n{(Path(folder) / 'said').read_text()}")
        return sum(float((Path(folder) / f"{rank}.seconds").read_text()) for rank in range(ranks))


def as_torchrun(rank: int, ranks: int) -> dict[str, str]:
    """The variables of one of several ranks."""
    names: dict[str, Any] = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    names |= {"TORCHELASTIC_RUN_ID": "x", "TORCHELASTIC_USE_AGENT_STORE": "True", "GROUP_WORLD_SIZE": 1}
    return {name: str(value) for name, value in names.items()} if ranks > 1 else {}


def child(arguments: list[str], variables: dict[str, str], folder: str) -> int:
    """A forked child that runs a command; its process id."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    try:
        said = os.open(Path(folder) / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.environ |= variables
        code = entry.run(arguments)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        code = 1
    os._exit(code)


def shown(ratios: list[float]) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=list(CONFIGS), metavar="CONFIG")
    parser.add_argument("--turns", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| {'config':24} | {'two ranks':22} | {'bound':22} | of the bound |\n|---|---|---|---|", flush=True)
    for config in chosen.configs:
        batch, steps = CONFIGS[config]
        efficiency, bound = [], []
        for _ in range(chosen.turns):
            whole = train(config, steps, batch, 1)
            efficiency.append(whole / train(config, steps, batch, 2))
            bound.append(whole / (2 * train(config, steps, batch // 2, 1)))
        share = statistics.median(e / b for e, b in zip(efficiency, bound, strict=True))
        print(f"| {config:24} | {shown(efficiency):22} | {shown(bound):22} | {share:.3f} |", flush=True)


if __name__ == "__main__":
    main()
