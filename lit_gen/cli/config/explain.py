"""One sentence for a message of the parser: the option, what was found and expected, the nearest valid name."""

import importlib
import os
import pkgutil
import re
from itertools import pairwise

from lightning.pytorch.cli import LightningArgumentParser

import lit_gen
from lit_gen.cli.config import expected, habits
from lit_gen.cli.config.chosen import class_at, class_of
from lit_gen.cli.config.files import Config
from lit_gen.cli.config.short_names import known_classes
from lit_gen.core.errors import nearest
from lit_gen.core.options import RENAMED
from lit_gen.training.hparams import constructor_arguments

LISTS = ("regularizers", "schedules", "callbacks", "logger")
"""Options whose elements are known by their classes."""


def explain(message: str, parser: LightningArgumentParser, config: Config, options: list[str]) -> str:
    """One sentence for a message of the parser: the option, what was found and expected, the nearest valid name.

    Args:
        message: what jsonargparse says, often a nested list of everything it tried.
        parser: the subcommand's parser, which knows the options.
        config: the merged config files, which say what classes were chosen.
        options: the rest of the command line, which may choose others.
    """
    known = [o.removeprefix("--") for o in parser._option_string_actions if o.startswith("--")]
    model = class_at("model", config, options)
    if found := re.search(r"unrecognized arguments: (.*)", message, re.DOTALL):
        first = found[1].split()[0]
        typed = first.split("=")[0]
        if not first.startswith("-"):
            meant = "options begin with --"
            if first.endswith((".yaml", ".yml")):
                meant = f"did you mean --config {first}?"
            elif os.path.exists(first):  # noqa: PTH110  of any text: Path raises for a long one
                meant = f"did you mean {'--resume' if parser.prog.endswith(' fit') else '--ckpt_path'} {first}?"
            return f"{first!r} is no option; {meant}"
        return f"{typed} {_no_option(typed.lstrip('-'), known, model)}"
    if found := re.search(r"does not accept option '([^']+)'|Key '([^']+)' is not expected", message):
        name = found[1] or found[2]
        return f"{name} {_no_option(name, known, model)}"
    if (found := re.search(r"the following arguments are required: (.*)", message)) and not _key(message):
        names = [name.strip().split(".", 1)[-1] for name in found[1].split(",")]
        return f"{' and '.join(f'--{n}' for n in names)} must be given, mostly by --config FILE (see lit-gen configs)"
    if found := re.search(r"argument (--[\w.]+): expected one argument", message):
        bare = [word for word, after in pairwise([*options, "--"]) if word.startswith(found[1]) and after[:2] == "--"]
        return f"{next((word for word in bare if '=' not in word), found[1])}: a value is expected after it"
    key = _key(message)
    listed = next((part for part in key.split(".") if part in LISTS), None)
    if listed and (chain := _classes_within(message, listed)):  # the key does not say which element
        key = key.replace(listed, f"{listed}.{chain[-1].__name__}", 1)
        shown = "|".join(c.__name__ for c in chain)
        clear = re.sub(rf"Expected a dot import path string: [\w.]*({shown})\b", "", message)
        return _explain_value(clear, key, chain[0], None, model)
    if listed and (element := _element(message, key, listed)):
        key = key.replace(listed, f"{listed}.{element.__name__}", 1)
        return _explain_value(message, key, element, element, model)
    owner = class_at(key.rpartition(".")[0], config, options)
    return _explain_value(message, key, class_at(key, config, options), owner, model)


