"""One sentence for a message of the parser: the option, what was found and expected, the nearest valid name."""

import contextlib
import importlib
import pkgutil
import re
import sys
from itertools import pairwise
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

import lit_gen
from lit_gen.cli.config.files import Config
from lit_gen.cli.config.short_names import known_classes
from lit_gen.core.errors import nearest
from lit_gen.core.options import RENAMED
from lit_gen.training.hparams import constructor_arguments


def explain(message: str, parser: LightningArgumentParser, config: Config, options: list[str]) -> str:
    """One sentence for a message of the parser: the option, what was found and expected, the nearest valid name.

    Args:
        message: what jsonargparse says, often a nested list of everything it tried.
        parser: the subcommand's parser, which knows the options.
        config: the merged config files, which say what classes were chosen.
        options: the rest of the command line, which may choose others.
    """
    known = [o.removeprefix("--") for o in parser._option_string_actions if o.startswith("--")]
    if found := re.search(r"unrecognized arguments: (.*)", message, re.DOTALL):
        first = found[1].split()[0]
        name = first.split("=")[0].removeprefix("--")
        if not first.startswith("-"):
            return f"{first!r} is no option; options begin with --"
        return f"--{name} {_no_option(name, known)}"
    if found := re.search(r"does not accept option '([^']+)'|Key '([^']+)' is not expected", message):
        name = found[1] or found[2]
        return f"{name} {_no_option(name, known)}"
    if (found := re.search(r"the following arguments are required: (.*)", message)) and not _key(message):
        names = [name.strip().split(".", 1)[-1] for name in found[1].split(",")]
        return f"{' and '.join(f'--{n}' for n in names)} must be given, mostly by --config FILE (see lit-gen configs)"
    if found := re.search(r"argument (--[\w.]+): expected one argument", message):
        return f"{found[1]}: a value is expected after it"
    key = _key(message)
    listed = next((part for part in key.split(".") if part in ("regularizers", "schedules")), None)
    if listed and (chain := _classes_within(message, listed)):  # the key does not say which element
        key = key.replace(listed, f"{listed}.{chain[-1].__name__}", 1)
        shown = "|".join(c.__name__ for c in chain)
        clear = re.sub(rf"Expected a dot import path string: [\w.]*({shown})\b", "", message)
        return _explain_value(clear, key, chain[0])
    return _explain_value(message, key, _class_at(key, config, options))


def _explain_value(message: str, key: str, configured: type | None) -> str:
    if found := re.search(r"Option '([^']+)' is not accepted", message):
        accepted = constructor_arguments(configured) if configured else []
        now = RENAMED.get(found[1], "")
        if now.startswith("data."):
            return f"{key}.{found[1]} is {now} now, the most that a device takes at once of data.batch_size"
        if now.partition(".")[0] in accepted:
            return f"{key}.{found[1]} is {key}.{now} now"
        owner = f" of {configured.__name__}" if configured else ""
        return f"{key}.{found[1]} is no option{owner}{nearest(found[1], accepted)}"
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
        return f"{key}: {found[1]} must be given"
    if found := re.search(r"Expected a dot import path string: (\S+)", message):
        return f"{key}: there is no class {found[1]!r}{nearest(found[1], [c.__name__ for c in known_classes()])}"
    if found := re.search(r"Expected an? (?:<class ')?(.+?)(?:'>)?\. Got value: (.*)", message):
        expected = re.sub(r"typing\.Literal\[(.*)\]", r"one of \1", found[1])
        choices = re.findall(r"'([^']+)'", found[1])
        return f"{key}: {found[2].strip()!r} was found, {expected} is expected{nearest(found[2].strip(), choices)}"
    lines = [line.strip(" -") for line in message.splitlines()]
    noise = (
        "Given value",
        "Subtypes",
        "Errors:",
        "Does not validate",
        "Expected a <class 'NoneType'>",
        "Parser key",
    )
    told = [line for line in lines if line and not line.startswith(noise)]
    return f"{key}: {'; '.join(told[:3])}" if key else "; ".join(told[:3]) or message


def _classes_within(message: str, listed: str) -> list[type]:
    """The classes that the message shows for the element of a list in which the mistake is, innermost first."""
    inside = message.split(f'Parser key "{listed}"', 1)[-1]
    inside = re.split(
        r"Given value type: <class 'list'>|Given value type: <class '[\w.]*LightningModule|\n  Given", inside
    )[0]
    # a class alone, or under the name of what it schedules
    given = r"Given value: (?:\{'[\w.]+': )?(?:\{'class_path': |Namespace\(class_path=)'([\w.]+)'"
    return [found for path in re.findall(given, inside) if (found := _class(path)) is not None]


def _key(message: str) -> str:
    """The option's dotted name, from the nested ``Parser key "model": ... Parser key "generator":`` of the message."""
    parts = [p for p in re.findall(r'Parser key "([^"]+)"', message.split("Given value")[0]) if p != "config"]
    return ".".join(p for p, before in zip(parts, [None, *parts], strict=False) if p != before)


def _no_option(name: str, known: list[str]) -> str:
    if name.endswith("accumulate_grad_batches"):
        return "is no option: micro-batches are derived from data.batch_size and data.device_batch_size"
    inner = [k for k in known if k.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
    return f"is no option{nearest(name, known) or nearest(name, inner)}"


def _class_at(key: str, config: Config, options: list[str]) -> type | None:
    """The class that the command line or the config chose at a dotted key."""
    chosen: Any = config
    for part in key.split("."):
        inner = chosen.get("init_args", {}) if isinstance(chosen, dict) else {}
        chosen = inner.get(part) if part in inner else chosen.get(part) if isinstance(chosen, dict) else None
    path = chosen.get("class_path") if isinstance(chosen, dict) else chosen
    for option, value in pairwise([*options, ""]):
        if option == f"--{key}":
            path = value
        elif option.startswith(f"--{key}="):
            path = option.split("=", 1)[1]
    return _class(path)


def _class(path: Any) -> type | None:
    """The class of a dotted path, or of a known class's name; None where there is none."""
    if not isinstance(path, str):
        return None
    if "." not in path:
        return next((c for c in known_classes() if c.__name__ == path), None)
    module, _, name = path.rpartition(".")
    if module.partition(".")[0] in ("lit_gen", "torch", "lightning"):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    found = getattr(sys.modules.get(module), name, None)  # a file's name, book.txt, never imports book.py
    return found if isinstance(found, type) else None


def _modules() -> list[str]:
    """Dotted names of all modules of the package."""
    return [one.name for one in pkgutil.walk_packages(lit_gen.__path__, "lit_gen.")]
