"""Every transform of the flow family, found by introspection, with shapes and options."""

import importlib
import inspect
import pkgutil
import typing

import pytest
from torch import nn

import lit_gen.models.flow
from lit_gen.models.flow.support import Support
from lit_gen.training.hparams import constructor_arguments

CLASSES = 3
SHAPES = {  # every file with transforms needs an entry: the shapes to try; options are tried on the first
    "lit_gen.models.flow.glow": [(1, 4, 4), (3, 4, 4)],
    "lit_gen.models.flow.vectors": [(1, 2, 4), (2, 1, 1)],
}
SMALL = {"transforms": 2, "hidden_features": (8,), "bins": 3, "steps": 1, "width": 8}


def transforms():
    """Every public network of the shape of the data with an inverse, but for supports, whose values are images."""
    for info in pkgutil.iter_modules(lit_gen.models.flow.__path__, "lit_gen.models.flow."):
        for value in vars(importlib.import_module(info.name)).values():
            ours = inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == info.name
            public = ours and value.__name__[0] != "_" and not issubclass(value, Support)
            if public and hasattr(value, "inverse") and "shape" in constructor_arguments(value):
                yield value


def variants(cls):
    """Options that differ from the defaults: each conditioning and each switch."""
    for name, parameter in constructor_arguments(cls).items():
        if isinstance(parameter.default, bool):
            yield {name: not parameter.default}
        elif name == "conditioning":
            yield from ({name: choice} for choice in typing.get_args(parameter.annotation) if choice != "none")


def make(cls, shape, options):
    """A small one."""
    known = constructor_arguments(cls)
    small = {name: value for name, value in {**SMALL, "num_classes": CLASSES}.items() if name in known}
    return cls(shape=shape, **{**small, **options})


def case(cls, shape, options):
    words = [cls.__name__, "x".join(map(str, shape)), *(f"{k}={v}" for k, v in options.items())]
    return pytest.param(cls, shape, options, id="-".join(words))


FOUND = [case(cls, shape, {}) for cls in transforms() for shape in SHAPES[cls.__module__]]
FOUND += [case(cls, SHAPES[cls.__module__][0], o) for cls in transforms() for o in variants(cls)]
