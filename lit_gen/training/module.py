"""Base of every family's module: its arguments, its log entries, the stop of a run whose numbers went wrong."""

import types
import warnings
from collections.abc import Mapping
from typing import Any, NoReturn

from lightning import LightningModule

from lit_gen.core.errors import NonFiniteLossError, UserError
from lit_gen.loggers import publish
from lit_gen.runs.directory import last_checkpoint_of
from lit_gen.training.hparams import module_hparams
from lit_gen.training.monitor import Monitor


class TrainingModule(LightningModule):
    """A module whose checkpoint alone rebuilds it and goes on with its log entries.

    It keeps its constructor's arguments as attributes of the same names.

    Attributes:
        monitor: of the loss terms; set by the constructor.
        described: the arguments of a module built in Python, in the words of the command line.
    """

    monitor: Monitor
    described: dict[str, Any] | None = None

    def keep_arguments(self, frame: types.FrameType | None) -> None:
        """Keep what the command line instantiated this module with; call it in the constructor with its frame."""
        with warnings.catch_warnings():
            # Lightning advises to ignore the networks; a checkpoint of the command line could then not be loaded.
            warnings.filterwarnings("ignore", message=".*is already saved during checkpointing.*")
            self.save_hyperparameters(logger=False, frame=frame)
        if "_instantiator" not in self.hparams:
            self.hparams.clear()  # built in Python: objects, which no checkpoint can hold; see on_save_checkpoint

    def describe(self) -> None:
        """Put a module built in Python into words now, at the start of a fit: training may change what they describe.

        Raises:
            UserError: if an argument cannot be described.
        """
        if "_instantiator" not in self.hparams and self.trainer.checkpoint_callbacks:
            try:
                self.described = module_hparams(self)
            except UserError:
                if self.described is None:  # else it was loaded from a checkpoint, which did describe it
                    raise

    # ---- the log

    def detailed(self, step: int) -> bool:
        """Whether a log entry follows step ``step``, from 1."""
        trainer: Any = self.trainer
        every: int = trainer.log_every_n_steps
        return every > 0 and step % every == 0

    def log_scalars(self, scalars: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars under ``step``, by default the trainer's; see `lit_gen.loggers.publish.log_scalars`."""
        publish.log_scalars(self, scalars, step)

    def stop_non_finite(self, what: str) -> NoReturn:
        """Stop a run whose numbers went wrong.

        Args:
            what: which became NaN or infinite, and when.

        Raises:
            NonFiniteLossError: with the last good checkpoint.
        """
        raise NonFiniteLossError(f"{what}; {last_checkpoint_of(self.trainer)}")

    # ---- the checkpoint

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what rebuilds a module built in Python, and each rank's part of the next log entry."""
        if "_instantiator" not in checkpoint.get("hyper_parameters", {}):
            checkpoint["hyper_parameters"] = self.described or module_hparams(self)
        checkpoint["since_log"] = self.monitor.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the sums of the next log entry."""
        if "since_log" in checkpoint:
            self.monitor.load_state_dict(checkpoint["since_log"])
