"""Send numbers, pictures, texts and evaluations to the loggers that take them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor


def send_picture(trainer: Trainer, name: str, picture: Tensor) -> None:
    """A picture, uint8 (C, H, W), of the trainer's step."""
    for logger in trainer.loggers:
        writer: Any = getattr(logger, "experiment", None)
        if hasattr(logger, "log_picture"):
            logger.log_picture(name, picture, trainer.global_step)
        elif hasattr(writer, "add_image"):  # TensorBoard
            writer.add_image(name, picture, trainer.global_step)


def send_texts(trainer: Trainer, name: str, texts: Sequence[str]) -> None:
    """Texts of the trainer's step, shown as they are."""
    for logger in trainer.loggers:
        writer: Any = getattr(logger, "experiment", None)
        if hasattr(logger, "log_texts"):
            logger.log_texts(name, texts, trainer.global_step)
        elif hasattr(writer, "add_text"):  # TensorBoard, which reads Markdown
            writer.add_text(name, "\n\n---\n\n".join(f"```\n{text}\n```" for text in texts), trainer.global_step)


def send_record(trainer: Trainer, name: str, record: Mapping[str, Any]) -> None:
    """An evaluation's numbers with their protocol; the numbers themselves are scalars and were logged already."""
    for logger in trainer.loggers:
        if hasattr(logger, "log_record"):
            logger.log_record(name, record)


def log_scalars(module: LightningModule, scalars: Mapping[str, float], step: int | None = None) -> None:
    """Send scalars to every logger against the one step counter; keep them for the progress bar and monitors.

    Args:
        module: whose trainer has the loggers.
        scalars: values by name.
        step: the step that they belong to; None for the trainer's.
    """
    trainer = module.trainer
    if trainer.sanity_checking:
        return
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in scalars.items()})
    for logger in trainer.loggers:
        logger.log_metrics(dict(scalars), step=trainer.global_step if step is None else step)
        logger.save()
