"""A run of the command line, the same loop by hand, and Lightning's bare loop around that, in turns of some steps.

All three train the same networks on the same numbers in one process and one thread at a time, so that what else the
machine does falls on all alike. Their weights are compared.
"""

import contextlib
import gc
import os
import statistics
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from benchmarks.by_hand import LOOPS, Clock, Loop
from lit_gen.cli import entry


@dataclass
class Found:
    """CPU seconds of each turn, and whether the weights were equal at its end."""

    fit: list[float] = field(default_factory=list)
    by_hand: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    equal: bool = True

    def ratio(self, who: str) -> tuple[float, float, float]:
        """Median and quartiles of a lane's seconds over those by hand."""
        ratios = [a / b for a, b in zip(getattr(self, who), self.by_hand, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        return middle, low, high


class Turns(Callback):
    """At the end of every turn of the run, let the other two make as many steps."""

    found = Found()
    """Of the newest run."""

    def __init__(self, steps: int = 10, warm_up: int = 2) -> None:
        self.steps, self.warm_up, self.turns = steps, warm_up, 0
        self.clock = Clock()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the networks."""
        kind = LOOPS[type(pl_module).__name__]
        self.hand_clock = Clock()
        self.hand = kind(pl_module, trainer, self.hand_clock)
        self.floor = Floor(kind, pl_module, trainer, self.steps)
        Turns.found = Found()
        self._begin()

    def _begin(self) -> None:
        self.clock.seconds = 0.0
        self.stack = contextlib.ExitStack()
        self.stack.enter_context(self.clock.running())

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Before every turn but the first."""
        if not trainer.global_step or trainer.global_step % self.steps:
            return
        self.stack.close()
        self.turns += 1
        self.hand_clock.seconds = 0.0
        with self.hand_clock.running():
            self.hand.run(self.steps)
        floor = self.floor.turn()
        found, hand = Turns.found, self.hand
        equal = all(
            torch.equal(a, b)
            for loop in (hand, self.floor.loop)
            for name, network in loop.weights.items()
            for a, b in zip(network.state_dict().values(), getattr(pl_module, name).state_dict().values(), strict=True)
        )
        found.equal &= equal
        if self.turns > self.warm_up:
            found.fit.append(self.clock.seconds)
            found.by_hand.append(self.hand_clock.seconds)
            found.floor.append(floor)
        self._begin()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the other thread end."""
        self.stack.close()
        self.floor.end()


class Floor:
    """Lightning's loop around the steps by hand, in a thread that waits for its turn."""

    def __init__(self, kind: type[Loop], module: LightningModule, trainer: Trainer, steps: int) -> None:
        self.clock, self.go, self.done, self.over = Clock(), threading.Semaphore(0), threading.Semaphore(0), False
        self.loop, self.steps = kind(module, trainer, self.clock), steps
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._train, daemon=True)
        self.thread.start()
        self._wait()

    def turn(self) -> float:
        """Some steps; the CPU seconds of them."""
        self.go.release()
        self._wait()
        return self.clock.seconds

    def _wait(self) -> None:
        self.done.acquire()
        if self.error is not None:
            raise self.error

    def end(self) -> None:
        """Stop after the last turn."""
        self.over = True
        self.go.release()
        self.thread.join()

    def _pass_on(self) -> None:
        self.done.release()
        self.go.acquire()
        self.clock.seconds = 0.0

    def _batches(self) -> Any:
        while True:
            self._pass_on()
            if self.over:
                return
            with self.clock.running():
                for _ in range(self.steps):
                    yield torch.zeros(1)

    def _train(self) -> None:
        bare = Bare(self.loop)
        trainer = Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, barebones=False,
        )  # fmt: skip
        try:
            trainer.fit(bare, _Stream(self._batches))
        except BaseException as error:
            self.error = error
        self.done.release()


class _Stream:
    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return self.batches()

    def __len__(self) -> int:
        return 10**9  # else Lightning fetches a batch ahead, and its step would fall into the next turn


class Bare(LightningModule):
    """A module whose step is one step by hand."""

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self.automatic_optimization, self.loop = False, loop

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One step."""
        self.loop.run(1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One that does nothing: the loop has its own."""
        return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])


SHORT = (
    "--trainer.accelerator=cpu", "--trainer.callbacks=null", "--samples.enabled=false", "--checkpoint.every=1000000",
    "--trainer.limit_val_batches=0", "--run_name=r",
)  # fmt: skip


def measure(config: str, turns: int, steps: int, options: tuple[str, ...] = ()) -> Found:
    """Interleave a config's run with the others.

    Args:
        config: a shipped one.
        turns: of each.
        steps: of a turn.
        options: of the command line.
    """
    torch.set_num_threads(1)
    callback = f"{{class_path: benchmarks.interleaved.Turns, init_args: {{steps: {steps}}}}}"
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        arguments = ["fit", f"--config={config}", *SHORT, f"--run_root={folder}", *options]
        arguments += [f"--trainer.max_steps={(turns + 3) * steps}", f"--trainer.callbacks+={callback}"]
        with contextlib.redirect_stdout(nowhere):
            code = entry.run(arguments)
    if code:
        raise SystemExit(f"{config}: exit code {code}")
    gc.collect()
    return Turns.found
