"""The argument parser, and the arguments that the data fill in: ``shape``, ``num_classes``, ``vocab_size``.

A config may leave arguments of a network open that the data module's `facts` know: a constructor's parameter without a
default, or with the default None, is filled in by its name, for any network anywhere in the model. So no config states
the shape of an image, and the config of a network is the same for another data set.
"""

import importlib
import inspect
import re
from argparse import SUPPRESS
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, Union, get_args

import yaml
from jsonargparse import ArgumentParser, Namespace
from jsonargparse._actions import _ActionConfigLoad
from jsonargparse._loaders_dumpers import get_yaml_default_loader
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser
from lightning_utilities.core.enums import StrEnum
from torch import nn

from lit_gen.cli.config.loader import as_it_looks, load, quote_what_looks_otherwise
from lit_gen.core import data as datasets
from lit_gen.core.errors import UserError
from lit_gen.data.module import DataModule
from lit_gen.runs import checkpoints
from lit_gen.training.hparams import constructor_arguments

as_it_looks(get_yaml_default_loader())  # options on the command line are read as config files are
quote_what_looks_otherwise(yaml.SafeDumper, get_yaml_default_loader())  # which writes config.yaml
yaml.SafeDumper.add_multi_representer(StrEnum, lambda dumper, value: dumper.represent_str(value.value))


