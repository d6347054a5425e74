"""What layers of zuko (https://github.com/probabilists/zuko) need: their import, and a start as the identity."""

import importlib
from typing import Any

from torch import nn

from lit_gen.core.errors import UserError


def zuko(module: str, option: str) -> Any:
    """A module of zuko, imported where one of its layers is made.

    Args:
        module: its name within zuko.
        option: whose layers need it, as the message names it.

    Raises:
        UserError: if zuko is missing.
    """
    try:
        importlib.import_module("zuko")
        return importlib.import_module(f"zuko.{module}")
    except ModuleNotFoundError:
        raise UserError(f"{option} needs the package zuko, which is missing; pip install zuko") from None


def begin_as_identity(layer: nn.Module) -> None:
    """Zero what gives a layer its parameters: the last linear map of its network, or they themselves for D = 1."""
    hyper: Any = getattr(layer, "hyper", None)
    for parameter in layer.parameters() if hyper is None else hyper[-1].parameters():
        nn.init.zeros_(parameter)
