"""What `benchmarks.gpu` puts into a run: turns with a plain loop by hand, a stop at a validation loss, random data."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from benchmarks.by_hand import LOOPS, Clock
from lit_gen.core import data as datasets
from lit_gen.data.module import DataModule, place
from lit_gen.data.text.crops import TrainCrops
from lit_gen.data.text.windows import TokenStream

PEAKS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 operations per second, from the data sheets, by a part of the device's name."""


def now(where: torch.device) -> float:
    """Seconds, once the device has done its work."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)
    return time.perf_counter()


class Lanes(Callback):
    """The run and a plain loop by hand take turns; the first turn of each warms up, and compiles.

    Args:
        steps: of a turn.
        turns: of each that count.
        out: file for the seconds of the turns.
        by_hand: whether there is a loop by hand.
    """

    def __init__(self, steps: int, turns: int, out: str, by_hand: bool = True) -> None:
        self.steps, self.turns, self.out, self.by_hand = steps, turns, Path(out), by_hand
        self.seconds: dict[str, list[float]] = {"run": [], "by_hand": []}
        self.began = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the networks, as they are before the first step."""
        kind = LOOPS[type(pl_module).__name__]
        self.loop = kind(pl_module, trainer, Clock(), plain=True) if self.by_hand else None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Between two turns of the run, the loop's; after the last one, the record."""
        if trainer.global_step % self.steps:
            return
        where = pl_module.device
        if trainer.global_step:
            self.seconds["run"].append(now(where) - self.began)
            if self.loop is not None:
                began = now(where)
                self.loop.run(self.steps)
                self.seconds["by_hand"].append(now(where) - began)
        if trainer.global_step == (self.turns + 1) * self.steps:
            self._write(trainer, pl_module)
        self.began = now(where)

    def _write(self, trainer: Trainer, module: LightningModule) -> None:
        items, unit = datasets.data_of(trainer).per_step()
        where = module.device
        found = {name: [items * self.steps / s for s in each[1:]] for name, each in self.seconds.items()}
        name = torch.cuda.get_device_name(where) if where.type == "cuda" else "CPU"
        peak = next((p for part, p in PEAKS.items() if part in name), None)
        content = {**found, "unit": unit, "device": name, "peak": peak, "flops": flops(module)}
        self.out.write_text(json.dumps(content), encoding="utf-8")


def flops(module: Any) -> float | None:
    """Floating-point operations of training on one token: 6 N + 12 L T n_embd, as nanoGPT counts them; else None."""
    network = getattr(module, "network", None)
    if not hasattr(network, "n_layer"):
        return None
    assert network is not None
    places = {id(p) for name, p in network.named_parameters() if name == "wpe.weight"}
    n = sum(p.numel() for p in network.parameters() if id(p) not in places)
    return float(6 * n + 12 * network.n_layer * network.block_size * network.n_embd)


class Reached(Callback):
    """Stop at a validation loss.

    Args:
        target: the loss.
        out: file for the best loss so far, its step, and the seconds since the first step began, compilation included.
    """

    def __init__(self, target: float, out: str) -> None:
        self.target, self.out, self.best = target, Path(out), float("inf")
        self.began = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Look at what the step before has measured."""
        loss = float(trainer.callback_metrics.get("val/loss", float("inf")))
        if loss < self.best:
            self.best = loss
            seconds = time.perf_counter() - self.began
            content = {"loss": loss, "step": trainer.global_step, "seconds": seconds}
            self.out.write_text(json.dumps(content), encoding="utf-8")
        if loss <= self.target:
            trainer.should_stop = True


class RandomTokens(DataModule):
    """Crops of random tokens, as fast as those of a text: for the speed of a large vocabulary.

    Args:
        vocab_size: number of ids.
        block_size: tokens that the network reads.
        batch_size: crops of a step.
        seed: names the crops.
    """

    def __init__(self, vocab_size: int, block_size: int, batch_size: int, seed: int = 0) -> None:
        super().__init__(None, seed, batch_size)
        self.vocab_size, self.block_size = vocab_size, block_size

    def facts(self) -> dict[str, Any]:
        """See `DataModule`."""
        return {"vocab_size": self.vocab_size, "block_size": self.block_size}

    def per_step(self) -> tuple[int, str]:
        """See `DataModule`."""
        return self.batches().per_step * self.block_size, "tokens"

    def train_dataloader(self) -> TrainCrops:
        """Random crops of a million tokens."""
        tokens = np.random.default_rng(0).integers(0, self.vocab_size, 10**6).astype(np.uint16)
        stream = TokenStream(tokens, None, 0, 0, 0, None, self.vocab_size)
        here = place(self.trainer)
        return self.continued(
            TrainCrops(stream, self.block_size, self.batches(), self.seed, device=here.get("device"), on_device=True)
        )
