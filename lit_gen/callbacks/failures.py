"""Messages about a step that failed, and about what would fail later."""

import contextlib
import sys

import torch
from lightning import LightningModule, Trainer

from lit_gen.core.blame import named
from lit_gen.core.data import callbacks_of
from lit_gen.core.errors import NonFiniteLossError, UserError
from lit_gen.runs import directory
from lit_gen.runs.readable import EXPECTED, strange


def refuse_states(trainer: Trainer, module: LightningModule) -> None:
    """Look at the states of optimizers and callbacks before the first step.

    Raises:
        UserError: if the checkpoint holds the state of an optimizer of another kind, or if a callback's state could not
            be read again.
    """
    loaded: list[str] = getattr(module, "loaded_optimizers", [])
    for i, (before, optimizer) in enumerate(zip(loaded, trainer.optimizers, strict=False)):
        if before != (kind := type(optimizer).__name__):
            option = f"model.{module.optimizer_names()[i]}"  # type: ignore[operator]
            raise UserError(
                f"{option}: {kind} was found, but the checkpoint holds the state of {before}, which is expected"
            )
    for callback in callbacks_of(trainer):
        state = {}
        with contextlib.suppress(Exception):  # one that has no state before the first step is asked at the first save
            state = callback.state_dict()
        if (unreadable := strange(state)) is not None:
            raise UserError(f"{named(callback)}: no checkpoint can hold its state_dict: {unreadable}; {EXPECTED}")


def refuse_non_finite(trainer: Trainer) -> None:
    """Refuse broken weights.

    Raises:
        NonFiniteLossError: if one is NaN or infinite; the last good checkpoint then stays as it is.
    """
    for name, parameter in trainer.lightning_module.named_parameters():
        if not torch.isfinite(parameter).all():
            last = directory.last_checkpoint_of(trainer)
            raise NonFiniteLossError(f"the weight {name} became NaN or infinite by step {trainer.global_step}; {last}")


def saved_at(trainer: Trainer) -> str:
    """A clause that says how to continue a run whose step is saved."""
    return f"step {trainer.global_step} is saved: lit-gen fit --resume {trainer.default_root_dir}"


def tell(trainer: Trainer, what: str) -> None:
    """Say on the first rank what failed after its step was saved, before the error itself is shown."""
    if trainer.is_global_zero:
        print(f"{what} failed; {saved_at(trainer)}", file=sys.stderr, flush=True)
