"""A model from a checkpoint's content: made of its hyper-parameters, its weights compared before they are used."""

import copy
import importlib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.cli import instantiate_module
from torch import Tensor, nn

from lit_gen.core.errors import UserError
from lit_gen.core.terminal import one_line
from lit_gen.runs.trust import without_working_folder


def rebuild(checkpoint: Path, content: dict[str, Any], here: bool = False) -> LightningModule:
    """The model of a checkpoint whose names were admitted (`lit_gen.runs.trust.admit`), with its weights, on the CPU.

    Args:
        checkpoint: the file, for messages.
        content: what it holds.
        here: whether its code lies in the working folder.

    Raises:
        UserError: if the model cannot be built of what it says, or the weights are of another, or NaN.
    """
    with without_working_folder(but=here):
        model = _made(checkpoint, content["hyper_parameters"])
    model.configure_model()
    model.on_load_checkpoint(content)
    compare(checkpoint, content["state_dict"], model, "a model of its hyper-parameters")
    model.load_state_dict(content["state_dict"])
    check_finite(checkpoint, dict(model.named_parameters()))
    return model


def compare(checkpoint: Path, found: dict[str, Tensor], model: nn.Module, named: str) -> None:
    """Compare a checkpoint's weights with a model's by name and shape.

    Args:
        checkpoint: the file, for messages.
        found: its weights.
        model: what they should be of.
        named: what to call that model.

    Raises:
        UserError: with the first difference.
    """
    expected = model.state_dict()
    for name in (*expected, *found):
        here = tuple(found[name].shape) if name in found else "nothing"
        there = tuple(expected[name].shape) if name in expected else "nothing"
        if here != there:
            told = f"it holds {here} for {one_line(name)}, where {named} has {there}"
            raise UserError(f"{checkpoint} is of another model: {told}")


def check_finite(checkpoint: Path, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights from which nothing can be drawn.

    Raises:
        UserError: with the first that is NaN or infinite.
    """
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise UserError(f"{checkpoint}: {name} is NaN or infinite, so that nothing can be drawn or trained from it")


def _made(checkpoint: Path, hyper_parameters: dict[str, Any]) -> LightningModule:
    path = str(hyper_parameters["_class_path"])
    module_name, _, class_name = path.rpartition(".")
    try:
        model_class = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError):
        raise UserError(
            f"{checkpoint} is of the model {path}, which cannot be imported here; run in the folder that holds it"
        ) from None
    if not (isinstance(model_class, type) and issubclass(model_class, LightningModule)):
        raise UserError(f"{checkpoint} is of the model {path}, which is no LightningModule")
    given = {name: value for name, value in hyper_parameters.items() if name != "_instantiator"}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="(?s).*was deprecated", category=DeprecationWarning)
            model: LightningModule = instantiate_module(model_class, copy.deepcopy(given))  # the parser changes lists
    except UserError as error:
        raise UserError(f"{checkpoint} cannot be rebuilt: {error}") from error
    except Exception as error:  # whatever constructors and the parser make of arguments that nobody checked
        missing = re.search(r"No module named '([\w.]+)'", str(error))
        if missing is not None:
            raise UserError(
                f"{checkpoint} needs the module {missing[1]!r}, which is not found here; run in the folder that "
                f"holds it"
            ) from error
        told = next((line.strip(" -") for line in reversed(str(error).splitlines()) if line.strip()), "")
        raise UserError(f"{checkpoint} cannot be rebuilt ({type(error).__name__}: {told[:200]})") from error
    return model
