"""Every generator and discriminator of the package, found by introspection, with shapes and options."""

import importlib
import inspect
import pkgutil
import typing

import pytest
from torch import nn

import lit_gen.models.gan

CLASSES = 3
SHAPES = {  # every network needs an entry: the shapes it is for; options are tried on the first
    "lit_gen.models.gan.dcgan": [(1, 28, 28), (3, 32, 32), (3, 64, 64)],
    "lit_gen.models.gan.mlp": [(1, 28, 28), (2, 1, 1)],
    "lit_gen.models.gan.r3gan": [(3, 32, 32), (1, 64, 64)],
    "lit_gen.models.gan.sngan": [(3, 32, 32), (1, 64, 64)],
}


def networks():
    """Every class that takes the shape of the data."""
    for info in pkgutil.iter_modules(lit_gen.models.gan.__path__, "lit_gen.models.gan."):
        for value in vars(importlib.import_module(info.name)).values():
            ours = inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == info.name
            if ours and "shape" in inspect.signature(value).parameters:
                yield value


def conditionings(cls):
    choices = typing.get_type_hints(cls.__init__).get("conditioning")
    return [choice for choice in typing.get_args(choices) if choice != "none"]


def variants(cls):
    """Options that differ from the defaults: each conditioning, each switch, and spectral norm on a conditional one."""
    switches = {n: not p.default for n, p in inspect.signature(cls).parameters.items() if isinstance(p.default, bool)}
    yield from ({"conditioning": choice} for choice in conditionings(cls))
    yield from ({name: value} for name, value in switches.items())
    if "spectral_norm" in switches and conditionings(cls):
        yield {"conditioning": conditionings(cls)[-1], "spectral_norm": True}


def case(cls, shape, options):
    words = [cls.__module__.rsplit(".", 1)[-1], cls.__name__, "x".join(map(str, shape))]
    return pytest.param(cls, shape, options, id="-".join(words + [f"{k}={v}" for k, v in options.items()]))


DEFAULTS = [case(cls, shape, {}) for cls in networks() for shape in SHAPES[cls.__module__]]
FOUND = DEFAULTS + [case(cls, SHAPES[cls.__module__][0], o) for cls in networks() for o in variants(cls)]
