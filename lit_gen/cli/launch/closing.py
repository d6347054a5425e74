"""What a command says before and after it ran, on rank 0."""

from pathlib import Path
from typing import Any, TypeVar

from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from lit_gen.callbacks.checkpoint import Checkpoint
from lit_gen.callbacks.evaluators.base import tables
from lit_gen.callbacks.progress import ProgressLine
from lit_gen.callbacks.samples import Samples
from lit_gen.core import data as datasets
from lit_gen.core.terminal import printable
from lit_gen.data.module import DataModule
from lit_gen.loggers.csv import MetricsCSV
from lit_gen.loggers.tensorboard import Continue
from lit_gen.runs import directory
from lit_gen.training.module import TrainingModule

C = TypeVar("C")


def callback(trainer: Trainer, kind: type[C]) -> C:
    """The callback of that kind, which every run has."""
    found: C = next(c for c in datasets.callbacks_of(trainer) if isinstance(c, kind))
    return found


class WriteConfig(Callback):
    """Writes a resumed run's ``config.yaml`` when training starts.

    Until then loading the data or the checkpoint may still refuse the options, and the file must stay as it was.

    Args:
        run: the run directory.
        text: the resolved configuration.
    """

    def __init__(self, run: Path, text: str) -> None:
        self.run, self.text = run, text

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write it: checkpoint and data were accepted."""
        directory.write_config(self.run, self.text)


class BeginAgain(Callback):
    """Empty the log of a run that was stopped before its first checkpoint.

    Args:
        logger: whose rows are written again.
    """

    def __init__(self, logger: MetricsCSV) -> None:
        self.logger = logger

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing is refused any more."""
        self.logger.cut(0)


def log_again(trainer: Trainer, step: int | None) -> None:
    """Hide what a resumed run logs again.

    Args:
        trainer: before the fit.
        step: of the checkpoint, which itself says how many rows the log had; None without a checkpoint.
    """
    for logger in trainer.loggers:
        if isinstance(logger, MetricsCSV) and step is None:
            datasets.callbacks_of(trainer).append(BeginAgain(logger))
        elif isinstance(logger, TensorBoardLogger):
            datasets.callbacks_of(trainer).append(Continue(logger, step or 0))


def what_is_trained(trainer: Trainer, module: LightningModule, data: Any) -> None:
    """The text, how the items of an update are divided, and what differs from one undivided batch because of that.

    Raises:
        UserError: on every rank, if the ranks do not divide a batch.
    """
    if trainer.is_global_zero and datasets.has_text(data):  # one that comes with Python differs between its versions
        text = data.protocol
        kind = f"tokenizer {text['tokenizer']}, {text['vocab_size']:,} ids"
        print(f"text      {text['data']}, sha256 {text['text_sha256'][:12]}, {kind}", flush=True)
    if not isinstance(data, DataModule) or data.batch_size is None:
        return
    batches = data.batches(trainer.world_size, module)
    if not trainer.is_global_zero:
        return
    count, unit = data.counted(batches)
    updates = getattr(module, "updates_per_step", 1)
    print(
        f"batch     {batches.told(data.items, updates, '' if unit == data.items else f'{count:,} {unit}')}", flush=True
    )
    if isinstance(module, TrainingModule) and (differs := module.meetings(batches)):
        print(f"          not as in one undivided batch: {', '.join(differs)}", flush=True)


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
        print(f"samples   {printable(samples.latest)}")
    for line in best(run, callback(trainer, Checkpoint)):
        print(line)
    shown = tables(datasets.callbacks_of(trainer))
    print(shown, end="")
    for name in getattr(trainer.lightning_module, "headline", ()):  # of lightning's validation
        if name in trainer.callback_metrics and name not in shown.split():
            print(f"{name:32} {float(trainer.callback_metrics[name]):.5g}")
    if progress.rate:
        print(f"{f'{progress.unit}/s':9} {progress.rate:,.0f}")


def best(run: Path, checkpoint: Checkpoint) -> list[str]:
    """The best checkpoints and their numbers, if a number ranks them."""
    name, scores = checkpoint.ranking.monitor, checkpoint.ranking.scores
    if name is None or not checkpoint.enabled:
        return []
    if not scores:
        return [f"best      none: no finite {name} was logged at a step that was saved"]
    return [
        f"best      {printable(checkpoint.path_of(run, step))}, {name} {number:.6g}" for step, number in scores.items()
    ]


def numbers(checkpoint: Path | None, trainer: Trainer) -> None:
    """What ``validate`` and ``test`` measured."""
    print(f"from {printable(checkpoint)}, on {datasets.kind_of(datasets.data_of(trainer))}")
    if not trainer.callback_metrics:
        print("nothing was measured: this data set has no such split, or the model no metric for it")
    for name, value in sorted(trainer.callback_metrics.items()):
        print(f"{printable(name):24} {float(value):.6g}")
