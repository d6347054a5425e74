"""peft's folders: ``adapter_config.json`` and ``adapter_model.safetensors``, both ways.

A tensor's name is ``base_model.model.``, the layer's name in the network, and the factor's name, without the adapter's.
The format is that of https://github.com/huggingface/peft (`peft.utils.save_and_load`). peft also has options that
change what the tensors mean; a folder that uses one which is unknown here is refused by its name.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from lit_gen.core.errors import UserError, nearest, under
from lit_gen.core.files import write_whole
from lit_gen.core.terminal import one_line
from lit_gen.training.adapters.lora import LoRA
from lit_gen.training.adapters.low_rank import adapted, all_adapted, take_off
from lit_gen.training.adapters.targets import ALL, modules_named

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."

OPTIONS = ("r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save", "use_rslora", "use_dora")
ABOUT = {"base_model_name_or_path", "revision", "task_type", "auto_mapping", "inference_mode", "peft_version"}
"""Keys that do not change what is computed."""
UNUSED: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "init_lora_weights": (True, "gaussian"),  # others change the network too
    "megatron_core": ("megatron.core",),
    "qalora_group_size": (16,),
}
"""Values of keys, besides null, false, and empty ones, by which nothing is asked for."""


def save(lora: LoRA, network: nn.Module, folder: Path) -> None:
    """Write a network's adapter as peft does; the network itself is not written.

    Args:
        lora: what was applied.
        network: the network, its adapter merged or not.
        folder: is created; files of these names are replaced.

    Raises:
        UserError: if the network has no adapter.
        OSError: if a file cannot be written.
    """
    tensors = {PREFIX + name: t.detach().cpu().contiguous().clone() for name, t in _tensors(lora, network).items()}
    config = {name: getattr(lora, name) for name in OPTIONS}
    if lora.target_modules == ALL:  # peft leaves the layer that makes the logits out of it
        config["target_modules"] = "|".join(re.escape(name) for name, _ in all_adapted(network))
    config |= {"peft_type": "LORA", "bias": "none", "fan_in_fan_out": False, "inference_mode": True}
    config |= {"base_model_name_or_path": None, "task_type": None, "init_lora_weights": True}
    write_whole(folder / WEIGHTS, to_bytes(tensors, {"format": "pt"}))
    write_whole(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")


def options_of(folder: Path) -> LoRA:
    """What a folder's adapter is.

    Raises:
        UserError: for a folder without one, or one that uses what is not known here.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{folder}: no {CONFIG} can be read there ({error.strerror}); peft's folder is expected"
        ) from None
    except ValueError as error:
        raise UserError(f"{path}: it is no JSON: {error}") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        found = config.get("peft_type") if isinstance(config, dict) else None
        raise UserError(f"{path}: peft_type: {found!r} was found, 'LORA' is expected")
    for key, value in config.items():
        used = value not in (None, False, "", [], {}) and value not in UNUSED.get(key, ())
        if used and key not in (*OPTIONS, "peft_type", *ABOUT):
            known = f"{', '.join(OPTIONS)} are known{nearest(key, OPTIONS)}"
            raise UserError(f"{path}: {one_line(key)}: {value!r} was found, which is not known here; {known}")
    given = {name: config[name] for name in OPTIONS if config.get(name) is not None}
    _check_types(path, given)
    with under(f"{path}: "):
        return LoRA(**given)


def load(lora: LoRA, network: nn.Module, folder: Path) -> None:
    """Fill the adapter that a network has from a folder.

    Args:
        lora: what was applied.
        network: changed in place, or not at all.
        folder: peft's, of an adapter with the same options, dropout apart.

    Raises:
        UserError: for another adapter, or tensors that are missing, left over, of other shapes, or not finite.
    """
    other, found = options_of(folder), _read(folder)
    for name in ("r", "use_dora", "scaling"):
        here, there = getattr(lora, name), getattr(other, name)
        if here != there:
            raise UserError(f"{folder / CONFIG}: {name}: {there} was found, where this network's adapter has {here}")
    if any(adapted(layer).unmerged is not None for _, layer in all_adapted(network)):
        raise UserError("adapter: it is merged; unmerge it before another is loaded")
    expected = _tensors(lora, network)
    for name in (*expected, *found):
        here, there = (_shape(tensors.get(name)) for tensors in (expected, found))
        if here != there:
            told = f"it holds {there} for {one_line(name)}, where this network's adapter has {here}"
            raise UserError(f"{folder / WEIGHTS}: {told}")
        if not torch.isfinite(found[name]).all():
            raise UserError(f"{folder / WEIGHTS}: {one_line(name)} is NaN or infinite")
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(found[name])


def attach(network: nn.Module, folder: str | Path) -> LoRA:
    """Put a folder's adapter on a network.

    Args:
        network: changed in place: it is frozen, its adapters and ``modules_to_save`` apart.
        folder: peft's.

    Returns:
        What was applied: ``lora.fold(network)`` makes it part of the weights.

    Raises:
        UserError: for a folder that cannot be read, or of another network, which then stays as it is.
    """
    lora, trained = options_of(Path(folder)), [(p, p.requires_grad) for p in network.parameters()]
    lora.apply(network)
    try:
        load(lora, network, Path(folder))
    except UserError:
        for _, layer in list(all_adapted(network)):
            take_off(layer)
        for parameter, requires_grad in trained:
            parameter.requires_grad_(requires_grad)
        raise
    return lora


def _tensors(lora: LoRA, network: nn.Module) -> dict[str, Tensor]:
    """An adapter's tensors by peft's names, without the prefix."""
    layers = list(all_adapted(network))
    if not layers:
        raise UserError("adapter: the network has none")
    found: dict[str, Tensor] = {}
    for name, layer in layers:
        for key, parameter in adapted(layer).named_parameters():
            bare = key.startswith("lora_embedding_") or key == "lora_magnitude_vector"
            found[f"{name}.{key}" if bare else f"{name}.{key}.weight"] = parameter
    for name, module in modules_named(network, lora.modules_to_save or (), "modules_to_save").items():
        found |= {f"{name}.{key}": tensor for key, tensor in module.state_dict().items()}
    return found


def _read(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.exists() and (folder / PICKLE).exists():
        told = f"pickle, which may run code; {WEIGHTS} is expected, as peft's save_pretrained writes it"
        raise UserError(f"{folder / PICKLE}: it is {told}")
    try:
        tensors = from_bytes(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: it cannot be read ({error.strerror})") from None
    except SafetensorError as error:
        raise UserError(f"{path}: it is no safetensors file: {error}") from None
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def _shape(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else str(tuple(tensor.shape))


def _check_types(path: Path, given: dict[str, Any]) -> None:
    """Refuse JSON of other kinds; numbers' ranges and patterns are `LoRA`'s to check."""
    for name, value in given.items():
        if name in ("use_rslora", "use_dora"):
            good = isinstance(value, bool)
        elif name in ("target_modules", "modules_to_save"):
            texts = isinstance(value, list) and all(isinstance(one, str) for one in value)
            good = texts or (name == "target_modules" and isinstance(value, str))
        else:
            kinds = (int,) if name == "r" else (int, float)
            good = isinstance(value, kinds) and not isinstance(value, bool)
        if not good:
            raise UserError(f"{path}: {name}: {value!r} was found, peft's kind of value is expected")
