"""What the data tell the networks that ask for it: ``shape``, ``num_classes``, ``vocab_size``, whatever they answer.

A network may leave open, in the config, what the data module's `facts` can answer: a constructor's parameter without a
default, or with the default None, is filled by its name, whatever the network is called and wherever in the model it
stands. So no config says the shape of an image, and a network of another set is the same line.
"""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from lightning import LightningDataModule, LightningModule
from torch import nn

from lit_gen.core import data as datasets
from lit_gen.core.errors import UserError
from lit_gen.data.module import DataModule
from lit_gen.runs import checkpoints
from lit_gen.training.hparams import constructor_arguments


def is_network(found: object) -> bool:
    """Whether ``found`` is a class of networks: the parser lets those leave arguments open."""
    return inspect.isclass(found) and issubclass(found, nn.Module) and not issubclass(found, LightningModule)


def instantiate_data(
    parser: ArgumentParser, config: Namespace, command: str, checkpoint: Path | None
) -> LightningDataModule:
    """Instantiate the data module, which takes over what a checkpoint says of its data.

    Args:
        parser: LightningCLI's.
        config: of the data module.
        command: the subcommand whose configuration it is.
        checkpoint: of the model that will meet these data, or None.
    """
    chosen = Namespace(subcommand=command, **{command: Namespace(data=config)})
    data: LightningDataModule = parser.instantiate(chosen, instantiate_groups=False)[command].data
    if checkpoint is not None and isinstance(data, DataModule):
        data.adopt(checkpoints.read(checkpoint))
    return data


def instantiate_others(parser: ArgumentParser, config: Namespace, command: str, data: LightningDataModule) -> Namespace:
    """Instantiate everything but the data module; ``config`` is changed to hold what the data answered.

    Raises:
        UserError: as `fill`.
    """
    fill(config[command].model, datasets.answering(data).facts(), type(data).__name__)
    others = config.clone()
    del others[command]["data"]
    made: Namespace = parser.instantiate(others)
    return made


def fill(model: Namespace, facts: Mapping[str, Any], data: str) -> None:
    """Fill in what the networks of a model's configuration leave open.

    Args:
        model: class path and arguments, changed in place.
        facts: what the data answer, by parameter name; None where they have no such thing.
        data: the name of the data module's class, for the messages.

    Raises:
        UserError: if a network needs what is neither configured nor known to the data.
    """
    for where, chosen in _networks(model, "model"):
        arguments = chosen.get("init_args") or Namespace()
        for name, parameter in constructor_arguments(_class(chosen.class_path)).items():
            required = parameter.default is parameter.empty
            if arguments.get(name) is not None or not (required or parameter.default is None):
                continue
            if facts.get(name) is not None:
                plain = isinstance(facts[name], tuple) and parameter.annotation is parameter.empty
                arguments[name] = list(facts[name]) if plain else facts[name]  # YAML has no tuples without a type
            elif required and name not in arguments:
                raise UserError(_missing(where, chosen.class_path.rpartition(".")[2], name, facts, data))
        chosen["init_args"] = arguments


def _missing(where: str, network: str, name: str, facts: Mapping[str, Any], data: str) -> str:
    if name not in facts:
        known = f"knows {', '.join(facts)}" if facts else "has no facts()"
        needs = f"{network} needs it, but the config leaves it open and {data} {known}"
        return f"{where}.{name}: {needs}; say it, or choose another network or data set"
    lacks = "no labels; choose a labelled set or" if name == "num_classes" else f"none ({data}); choose"
    return f"{where}: {network} needs {name}, but the data set has {lacks} another network"


def _networks(config: Any, where: str) -> Iterator[tuple[str, Namespace]]:
    """Every network within a configuration, with the option that chose it."""
    if isinstance(config, Namespace) and isinstance(config.get("class_path"), str):
        if is_network(_class(config.class_path)):
            yield where, config
        yield from _networks(config.get("init_args"), where)
    elif isinstance(config, Namespace | dict):
        for key in list(config if isinstance(config, dict) else vars(config)):
            yield from _networks(config[key], f"{where}.{key}")
    elif isinstance(config, list | tuple):
        for element in config:
            path = element.get("class_path") if isinstance(element, Namespace) else None
            yield from _networks(element, f"{where}.{path.rpartition('.')[2]}" if isinstance(path, str) else where)


def _class(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
