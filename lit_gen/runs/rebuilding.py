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
        UserError: if the model cannot be built, or the weights belong to another model, or are NaN.
    """
    with without_working_folder(but=here):
        model = _made(checkpoint, content["hyper_parameters"])
    model.configure_model()
    model.on_load_checkpoint(content)
    compare(checkpoint, content["state_dict"], model, "a model of its hyper-parameters")
    model.load_state_dict(content["state_dict"])
    check_finite(checkpoint, model, model.state_dict())
    return model


def without_pretrained(content: Any, of: str = "lit_gen.") -> Any:
    """A deep copy of hyper-parameters in which no network of ours names a folder with first weights.

    Its weights are in the checkpoint, and a file that somebody else wrote opens no folder.

    Args:
        content: of a checkpoint, or a part.
        of: the class that it belongs to.
    """
    if isinstance(content, dict):
        of = str(content.get("class_path", content.get("_class_path", of)))
        ours = of.startswith("lit_gen.") or "." not in of
        return {
            key: None if ours and str(key).rpartition(".")[2] == "pretrained" else without_pretrained(value, of)
            for key, value in content.items()
        }
    if isinstance(content, list):
        return [without_pretrained(element, of) for element in content]
    return copy.deepcopy(content)


def compare(checkpoint: Path, found: dict[str, Tensor], model: nn.Module, named: str) -> None:
    """Compare a checkpoint's weights with a model's by name, shape and kind of number.

    Args:
        checkpoint: the file, for messages.
        found: its weights.
        model: the model that they should belong to.
        named: what to call that model.

    Raises:
        UserError: with the first difference.
    """
    expected = model.state_dict()
    for name in (*expected, *found):
        here, there = _shape(found, name), _shape(expected, name)
        if here == there and isinstance(value := found[name], Tensor):
            here, there = (f"{here} of {_kind(one)}" for one in (value, expected[name]))
        if here != there:
            told = f"it holds {here} for {one_line(name)}, where {named} has {there}"
            raise UserError(f"{checkpoint} is of another model: {told}")


def _shape(weights: Mapping[str, Any], name: str) -> str:
    if name not in weights:
        return "nothing"
    value = weights[name]
    return str(tuple(value.shape)) if isinstance(value, Tensor) else "no tensor"


def _kind(weight: Tensor) -> str:
    """A number's kind without its precision, which a run may choose."""
    if weight.is_floating_point():
        return "real numbers"
    if weight.is_complex():
        return "complex numbers"
    return "truth values" if weight.dtype == torch.bool else "whole numbers"


def check_finite(checkpoint: Path, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not finite, and statistics that no batch can have.

    Args:
        checkpoint: the file, for messages.
        model: the model that they belong to.
        weights: its parameters and buffers by name, as in its ``state_dict``.

    Raises:
        UserError: with the first that is NaN or infinite, or a variance below 0.
    """
    buffers = {name for name, _ in model.named_buffers()}
    for name, weight in weights.items():
        if not isinstance(weight, Tensor) or not (weight.is_floating_point() or weight.is_complex()):
            continue
        running = name.endswith(("running_mean", "running_var"))
        # a buffer may be infinite, as a mask is, but never NaN
        bad = weight.isnan() if name in buffers and not running else ~torch.isfinite(weight)
        if bad.any():
            raise UserError(f"{checkpoint}: {name} is NaN or infinite, so that nothing can be drawn or trained from it")
        if name.endswith("running_var") and (weight < 0).any():
            raise UserError(f"{checkpoint}: {name} is a variance below 0, so that nothing can be drawn from it")


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
            model: LightningModule = instantiate_module(model_class, without_pretrained(given))
    except UserError as error:
        raise UserError(f"{checkpoint} cannot be rebuilt: {error}") from error
    except Exception as error:  # constructors and the parser may raise anything for unchecked arguments
        missing = re.search(r"No module named '([\w.]+)'", str(error))
        if missing is not None:
            raise UserError(
                f"{checkpoint} needs the module {missing[1]!r}, which is not found here; run in the folder that "
                f"holds it"
            ) from error
        told = next((line.strip(" -") for line in reversed(str(error).splitlines()) if line.strip()), "")
        raise UserError(f"{checkpoint} cannot be rebuilt ({type(error).__name__}: {told[:200]})") from error
    return model
