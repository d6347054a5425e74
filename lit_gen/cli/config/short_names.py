"""The classes that a config may call by name: one import for each family, and how to find them."""

import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from lightning import LightningDataModule, LightningModule
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger
from torch import nn
from torch.optim import Optimizer

from lit_gen.callbacks import names as _callbacks  # noqa: F401
from lit_gen.data import names as _data  # noqa: F401
from lit_gen.models.gan import names as _gan  # noqa: F401
from lit_gen.models.lm import names as _lm  # noqa: F401
from lit_gen.models.vae import names as _vae  # noqa: F401


def known_classes() -> Iterator[type]:
    """Every imported class that has a short name.

    Those are the subclasses of what an option of a model or callback may be: if ``regularizers`` may be a list of
    `Regularizer`, all subclasses of that. A network counts if no other network has its name, in torch included.
    """
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
    return top not in ("torch", "lightning") and top not in sys.stdlib_module_names


def _within(hint: Any) -> Iterator[Any]:
    yield hint
    for argument in get_args(hint):
        yield from _within(argument)
