"""The classes that a config may call by name: one line for each family, and how to find them.

A config that gives dotted paths, as the shipped ones do, imports only what it uses. The families are imported where a
class is called only by its name, for help, and before a mistake is explained: so what is told does not depend on it.
"""

import importlib
import inspect
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from lightning import LightningDataModule, LightningModule
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger
from torch import nn
from torch.optim import Optimizer

_MODELS = (
    "lit_gen.models.diffusion",
    "lit_gen.models.flow",
    "lit_gen.models.gan",
    "lit_gen.models.image_to_image",
    "lit_gen.models.lm",
    "lit_gen.models.vae",
)
FAMILIES = ("lit_gen.callbacks", "lit_gen.data", "lit_gen.training", *_MODELS)
"""Folders whose ``names.py`` imports the classes that have a short name."""

_NAME = re.compile(r"(?<![\w.])[A-Z]\w*(?![\w.])")
"""A word that may be a class without its module."""


def import_families() -> bool:
    """Import every class that has a short name; whether any was missing."""
    missing = [f"{family}.names" for family in FAMILIES if f"{family}.names" not in sys.modules]
    for module in missing:
        importlib.import_module(module)
    return bool(missing)


def import_named(config: Any, options: list[str]) -> None:
    """Import the families if the config or an option may call a class only by its name, or asks for help.

    Args:
        config: the merged config files.
        options: of the command line.
    """
    values = [word.partition("=")[2] if word.startswith("--") else word for word in options]
    if {"--help", "-h"} & set(options) or _NAME.search(json.dumps([config, values], default=str)):
        import_families()


def known_classes() -> Iterator[type]:
    """Every class that has a short name, those of the families and of what else is imported.

    Those are the subclasses of what an option of a model or callback may be: if ``regularizers`` may be a list of
    `Regularizer`, all subclasses of that. A network counts if no other network has its name, in torch included.
    """
    import_families()
    networks = list(_below(nn.Module))
    times = Counter(network.__name__ for network in networks)
    yield from (one for one in networks if _told_by_name(one) and times[one.__name__] == 1)
    queue: list[type] = [LightningModule, LightningDataModule, Callback, Logger, Optimizer]
    seen = set(queue)
    while queue:
        found = queue.pop()
        yield found
        new = {*found.__subclasses__(), *_expected(found)} - seen
        seen |= new
        queue += sorted(new, key=lambda c: f"{c.__module__}.{c.__qualname__}")


def _below(base: type) -> Iterator[type]:
    subclasses: list[type] = base.__subclasses__()
    for found in subclasses:
        yield found
        yield from _below(found)


def _expected(found: type) -> Iterator[type]:
    """The classes that the constructor's arguments may be of, without those of torch, lightning and Python."""
    try:
        hints = get_type_hints(vars(found).get("__init__")) if _told_by_name(found) else {}
    except (NameError, TypeError, AttributeError):  # annotations that only a type checker understands
        hints = {}
    for hint in hints.values():
        yield from (one for one in _within(hint) if inspect.isclass(one) and _told_by_name(one))


def _told_by_name(found: type) -> bool:
    top = found.__module__.partition(".")[0]
    return top not in ("torch", "lightning", "zuko") and top not in sys.stdlib_module_names


def _within(hint: Any) -> Iterator[Any]:
    yield hint
    for argument in get_args(hint):
        yield from _within(argument)
