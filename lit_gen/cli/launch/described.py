"""The options of a parsed configuration, as they are to be typed, with their values and what they mean."""

import importlib
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, NamedTuple, get_args, get_type_hints

import docstring_parser
import yaml
from jsonargparse import Namespace
from lightning import LightningModule, Trainer
from torch import nn

from lit_gen.cli.commands.train import assemble
from lit_gen.cli.launch.lightning import LitGenCLI

COMMON = (
    *("max_steps", "max_epochs", "accelerator", "devices", "num_nodes", "precision", "callbacks", "logger"),
    *("val_check_interval", "limit_val_batches", "log_every_n_steps"),
)
"""The options of Lightning's trainer that are shown though they may have their default."""
HIDDEN = ("seed",)  # linked to seed_everything


class Option(NamedTuple):
    """One option.

    Attributes:
        name: with its dots, without the dashes.
        value: as YAML, a class by its short name.
        about: the first sentence of what the class's docstring says of it.
    """

    name: str
    value: str
    about: str


class Parsed(LitGenCLI):
    """A configuration that is parsed, and nothing more.

    Args:
        command: fit, validate, test or predict.
        arguments: what follows the command.
    """

    def __init__(self, command: str, arguments: list[str]) -> None:
        super().__init__(command, assemble(command, arguments), [command, *arguments])

    def _set_seed(self) -> None:
        """Nothing is drawn."""

    def before_instantiate_classes(self) -> None:
        """Nothing is written."""

    def instantiate_classes(self) -> None:
        """Nothing is made."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""


def described(command: str, arguments: list[str]) -> dict[str, list[Option]]:
    """The options of a config by group: run, model, data, trainer, checkpoint, samples, progress, stop.

    Raises:
        UserError: as the command itself would.
    """
    cli = Parsed(command, arguments)
    chosen, help_of = cli.chosen, {}
    defaults = cli._parser(command).get_defaults()
    for action in cli._parser(command)._actions:
        help_of[action.dest] = _sentence(action.help or "")
    run = [Option(n, _text(chosen[n]), help_of[n]) for n in ("seed_everything", "run_root", "run_name", "run_id")]
    groups = {"run": run}
    for name in ("model", "data"):
        groups[name] = list(_options(Namespace(**{name: chosen[name]}), "", {}))
    abouts = _arguments(Trainer)
    kept = {
        key: value
        for key, value in vars(chosen.trainer).items()
        if key in COMMON or _text(value) != _text(defaults.get(f"trainer.{key}"))
    }
    groups["trainer"] = list(_options(Namespace(**kept), "trainer.", abouts))
    for name in ("checkpoint", "samples", "progress", "stop"):
        abouts = {key: help_of.get(f"{name}.{key}", "") for key in vars(chosen[name])}
        groups[name] = list(_options(chosen[name], f"{name}.", abouts))
    return groups


def _options(options: Namespace, prefix: str, abouts: dict[str, str], owner: type | None = None) -> Iterator[Option]:
    for key, value in vars(options).items():
        if key in HIDDEN:
            continue
        name, about = f"{prefix}{key}", abouts.get(key, "")
        elements = value if isinstance(value, list) else []
        if _is_class(value):
            yield from _of_class(name, value, about)
        elif elements and all(_is_class(element) for element in elements):
            for element in elements:
                yield from _of_class(f"{name}.{_short(element.class_path)}", element, "", named=True)
        elif isinstance(value, Namespace):
            kind = None if owner is None else _dataclass_of(owner, key)
            yield from _options(value, f"{name}.", {} if kind is None else _arguments(kind))
        else:
            yield Option(name, _text(value), about)


def _of_class(name: str, chosen: Namespace, about: str, named: bool = False) -> Iterator[Option]:
    module, _, kind = chosen.class_path.rpartition(".")
    cls = getattr(importlib.import_module(module), kind)
    about = about or _sentence(docstring_parser.parse(cls.__doc__ or "").short_description or "")
    # several networks have the same name, those of other libraries too
    value = chosen.class_path if issubclass(cls, nn.Module) and not issubclass(cls, LightningModule) else kind
    yield Option(name, "" if named else value, about)
    yield from _options(chosen.get("init_args") or Namespace(), f"{name}.", _arguments(cls), cls)


def _dataclass_of(cls: type, argument: str) -> type | None:
    """The dataclass whose fields are the options of a constructor's argument, such as ``ema: EMA | None``."""
    hint = get_type_hints(vars(cls).get("__init__")).get(argument)
    return next((kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and is_dataclass(kind)), None)


def _arguments(cls: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say of the constructor's arguments."""
    found = {}
    for base in reversed(cls.__mro__):
        for text in (base.__doc__, vars(base).get("__init__", None).__doc__ if "__init__" in vars(base) else None):
            for argument in docstring_parser.parse(text or "").params:
                found[argument.arg_name] = _sentence(argument.description or "")
    return found


def _is_class(value: Any) -> bool:
    return isinstance(value, Namespace) and "class_path" in value


def _short(path: str) -> str:
    return path.rpartition(".")[2]


def _sentence(text: str) -> str:
    """The first sentence, on one line."""
    line = " ".join(text.split())
    return line.split(". ")[0].split("; ")[0].rstrip(".")


def _text(value: Any) -> str:
    if hasattr(value, "__qualname__"):
        return str(value.__qualname__)
    if isinstance(value, str):
        return value if value.isprintable() else repr(value)
    if isinstance(value, Namespace):
        value = value.as_dict()
    try:
        text = yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True, width=1000)
    except yaml.YAMLError:
        return repr(value)
    return text.removesuffix("...\n").strip()
