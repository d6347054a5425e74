"""Our configs for tiny Shakespeare beside nanoGPT itself, in turns in one process, on one thread.

    git clone https://github.com/karpathy/nanoGPT
    LIT_GEN_DATA=DIR python -m benchmarks.nanogpt nanoGPT --seeds 3     # DIR/tinyshakespeare/input.txt

nanoGPT trains as its README says for a CPU (4 layers, 2,000 steps), with its own network, optimizer, batches and loop.
A config is a run of the command line with its log entries. The two take turns, each turn the same share of both
trainings, so that what else the machine does falls on both alike. CPU time (user and system, of the process) is that
of the training: without the start, evaluations, samples and checkpoints. Losses are over all of the held-out text.
"""

import argparse
import contextlib
import importlib
import io
import math
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from lit_gen.cli import entry
from lit_gen.core import data as datasets

STEPS = 2000
BLOCK, ROWS = 64, 12
OFF = (
    "--trainer.accelerator=cpu", "--trainer.callbacks=null", "--samples.enabled=false", "--checkpoint.enabled=false",
    "--run_name=r",
)  # fmt: skip


@dataclass
class Found:
    """What a run shows: steps, losses, and CPU seconds of each turn of the run and of nanoGPT."""

    steps: int = 0
    their_steps: int = 0
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    loss: float = math.nan
    their_loss: float = math.nan

    def __str__(self) -> str:
        each = self.their_steps / self.steps
        low, middle, high = statistics.quantiles(
            [each * a / b for a, b in zip(self.ours, self.theirs, strict=True)], n=4
        )
        all_of_it = sum(self.ours) / sum(self.theirs) * self.their_steps / STEPS
        other = f", nanoGPT's {self.their_loss:.4f}" if self.their_steps == STEPS else ""
        return (
            f"{self.steps} steps take {all_of_it:.4f} of the CPU time of nanoGPT's {STEPS}, {sum(self.ours):.1f} s; "
            f"a step {middle:.3f} of a step ({low:.3f} to {high:.3f}); loss {self.loss:.4f}{other}"
        )


class NanoGPT:
    """Its training for a CPU, a step at a time; what does not apply there (scaler, DDP, autocast) does nothing in it.

    Args:
        tokens: of the training text, uint16.
        vocab_size: number of characters.
        seed: added to its own, 1337.
    """

    def __init__(self, tokens: Any, vocab_size: int, seed: int) -> None:
        code = importlib.import_module("model")  # model.py of its folder
        self.tokens, self.done = tokens, 0
        self.scaler = torch.amp.GradScaler("cuda", enabled=False)
        size = {"n_layer": 4, "n_head": 4, "n_embd": 128, "dropout": 0.0, "bias": False}
        with torch.random.fork_rng([]), contextlib.redirect_stdout(io.StringIO()):
            torch.manual_seed(1337 + seed)
            self.network = code.GPT(code.GPTConfig(block_size=BLOCK, vocab_size=vocab_size, **size))
            self.optimizer = self.network.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cpu")
            self.next = self.batch()
            self.random = torch.get_rng_state()

    def batch(self) -> tuple[Tensor, Tensor]:
        """get_batch of train.py."""
        ix = torch.randint(len(self.tokens) - BLOCK, (ROWS,))
        x = torch.stack([torch.from_numpy(self.tokens[i : i + BLOCK].astype("int64")) for i in ix])
        y = torch.stack([torch.from_numpy(self.tokens[i + 1 : i + 1 + BLOCK].astype("int64")) for i in ix])
        return x, y

    def rate(self) -> float:
        """get_lr of train.py."""
        if self.done < 100:
            return 1e-3 * (self.done + 1) / 101
        return 1e-4 + 0.5 * (1 + math.cos(math.pi * (self.done - 100) / (STEPS - 100))) * 9e-4

    def run(self, steps: int) -> None:
        """So many steps of train.py, with a loss read every 10."""
        with torch.random.fork_rng([]):
            torch.set_rng_state(self.random)
            for _ in range(steps):
                self.make_step()
            self.random = torch.get_rng_state()

    def make_step(self) -> None:
        """One of them."""
        rate = self.rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        x, y = self.next
        _, loss = self.network(x, y)
        self.next = self.batch()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.done % 10 == 0:
            loss.item()
        self.done += 1


class Beside(Callback):
    """Let nanoGPT train between the turns of a run.

    Args:
        seed: of nanoGPT.
        turns: of each training; nanoGPT makes ``steps / turns`` steps in each.
        steps: of nanoGPT.
    """

    found = Found()
    """Of the newest run."""

    def __init__(self, seed: int, turns: int, steps: int) -> None:
        self.seed, self.turns, self.steps = seed, turns, steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make it ready."""
        data = datasets.data_of(trainer)
        tokens = data.stream("train").tokens[:]
        self.other = NanoGPT(tokens, data.tokenizer.vocab_size, self.seed)
        self.ours, self.theirs = [], []
        Beside.found = Found(trainer.max_steps, self.steps, self.ours, self.theirs)
        self.begun = time.process_time()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        """At the end of a turn."""
        turn = len(self.ours) + 1
        if trainer.global_step < turn * trainer.max_steps // self.turns:
            return
        self.ours.append(time.process_time() - self.begun)
        begun = time.process_time()
        self.other.run(turn * self.steps // self.turns - self.other.done)
        self.theirs.append(time.process_time() - begun)
        self.begun = time.process_time()

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Score both."""
        network = self.other.network.eval()

        def nll(tokens: Tensor) -> Tensor:
            logits = network(tokens[:, :-1], tokens[:, 1:].contiguous())[0]
            return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view(
                len(tokens), -1
            )

        windows = datasets.data_of(trainer).windows("val", BLOCK, BLOCK, 128)
        with torch.no_grad():
            Beside.found.loss, Beside.found.their_loss = (mean(windows, score) for score in (pl_module.nll, nll))


def mean(windows: Any, nll: Any) -> float:
    """Mean nats of every token of the windows."""
    found = [nll(batch.tokens)[batch.scored].double() for batch in windows]
    return float(torch.cat(found).mean())


def beside(config: str, seed: int, turns: int, steps: int, options: tuple[str, ...] = ()) -> Found:
    """Train a config and nanoGPT."""
    torch.set_num_threads(1)
    arguments = f"{{seed: {seed}, turns: {turns}, steps: {steps}}}"
    callback = f"{{class_path: benchmarks.nanogpt.Beside, init_args: {arguments}}}"
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        given = ["fit", f"--config={config}", *OFF, f"--run_root={folder}", f"--seed_everything={seed}", *options]
        with contextlib.redirect_stdout(nowhere):
            code = entry.run([*given, f"--trainer.callbacks+={callback}"])
    if code:
        raise SystemExit(f"{config}: exit code {code}")
    found: Found = importlib.import_module("benchmarks.nanogpt").Beside.found  # as a program this module is another one
    return found


def main() -> None:
    """Print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("code", help="the folder of nanoGPT")
    parser.add_argument("--configs", nargs="+", default=["gpt_shakespeare_cpu_fast.yaml"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--steps", type=int, default=STEPS, help="of nanoGPT; fewer only measure time")
    given, options = parser.parse_known_args()  # the others are of the command line of a run
    sys.path.insert(0, given.code)
    for config in given.configs:
        for seed in range(given.seeds):
            found = beside(config, seed, given.turns, given.steps, tuple(options))
            print(f"{config}, seed {seed}: {found}", flush=True)


if __name__ == "__main__":
    main()
