"""The progress bar: step, images/s or tokens/s, losses, time left; plain lines if the output is not a terminal."""

import math
import sys
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from lit_gen.core import data as datasets
from lit_gen.core.options import not_negative


class ProgressLine(ProgressBar):
    """One line for the whole run, counted in steps.

    It reads what was logged last and never asks the device for a value.

    Args:
        refresh: seconds between updates of the bar.
        every: seconds between lines if the output is not a terminal (a file, a batch job).
        enabled: whether progress is shown during training; the closing lines stay.

    Raises:
        UserError: for a number of seconds below 0.
    """

    def __init__(self, refresh: float = 0.5, every: float = 30.0, enabled: bool = True) -> None:
        super().__init__()
        not_negative("progress.", refresh=refresh, every=every)
        self.refresh, self.every, self.enabled = refresh, every, enabled
        self.rate = 0.0
        """Images or tokens per second over the whole run so far, pictures, checkpoints and validation included."""
        self.unit = "images"
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._next = 0.0
        self._running = False

    def disable(self) -> None:
        """Called by lightning on ranks other than 0."""
        self.enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin timing, and show the bar."""
        self._running = True
        self._began, self._first_step = time.monotonic(), trainer.global_step
        self._next = self._began + (self.refresh if sys.stderr.isatty() else 1.0)
        if self.enabled and trainer.is_global_zero and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[text]}"),
                console=Console(stderr=True),
                auto_refresh=False,
                expand=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(_step(trainer), total=_total(trainer), text="")
            self._show(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Update the bar, or write a line, when the time has come."""
        now = time.monotonic()
        if now < self._next:
            return
        self._measure(trainer, now)
        if not (self.enabled and trainer.is_global_zero):
            return
        if self._bar is not None:
            self._next = now + self.refresh
            self._show(trainer)
        else:
            self._next = now + self.every
            print(f"{_step(trainer)}  {self._text(trainer)}", file=sys.stderr, flush=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Show the last step, and leave the bar as it is."""
        if not self._running:
            return
        self._running = False
        self._measure(trainer, time.monotonic())
        if self._bar is None and self.enabled and trainer.is_global_zero:
            print(f"{_step(trainer)}  {self._text(trainer)}", file=sys.stderr, flush=True)
        self._close(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Release the terminal."""
        self._running = False
        self._close(trainer)

    def _close(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._show(trainer)
            self._bar.stop()
            self._bar = None

    def _show(self, trainer: Trainer) -> None:
        assert self._bar is not None
        step, text = trainer.global_step, self._text(trainer)
        self._bar.update(self._task, completed=step, description=_step(trainer), text=text, refresh=True)

    def _measure(self, trainer: Trainer, now: float) -> None:
        per_step, self.unit = datasets.data_of(trainer).per_step()
        self.rate = (trainer.global_step - self._first_step) * per_step / max(1e-9, now - self._began)

    def _text(self, trainer: Trainer) -> str:
        parts = [f"{self.rate:,.0f} {self.unit}/s"]
        for name, value in trainer.callback_metrics.items():
            if name.startswith("train/") and name.endswith("loss"):
                parts.append(f"{name.removeprefix('train/').removesuffix('_loss')} {float(value):.3f}")
            elif name.startswith("val/") and name.endswith("loss"):
                parts.append(f"{name} {float(value):.3f}")
        passed, done = time.monotonic() - self._began, trainer.global_step - self._first_step
        remaining = (_total(trainer) or 0) - trainer.global_step
        if done:
            parts.append(f"{_clock(passed / done * remaining)} left" if remaining > 0 else _clock(passed))
        return "  ".join(parts)


def _total(trainer: Trainer) -> int | None:
    """The last step, or None for a run without end."""
    steps = trainer.estimated_stepping_batches if trainer.max_steps < 0 else trainer.max_steps
    return int(steps) if math.isfinite(steps) else None


def _step(trainer: Trainer) -> str:
    total = _total(trainer)
    return f"step {trainer.global_step}" + (f"/{total}" if total else "")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
