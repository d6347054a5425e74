"""Which class a config and a command line choose at an option, before the parser has read them."""

import contextlib
import importlib
import sys
from itertools import pairwise
from typing import Any

from lit_gen.cli.config.files import Config
from lit_gen.cli.config.short_names import known_classes
from lit_gen.core.errors import nearest


def class_at(key: str, config: Config, options: list[str]) -> type | None:
    """The class that the command line or the config chose at a dotted key."""
    chosen: Any = config
    for part in key.split("."):
        inner = (chosen.get("init_args") or {}) if isinstance(chosen, dict) else {}
        chosen = inner.get(part) if part in inner else chosen.get(part) if isinstance(chosen, dict) else None
    path = chosen.get("class_path") if isinstance(chosen, dict) else chosen
    for option, value in pairwise([*options, ""]):
        if option == f"--{key}":
            path = value
        elif option.startswith(f"--{key}="):
            path = option.split("=", 1)[1]
    return class_of(path)


def class_of(path: Any) -> type | None:
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


def addition(path: str, name: str) -> str:
    """How the list at ``path`` gets an element that it does not have; else the class that was meant."""
    known = [found.__name__ for found in known_classes()]
    return f"; --{path}+={name} adds one" if name in known else nearest(name, known)