def _explain_value(message: str, key: str, configured: type | None, owner: type | None, model: type | None) -> str:
    if found := re.search(r"Option '([^']+)' is not accepted", message):
        accepted = constructor_arguments(configured) if configured else []
        now = RENAMED.get(found[1], "")
        if now.startswith("data."):
            return f"{key}.{found[1]} is {now} now, the most that a device takes at once of data.batch_size"
        if now.partition(".")[0] in accepted:
            return f"{key}.{found[1]} is {key}.{now} now"
        where = f" of {configured.__name__}" if configured else ""
        meant = nearest(found[1], accepted) or habits.hint(f"{key}.{found[1]}", [], model)
        return f"{key}.{found[1]} is no option{where}{meant}"
    if found := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message):
        public = [n for n in dir(importlib.import_module(found[1])) if not n.startswith("_")]
        classes = [f"{c.__module__}.{c.__qualname__}" for c in known_classes() if c.__name__ == found[2]]
        moved = classes or [name for name in _modules() if name.rsplit(".", 1)[-1] == found[2]]
        return f"{key}: {found[1]} has no {found[2]}{nearest(found[2], moved or public)}"
    if found := re.search(r"No module named '([\w.]+)'", message):
        top = found[1].split(".")[0]
        if top == "lit_gen":
            ours = _modules()
            same = [name for name in ours if name.rsplit(".", 1)[-1] == found[1].rsplit(".", 1)[-1]]
            return f"{key}: there is no module {found[1]!r}{nearest(found[1], same or ours)}"
        return f"{key}: there is no module {found[1]!r} (a file {top}.py in this folder, or an installed package)"
    if found := re.search(r"the following arguments are required: (.*)", message):
        return f"{key}.{found[1]} must be given" if configured else f"{key}: {found[1]} must be given"
    if found := re.search(r"Expected a dot import path string: (.+)", message):
        return expected.of_class(key, found[1].strip(), message, owner)
    if found := re.search(r"Import path (\S+) does not correspond to a subclass of (\w+)", message):
        return expected.not_subclass(key, found[1], found[2])
    if key and (told := expected.of_type(key, message)):
        return told
    lines = [line.strip(" -") for line in message.splitlines()]
    noise = (
        "Given value",
        "Subtypes",
        "Errors:",
        "Does not validate",
        "Expected a <class 'NoneType'>",
        "Parser key",
    )
    told = next((line for line in lines if line and not line.startswith(noise)), message)
    return f"{key}: {told}" if key else told


def _classes_within(message: str, listed: str) -> list[type]:
    """The classes that the message shows for the element of a list in which the mistake is, innermost first."""
    inside = re.split(rf'Parser key "(?:trainer\.)?{listed}"', message, maxsplit=1)[-1]
    inside = re.split(
        r"Given value type: <class 'list'>|Given value type: <class '[\w.]*LightningModule|\n  Given", inside
    )[0]
    # only a class, or under the name of what it schedules
    given = r"Given value: (?:\{'[\w.]+': )?(?:\{'class_path': |Namespace\(class_path=)'([\w.]+)'"
    return [found for path in re.findall(given, inside) if (found := class_of(path)) is not None]


def _element(message: str, key: str, listed: str) -> type | None:
    """The class of the list's element that has the option of which the message is, as far as the message shows it."""
    inner = re.search(r"Option '([^']+)' is not accepted|are required: (\w+)", message)
    option = (inner[1] or inner[2]) if inner else key.rpartition(f"{listed}.")[2]
    for element in re.split(r"(?='?class_path)", message.rpartition("Given value: ")[2])[1:]:
        path = re.match(r"'?class_path'?(?:=|: )'([\w.]+)'", element)
        if path and option and re.search(rf"\b{re.escape(option)}'?(: |=)", element):
            return class_of(path[1])
    return None


def _key(message: str) -> str:
    """The option's dotted name, from the nested ``Parser key "model": ... Parser key "generator":`` of the message."""
    parts = [p for p in re.findall(r'Parser key "([^"]+)"', message.split("Given value")[0]) if p != "config"]
    return ".".join(p for p, before in zip(parts, [None, *parts], strict=False) if p != before)


def _no_option(name: str, known: list[str], model: type | None) -> str:
    if name.endswith("accumulate_grad_batches"):
        return "is no option: micro-batches are derived from data.batch_size and data.device_batch_size"
    return f"is no option{habits.hint(name, known, model)}"


def _modules() -> list[str]:
    """Dotted names of all modules of the package."""
    return [one.name for one in pkgutil.walk_packages(lit_gen.__path__, "lit_gen.")]
