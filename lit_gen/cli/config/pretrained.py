"""``--model.network.pretrained FOLDER``: the folder's architecture becomes options of the run, its weights the first.

A run reads the folder only when it begins. What ``config.json`` says then stands in the run's own ``config.yaml`` and
in its checkpoints, from which it is resumed, loaded and exported without the folder. A class of networks takes part if
it has the argument ``pretrained``, reads the weights in its constructor, and has a static method ``pretrained_options``
that gives the options by name; `lit_gen.models.lm.transformer.Transformer` is one.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from lit_gen.cli.config.files import Config
from lit_gen.cli.config.loader import load
from lit_gen.cli.config.parser import class_at, classes_in
from lit_gen.core import data as datasets
from lit_gen.core.errors import UserError, note
from lit_gen.training.hparams import constructor_arguments


def read_options(chosen: Namespace, given: Config, options: list[str]) -> None:
    """Put what a folder says of the architecture into the options of a run that begins.

    An option that was typed, or that differs from its default, stays: the constructor refuses it if it contradicts. A
    folder that was typed replaces the architecture of a config file, which is told.

    Args:
        chosen: the parsed options, changed in place.
        given: the merged config files.
        options: of the command line.

    Raises:
        UserError: if the folder is not readable, or a checkpoint would replace its weights.
    """
    typed = _typed(options)
    of_files = set(_names(given))
    for where, cls, arguments in _networks(chosen.model):
        if chosen.get("ckpt_path"):
            raise UserError(
                f"{where}.pretrained: it was found beside --ckpt_path, which has weights of its own; say null"
            )
        folder, parameters = arguments["pretrained"], constructor_arguments(cls)
        over_files, replaced = bool({f"{where}.pretrained", where} & typed), []
        for name, value in cls.pretrained_options(folder).items():
            found, option = arguments.get(name), f"{where}.{name}"
            if over_files and option in of_files - typed and found != value:
                replaced.append(f"{name} {found}")
            elif option in of_files | typed or not (found is None or found == parameters[name].default):
                continue
            arguments[name] = value
        if replaced:
            note(f"{where}: {', '.join(replaced)} of the config file became what {folder}/config.json says")


def compare_tokens(model: Namespace, data: Any) -> None:
    """Compare the data's tokenizer with that of a folder whose weights a run begins with: an id has one meaning.

    Args:
        model: the parsed options of the model.
        data: the data module.

    Raises:
        UserError: if the folder has a tokenizer of other tokens.
    """
    for where, _, arguments in _networks(model) if datasets.has_text(data) else ():
        from lit_gen.models.lm.huggingface.folder import located
        from lit_gen.tokenizers.bpe import GPT2_FILES, BpeTokenizer, read_bpe  # other families have no use for it

        folder = located(arguments["pretrained"])
        if not any(all((folder / name).is_file() for name in names) for names in (("tokenizer.json",), *GPT2_FILES)):
            continue
        tokenizer = data.tokenizer
        theirs = read_bpe(folder, tokenizer.end_of_text is not None)
        if not isinstance(tokenizer, BpeTokenizer) or tokenizer.ids() != theirs.ids():
            raise UserError(
                f"data.tokenizer: {tokenizer.name} was found, but the weights of {where}.pretrained are of another "
                f"tokenizer, that in {folder}; --data.tokenizer {folder} takes it"
            )


def forget(model: Namespace, checkpoint: Path | None) -> None:
    """Leave the folder alone if there is a checkpoint, which has the weights."""
    for _, _, arguments in _networks(model) if checkpoint is not None else ():
        arguments["pretrained"] = None


def _networks(model: Namespace) -> Iterator[tuple[str, Any, Namespace]]:
    """The networks that begin with a folder's weights: the option's name, the class, the arguments."""
    for where, chosen in classes_in(model, "model"):
        arguments = chosen.get("init_args") or Namespace()
        if isinstance(arguments.get("pretrained"), str) and hasattr(
            cls := class_at(chosen.class_path), "pretrained_options"
        ):
            yield where, cls, arguments


def _typed(options: list[str]) -> set[str]:
    """The dotted names of all options that were typed, also within a mapping: ``--model.network '{n_layer: 3}'``."""
    names: set[str] = set()
    name = ""
    for word in options:
        name, equals, value = word.partition("=") if word.startswith("--") else (name, "=", word)
        plain = name.removeprefix("--").replace(".init_args", "")
        names.add(plain)
        with contextlib.suppress(yaml.YAMLError, UserError):  # the parser says what is wrong with it
            names.update(_names(load(value) if equals else None, plain))
    return names


def _names(config: Any, prefix: str = "") -> Iterator[str]:
    """The dotted names of all options of a config, without ``init_args``."""
    if isinstance(config, dict):
        for key, value in config.items():
            name = prefix if key == "init_args" else f"{prefix}.{key}".removeprefix(".")
            yield name
            yield from _names(value, name)
