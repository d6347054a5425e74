"""Messages about a step that failed."""

import sys

import torch
from lightning import Trainer

from lit_gen.core.errors import NonFiniteLossError
from lit_gen.runs import directory


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
