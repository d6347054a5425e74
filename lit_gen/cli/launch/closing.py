"""What a command says before and after it ran, on rank 0."""

from pathlib import Path
from typing import Any, TypeVar

from lightning import LightningModule, Trainer
from lightning.pytorch import Callback

from lit_gen.callbacks.evaluators.base import tables
from lit_gen.callbacks.progress import ProgressLine
from lit_gen.callbacks.samples import Samples
from lit_gen.core import data as datasets
from lit_gen.core.terminal import printable
from lit_gen.runs import directory

C = TypeVar("C")


def callback(trainer: Trainer, kind: type[C]) -> C:
    """The callback of that kind, which every run has."""
    found: C = next(c for c in datasets.callbacks_of(trainer) if isinstance(c, kind))
    return found


class WriteConfig(Callback):
    """Write a resumed run's configuration once it was accepted.

    Args:
        run: the run directory.
        text: the resolved configuration.
    """

    def __init__(self, run: Path, text: str) -> None:
        self.run, self.text = run, text

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checkpoint and data fit together."""
        directory.write_config(self.run, self.text)


def which_text(data: Any) -> None:
    """A text that comes with Python differs between its versions: say which one this is."""
    if datasets.has_text(data):
        text = data.protocol
        kind = f"tokenizer {text['tokenizer']}, {text['vocab_size']:,} ids"
        print(f"text      {text['data']}, sha256 {text['text_sha256'][:12]}, {kind}", flush=True)


def what_came_of_it(run: Path, trainer: Trainer, idle: bool) -> None:
    """Where everything is, and the last numbers.

    Args:
        run: the run directory.
        trainer: after the fit.
        idle: whether nothing was left to train.
    """
    samples, progress = callback(trainer, Samples), callback(trainer, ProgressLine)
    print(f"run       {printable(run)}")
    if idle:
        last = f"the run stands at step {trainer.global_step} (trainer.max_steps, trainer.max_epochs)"
        print(f"nothing was left to train: {last}")
    if samples.latest is not None:
        print(f"samples   {samples.latest}")
    print(tables(datasets.callbacks_of(trainer)), end="")
    if progress.rate:
        print(f"{f'{progress.unit}/s':9} {progress.rate:,.0f}")


def numbers(checkpoint: Path | None, trainer: Trainer) -> None:
    """What ``validate`` and ``test`` measured."""
    print(f"from {printable(checkpoint)}, on {datasets.kind_of(datasets.data_of(trainer))}")
    if not trainer.callback_metrics:
        print("nothing was measured: this data set has no such split, or the model no metric for it")
    for name, value in sorted(trainer.callback_metrics.items()):
        print(f"{printable(name):24} {float(value):.6g}")
