"""``--model.finetune.start`` and ``--model.adapter.base``: the data of a run that begins with another's weights."""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from lit_gen.core import data as datasets
from lit_gen.core.errors import UserError, under
from lit_gen.data.module import DataModule
from lit_gen.runs import checkpoints

OPTIONS = ("finetune.start", "adapter.base")


def refuse_two(model: Namespace, checkpoint: Any) -> None:
    """Refuse a start beside a checkpoint whose weights and steps a run goes on with.

    Args:
        model: the parsed options of the model.
        checkpoint: the option ``ckpt_path``.

    Raises:
        UserError: for both.
    """
    for option, _ in _starts(model) if checkpoint else ():
        raise UserError(f"{option}: it was found beside --ckpt_path, which has weights of its own; say null")


def begin_data(model: Namespace, data: Any) -> None:
    """Let the data adopt what the other run's weights need: an id of its tokenizer keeps its meaning.

    Args:
        model: the parsed options of the model.
        data: the data module, changed in place.

    Raises:
        UserError: if there is no such run, or the data do not go with it.
    """
    for option, start in _starts(model) if isinstance(data, DataModule) and datasets.has_text(data) else ():
        with under(f"{option}: "):
            content = checkpoints.read(checkpoints.resolve(Path(start)))
        try:
            data.begin_with(content, option)
        except (AttributeError, TypeError, KeyError) as error:
            raise UserError(f"{option}: {start} has a checkpoint whose text is not readable") from error


def _starts(model: Namespace) -> list[tuple[str, str]]:
    """The options of a model that name another run, and that run."""
    found = ((f"model.{option}", _value(model, option.split("."))) for option in OPTIONS)
    return [(option, start) for option, start in found if isinstance(start, str)]


def _value(chosen: Any, names: list[str]) -> Any:
    """An option of a class, of one of its arguments, and so on: arguments stand under ``init_args`` or beside it."""
    for name in names:
        if not isinstance(chosen, Namespace):
            return None
        chosen = (chosen.get("init_args") or chosen).get(name)
    return chosen
