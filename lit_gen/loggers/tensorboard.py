"""TensorBoard's part in a resumed run: each value appears once."""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger


class Continue(Callback):
    """Hide what comes after the saved step, and do not write existing values of that step again.

    Part of what was due at the saved step may have been written before the process was killed. Hiding that step too
    would lose what was logged in it before it was saved.

    Args:
        logger: whose writer is not made yet.
        step: the saved one.
    """

    def __init__(self, logger: TensorBoardLogger, step: int) -> None:
        self._logger, self._step = logger, step
        logger._kwargs.setdefault("purge_step", step + 1)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Before the first value is logged."""
        if stage != "fit" or not trainer.is_global_zero:
            return
        there = _written(Path(self._logger.log_dir), (0, self._step))  # hyper-parameters are written at step 0
        writer: Any = self._logger.experiment._get_file_writer()
        add = writer.add_summary

        def add_what_is_new(summary: Any, global_step: int | None = None, walltime: float | None = None) -> None:
            values = [value for value in summary.value if (global_step or 0, value.tag) not in there]
            if len(values) == len(summary.value):
                add(summary, global_step, walltime)
            elif values:
                add(type(summary)(value=values), global_step, walltime)

        writer.add_summary = add_what_is_new


def _written(folder: Path, steps: tuple[int, ...]) -> set[tuple[int, str]]:
    """The tags in TensorBoard's files at those steps, without hidden ones."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    except ModuleNotFoundError:  # tensorboardX writes without it, and cannot read
        return set()

    found: set[tuple[int, str]] = set()
    for path in sorted(folder.glob("events.out.tfevents.*")):  # in this order TensorBoard reads them
        for record in RawEventFileLoader(str(path)).Load():  # up to a record that a kill truncated
            event = Event.FromString(record)
            if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                found = {(step, tag) for step, tag in found if step < event.step}
            elif event.step in steps:
                found |= {(event.step, value.tag) for value in event.summary.value}
    return found
