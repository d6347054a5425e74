"""Constructor arguments as plain data, so that a checkpoint is enough to rebuild the model.

The command line stores what it parsed. For a module built in Python, `describe` writes the same form: a network becomes
``{class_path, init_args}``, a function its dotted path, an optimizer factory its class and arguments.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from lit_gen.core.errors import UserError

INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"


def module_hparams(module: nn.Module) -> dict[str, Any]:
    """The hyper-parameters under which lightning stores a module that the command line built.

    Arguments left at their defaults are omitted.

    Raises:
        UserError: if an argument cannot be described; names it.
    """
    given = {}
    for name, parameter in constructor_arguments(type(module)).items():
        if not hasattr(module, name):
            raise UserError(
                f"model: {type(module).__name__} does not keep its constructor argument {name!r} as an attribute"
            )
        if getattr(module, name) is not parameter.default:
            given[name] = describe(getattr(module, name), f"model.{name}")
    return {"_class_path": _path(type(module)), **given, "_instantiator": INSTANTIATOR}


def constructor_arguments(of: type) -> dict[str, inspect.Parameter]:
    """Constructor arguments by name, including those of the bases if the constructor passes ``**kwargs`` on."""
    found: dict[str, inspect.Parameter] = {}
    for base in of.__mro__:
        if "__init__" not in vars(base) or base in (object, nn.Module):
            continue
        parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        for p in parameters:
            if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
                found.setdefault(p.name, p)
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return found


def describe(value: Any, name: str) -> Any:
    """``value`` as strings, numbers, lists and dicts.

    A module is rebuilt from its class and constructor arguments, each of which it keeps as an attribute of that name.

    Raises:
        UserError: if that is not possible; ``name`` says which argument.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple | nn.ModuleList):
        return [describe(v, name) for v in value]
    if isinstance(value, dict):
        return {k: describe(v, f"{name}.{k}") for k, v in value.items()}
    if isinstance(value, functools.partial) and not value.args:
        arguments = {k: describe(v, f"{name}.{k}") for k, v in value.keywords.items()}
        return {"class_path": _path(value.func, name), "init_args": arguments}
    if inspect.isfunction(value) or inspect.isclass(value):
        return _path(value, name)
    own: Any = type(value).__init__  # those of nn.Module and object take nothing, whatever their signatures say
    plain = own in (nn.Module.__init__, object.__init__) and not isinstance(value, functools.partial)
    if not plain and any(p.kind == p.VAR_POSITIONAL for p in inspect.signature(own).parameters.values()):
        raise UserError(
            f"{name}: {type(value).__name__} takes *args, so that a checkpoint could not rebuild it; wrap it"
        )
    arguments = {}
    for argument in constructor_arguments(type(value)):
        if not hasattr(value, argument):
            raise UserError(
                f"{name}: {type(value).__name__} does not keep its constructor argument {argument!r} as an attribute, "
                f"so that a checkpoint could not rebuild it; store self.{argument} in its __init__"
            )
        arguments[argument] = describe(getattr(value, argument), f"{name}.{argument}")
    return {"class_path": _path(type(value), name), "init_args": arguments}


def _path(target: Callable[..., Any], name: str = "model") -> str:
    module, qualified = getattr(target, "__module__", None), getattr(target, "__qualname__", "<lambda>")
    if module is None or module == "__main__" or "<" in qualified:
        raise UserError(
            f"{name}: {qualified} has no dotted path to import, so that a checkpoint could not rebuild it; define it "
            f"at the top level of a file, or pass functools.partial(SomeClass, ...) for an optimizer"
        )
    return f"{module}.{qualified}"
