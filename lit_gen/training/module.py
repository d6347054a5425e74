"""Base of the families' modules: what a checkpoint rebuilds the model from, log entries, the stop of a bad run."""

import types
import warnings
from collections.abc import Mapping
from typing import Any, NoReturn

from lit_gen.core.errors import NonFiniteLossError, UserError
from lit_gen.loggers import publish
from lit_gen.runs.directory import last_checkpoint_of
from lit_gen.training.hparams import module_hparams


class Rebuildable:
    """Mixin of the families' modules, before LightningModule: a checkpoint alone rebuilds the model.

    Each keeps its constructor's arguments as attributes.

    Attributes:
        described: the arguments of a module built in Python, in the words of the command line.
    """

    described: dict[str, Any] | None = None

    def keep_arguments(self, frame: types.FrameType | None) -> None:
        """Keep what the command line instantiated this module with; call it in the constructor with its frame."""
        module: Any = self
        with warnings.catch_warnings():
            # Lightning advises to ignore the networks; a checkpoint of the command line could then not be loaded.
            warnings.filterwarnings("ignore", message=".*is already saved during checkpointing.*")
            module.save_hyperparameters(logger=False, frame=frame)
        if "_instantiator" not in module.hparams:
            module.hparams.clear()  # built in Python: objects, which no checkpoint can hold; see on_save_checkpoint

    def describe(self) -> None:
        """Put a module built in Python into words now, at the start of a fit: training may change what they describe.

        Raises:
            UserError: if an argument cannot be described.
        """
        module: Any = self
        if "_instantiator" not in module.hparams and module.trainer.checkpoint_callbacks:
            try:
                self.described = module_hparams(module)
            except UserError:
                if self.described is None:  # else it was loaded from a checkpoint, which did describe it
                    raise

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what rebuilds a module built in Python."""
        module: Any = self
        if "_instantiator" not in checkpoint.get("hyper_parameters", {}):
            checkpoint["hyper_parameters"] = self.described or module_hparams(module)

    def log_scalars(self, scalars: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars under ``step``, by default the trainer's; see `lit_gen.loggers.publish.log_scalars`."""
        module: Any = self
        publish.log_scalars(module, scalars, step)

    def stop_non_finite(self, what: str) -> NoReturn:
        """Stop a run whose numbers went wrong.

        Args:
            what: which became NaN or infinite, and when.

        Raises:
            NonFiniteLossError: with the last good checkpoint.
        """
        module: Any = self
        raise NonFiniteLossError(f"{what}; {last_checkpoint_of(module.trainer)}")