class Parser(LightningArgumentParser):
    """LightningCLI's parser: no abbreviated options, and errors are raised instead of printed with the usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)  # --trainer.max_step must not set max_steps
        self._mistakes: list[tuple[UserError, type, dict[str, Any]]] = []
        super().__init__(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the parser's message as it is; `explain` makes it one sentence."""
        raise UserError(message) from ex

    def add_class_arguments(self, theclass: Any, *args: Any, **kwargs: Any) -> list[str]:
        """Add a class's arguments; the data may fill in a network's, and a trainer has no gradient accumulation."""
        if theclass is Trainer:  # see `lit_gen.core.batches`
            kwargs["skip"] = {*(kwargs.get("skip") or ()), "accumulate_grad_batches"}
        added: list[str] = super().add_class_arguments(theclass, *args, **kwargs)
        for action in self._actions:
            _whole_numbers_first(action)
        for action in self._actions if _is_network(theclass) else []:
            if action.required:
                action.required, action.default = False, SUPPRESS
                action.help = " ".join(filter(None, [action.help, "(needed, unless the data answer it)"]))
        return added

    def _add_signature_parameter(self, *args: Any, **kwargs: Any) -> None:
        """Let only ``--config`` read a file as YAML: a data file that an option names cannot name classes."""
        super()._add_signature_parameter(*args, **{**kwargs, "sub_configs": False})

    def _create_group_if_requested(self, *args: Any, **kwargs: Any) -> Any:
        """Let no section read a file either, as in ``--trainer x.yaml``."""
        group = super()._create_group_if_requested(*args, **kwargs)
        for action in group._group_actions if group is not self else []:
            if type(action) is _ActionConfigLoad:
                action.__class__, action.metavar = _Section, "MAPPING"
                action.help = "the options of this section as one YAML mapping"
        return group

    def add_subclass_arguments(self, *args: Any, **kwargs: Any) -> Any:
        """Say in the help what such an option takes; it reads no file either."""
        kwargs.setdefault("metavar", "CLASS_PATH_OR_NAME | MAPPING | .INIT_ARG_NAME VALUE")
        return super().add_subclass_arguments(*args, **kwargs)

    def add_instantiator(self, *args: Any, **kwargs: Any) -> None:
        """Add an instantiator; classes without one are made by `_make`, which remembers mistakes."""
        super().add_instantiator(*args, **kwargs)
        super().add_instantiator(self._make, object)  # added again, it is asked last

    def _make(self, class_type: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return class_type(*args, **kwargs)
        except UserError as error:
            self._mistakes.append((error, class_type, kwargs))
            raise
        except MisconfigurationException as error:  # lightning's callbacks and loggers
            told = UserError(f"trainer: {class_type.__name__}: {' '.join(str(error).replace('`', '').split())}")
            self._mistakes.append((told, class_type, kwargs))
            raise told from error

    def instantiate(self, namespace: Namespace, *args: Any, **kwargs: Any) -> Namespace:
        """Instantiate a configuration.

        Where an option may be of several types (``float | Schedule``), jsonargparse tries one after the other and keeps
        only a long text of their errors: the mistake in it is raised instead.

        Raises:
            UserError: for a mistake that a constructor found.
        """
        try:
            made: Namespace = super().instantiate(namespace, *args, **kwargs)
            return made
        except Exception as error:
            for mistake, class_type, given in self._mistakes:
                if str(mistake) in str(error):
                    raise UserError(_at(str(mistake), class_type, given, namespace)) from mistake
            raise


class _Section(_ActionConfigLoad):
    """An option such as ``--trainer``, which takes a YAML mapping, not a file."""

    def _load_config(self, value: Any, parser: Any) -> Any:
        if isinstance(value, str):
            try:
                content = load(value)
            except yaml.YAMLError:
                content = None
            if not isinstance(content, dict):
                option = f"--{self.dest}"
                raise UserError(f"{option}: {value!r} was found, a mapping is expected; name a file by --config")
            value = content
        return super()._load_config(value, parser)


def instantiate_data(
    parser: ArgumentParser, config: Namespace, command: str, checkpoint: Path | None
) -> LightningDataModule:
    """Instantiate the data module, which adopts what a checkpoint says of its data.

    Args:
        parser: LightningCLI's.
        config: of the data module.
        command: the subcommand whose configuration it is.
        checkpoint: of the model that will be used with these data, or None.
    """
    chosen = Namespace(subcommand=command, **{command: Namespace(data=config)})
    data: LightningDataModule = parser.instantiate(chosen, instantiate_groups=False)[command].data
    if checkpoint is not None and isinstance(data, DataModule):
        try:
            data.adopt(checkpoints.read(checkpoint))
        except (AttributeError, TypeError, KeyError) as error:
            raise UserError(
                f"{checkpoint} is no lit_gen checkpoint: what it says of its data is not readable"
            ) from error
    return data


def instantiate_others(parser: ArgumentParser, config: Namespace, command: str, data: LightningDataModule) -> Namespace:
    """Instantiate everything except the data module; what the data answered is filled into ``config``.

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
        facts: what the data answer, by parameter name; None for what they do not have.
        data: the name of the data module's class, for the messages.

    Raises:
        UserError: if a network needs an argument that neither the config nor the data give.
    """
    for where, chosen in classes_in(model, "model"):
        if not _is_network(network := class_at(chosen.class_path)):
            continue
        arguments = chosen.get("init_args") or Namespace()
        for name, parameter in constructor_arguments(network).items():
            required = parameter.default is parameter.empty
            if arguments.get(name) is not None or not (required or parameter.default is None):
                continue
            if facts.get(name) is not None:
                plain = isinstance(facts[name], tuple) and parameter.annotation is parameter.empty
                arguments[name] = list(facts[name]) if plain else facts[name]  # YAML has no tuples without a type
            elif required and name not in arguments:
                raise UserError(_missing(where, network.__name__, name, facts, data))
        chosen["init_args"] = arguments


def _missing(where: str, network: str, name: str, facts: Mapping[str, Any], data: str) -> str:
    if name in ("source_channels", "target_channels", "factor") and name not in facts:
        return f"data: {data} was found; {network} ({where}) learns from pairs, PairedImages or Degraded is expected"
    if name not in facts:
        known = f"knows {', '.join(facts)}" if facts else "has no facts()"
        needs = f"{network} needs it, but the config leaves it open and {data} {known}"
        return f"{where}.{name}: {needs}; say it, or choose another network or data set"
    if name == "levels":
        needs = f"{network} needs levels, but the data set ({data}) has real numbers"
        return f"{where}: {needs}; null, or one for real numbers, is expected"
    lacks = "no labels; choose a labelled set or" if name == "num_classes" else f"none ({data}); choose"
    return f"{where}: {network} needs {name}, but the data set has {lacks} another network"


def _at(mistake: str, class_type: type, given: dict[str, Any], config: Namespace) -> str:
    """A mistake with its option: a schedule does not know what it schedules."""
    path = f"{class_type.__module__}.{class_type.__qualname__}"
    for where, chosen in classes_in(config.clone(with_meta=False), ""):
        arguments = chosen.get("init_args") or Namespace()
        if (chosen.class_path, arguments.as_dict()) == (path, given):
            option = where.removeprefix(".").partition(".")[2]  # without the command
            within, _, name = option.rpartition(".")
            if within and mistake.startswith(f"{name}."):  # a network says generator.width
                return f"{within}.{mistake}"
            said = re.match(r"model\.schedules?:", mistake)
            return f"{option}:{mistake[said.end() :]}" if said else mistake
    return mistake


def classes_in(config: Any, where: str) -> Iterator[tuple[str, Namespace]]:
    """Where a configuration chooses a class, at any depth: the option's dotted name, the class's path and arguments."""
    if isinstance(config, Namespace) and isinstance(config.get("class_path"), str):
        yield where, config
        yield from classes_in(config.get("init_args"), where)
    elif isinstance(config, Namespace | dict):
        for key in list(config if isinstance(config, dict) else vars(config)):
            yield from classes_in(config[key], f"{where}.{key}")
    elif isinstance(config, list | tuple):
        for element in config:
            path = element.get("class_path") if isinstance(element, Namespace) else None
            yield from classes_in(element, f"{where}.{path.rpartition('.')[2]}" if isinstance(path, str) else where)


def _whole_numbers_first(action: Any) -> None:
    """Let an option of int or float try int first, so that 1 batch is not a share of 1.0.

    Python keeps one object for all equal unions, ``Optional[Union[float, int]]`` of any library imported before among
    them, and the parser tries types in its order.
    """
    kinds = get_args(getattr(action, "_typehint", None))
    if int in kinds and float in kinds and kinds.index(float) < kinds.index(int):
        others = [kind for kind in kinds if kind is not int]
        others.insert(others.index(float), int)
        action._typehint = Union[tuple(others)]  # noqa: UP007


def _is_network(found: object) -> bool:
    """Whether ``found`` is a class of networks: the parser lets those leave arguments open."""
    return inspect.isclass(found) and issubclass(found, nn.Module) and not issubclass(found, LightningModule)


def class_at(path: str) -> Any:
    """The class at a dotted path."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
