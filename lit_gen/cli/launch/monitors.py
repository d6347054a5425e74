"""Which numbers a run will log, and whether its callbacks monitor only these."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from lit_gen.callbacks.evaluators.base import Evaluator
from lit_gen.cli.config.files import as_list
from lit_gen.core.errors import UserError, nearest

ALWAYS = (None, "epoch", "step")  # ModelCheckpoint may monitor nothing, and knows the others by itself


def announced(model: Any, data: Any, callbacks: Sequence[Any], limit_val_batches: Any) -> tuple[list[str], list[str]]:
    """The names that will be logged, and what else may log under names that it does not announce.

    Args:
        model: the module.
        data: the data module.
        callbacks: those of the config.
        limit_val_batches: the trainer's option.
    """
    names: list[str] = []
    silent: list[str] = []
    if hasattr(model, "announced"):
        names += model.announced(limit_val_batches)
    else:
        silent.append(type(model).__name__)
    for callback in callbacks:
        if not isinstance(callback, Evaluator):
            ours = type(callback).__module__.startswith("lit_gen.")
            silent += [] if ours or isinstance(callback, EarlyStopping | ModelCheckpoint) else [type(callback).__name__]
            continue
        if not callback.cadence.ever(validates=limit_val_batches != 0):
            continue
        try:
            names += [f"val/{name}" for name in callback.announced(data)]
        except NotImplementedError:
            silent.append(type(callback).__name__)
    return list(dict.fromkeys(names)), silent


def check(model: Any, data: Any, fit: Any) -> None:
    """Refuse a callback that monitors a number that is not logged, if that can be known before training.

    Args:
        model: the module.
        data: the data module.
        fit: the instantiated options of ``fit``; None for another command.

    Raises:
        UserError: for the first such callback.
    """
    if fit is None or not type(model).__module__.startswith("lit_gen."):  # a subclass may log anything
        return
    callbacks = as_list(fit.trainer.callbacks)
    monitoring = [c for c in callbacks if isinstance(c, EarlyStopping | ModelCheckpoint) and c.monitor not in ALWAYS]
    wanted = {f"trainer.callbacks.{type(c).__name__}.monitor": str(c.monitor) for c in monitoring}
    if fit.checkpoint.ranking.monitor is not None:
        wanted["checkpoint.monitor"] = fit.checkpoint.ranking.monitor
    if not wanted:
        return
    names, silent = announced(model, data, callbacks, fit.trainer.limit_val_batches)
    for option, name in wanted.items() if not silent else ():
        if name not in names:
            same = [known for known in names if known.split("/")[0] == name.split("/")[0]] or names
            raise UserError(f"{option}: nothing logs {name}{nearest(name, names)} (logged are {', '.join(same)})")
    if (name := wanted.get("checkpoint.monitor", "")).startswith("train/"):
        raise UserError(
            f"checkpoint.monitor: {name} is of the steps before the saved one; a number of an evaluation or of the "
            f"validation is expected (val/...)"
        )
