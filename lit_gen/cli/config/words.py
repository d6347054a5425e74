"""What a person types, in the form that the parser takes: negative numbers, short names of losses."""

import re
from itertools import pairwise
from typing import Any

from lit_gen.cli.config.chosen import class_at
from lit_gen.cli.config.files import Config
from lit_gen.core.errors import UserError
from lit_gen.models.adversarial import losses
from lit_gen.training.hparams import constructor_arguments

_NUMBER = re.compile(r"-(\.?\d|\.?(inf|nan)$)", re.IGNORECASE)


def pair_numbers(arguments: list[str]) -> list[str]:
    """``--option=-1e-3`` for ``--option -1e-3``, which argparse would read as two options.

    Raises:
        UserError: for an option with one dash, one quoted together with its value, or an empty word.
    """
    for before, word in pairwise(["", *arguments]):
        if not word and (not before.startswith("--") or "=" in before):  # else it is that option's value
            raise UserError("an empty word was found among the options; a quoted variable may be empty")
        if quoted := re.match(r"(--[\w.+]+) +\S", word):
            raise UserError(f"{word!r} was found as one word, {quoted[1]} and its value are expected without quotes")
        if re.match(r"-[A-Za-z]\w", word) and not _NUMBER.match(word):
            raise UserError(f"{word.partition('=')[0]} is no option; did you mean -{word.partition('=')[0]}?")
    paired: list[str] = []
    for word in arguments:
        if _NUMBER.match(word) and paired and paired[-1].startswith("--") and "=" not in paired[-1]:
            paired[-1] += f"={word}"
        else:
            paired.append(word)
    return paired


def loss_names() -> dict[str, str]:
    """The adversarial losses: by name, what a config calls each."""
    return {name: f"{losses.__name__}.{name}" for name in losses.__all__ if name[0].islower()}


def takes_loss(kind: type | None) -> bool:
    """Whether a class has an option ``loss`` that is an adversarial one."""
    taken = constructor_arguments(kind).get("loss") if kind else None
    return taken is not None and taken.annotation == losses.Loss


def name_losses(config: Config, options: list[str]) -> tuple[Config, list[str]]:
    """A config and options that name an adversarial loss by its dotted path where they said hinge, Hinge or HingeLoss.

    Args:
        config: the merged config files; not changed.
        options: of the command line.
    """
    if not takes_loss(class_at("model", config, options)):
        return config, options
    model = config.get("model")
    arguments = model.get("init_args") if isinstance(model, dict) else None
    if isinstance(model, dict) and isinstance(arguments, dict) and "loss" in arguments:
        config = {**config, "model": {**model, "init_args": {**arguments, "loss": _loss(arguments["loss"])}}}
    named = list(options)
    for i, word in enumerate(options):
        if word.startswith("--model.loss="):
            named[i] = f"--model.loss={_loss(word.split('=', 1)[1])}"
        elif word == "--model.loss" and i + 1 < len(options):
            named[i + 1] = _loss(options[i + 1])
    return config, named


def _loss(value: Any) -> Any:
    """The dotted path of a loss, whatever its name's case and underscores; anything else as it is."""
    if not isinstance(value, str):
        return value
    return {_plain(name): path for name, path in loss_names().items()}.get(_plain(value), value)


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower().removesuffix("loss")
