"""What a checkpoint holds beside weights: told in one sentence where Lightning cannot restore it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lightning import Trainer

from lit_gen.core.errors import UserError
from lit_gen.core.terminal import one_line

_PARTS = {
    "restore_callbacks": "callback states",
    "restore_training_state": "loops and optimizer states",
}


def tell(trainer: Trainer, checkpoint: Path) -> None:
    """Let what the trainer's connector raises name the checkpoint and the part of it.

    A file whose weights fit may still hold states of another shape: it was edited, or another program wrote it.
    """
    connector = trainer._checkpoint_connector
    for name, part in _PARTS.items():
        setattr(connector, name, partial(_told, getattr(connector, name), checkpoint, part))


def _told(restore: Callable[[], None], checkpoint: Path, part: str) -> Any:
    try:
        return restore()
    except UserError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        why = one_line(f"{type(error).__name__}: {error}")
        raise UserError(f"{checkpoint} cannot be resumed: its {part} are not those of this run ({why})") from error
