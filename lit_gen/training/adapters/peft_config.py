"""peft's ``adapter_config.json``: from an adapter's options to its keys, and back.

The format is that of https://github.com/huggingface/peft. peft also has options that change what the tensors mean; a
folder that uses one which is unknown here is refused by its name.
"""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from lit_gen.core.errors import UserError, nearest, under
from lit_gen.core.terminal import one_line
from lit_gen.training.adapters.adalora import AdaLoRA
from lit_gen.training.adapters.adapter import Adapter
from lit_gen.training.adapters.change import NAME, adapted, all_adapted
from lit_gen.training.adapters.lora import LoRA
from lit_gen.training.adapters.targets import ALL

CONFIG = "adapter_config.json"
TYPES: dict[str, type[Adapter]] = {"LORA": LoRA, "ADALORA": AdaLoRA}
"""Adapters by peft's name of their kind."""

ABOUT = {"base_model_name_or_path", "revision", "task_type", "auto_mapping", "inference_mode", "peft_version"}
"""Keys that do not change what is computed."""
ALSO = {"LORA": set[str](), "ADALORA": {"r", "total_step", "rank_pattern"}}
"""Keys that are no options here: AdaLoRA does not use r, and its triplets' places are read with the tensors."""
UNUSED: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "init_lora_weights": (True, "gaussian"),  # others change the network too
    "megatron_core": ("megatron.core",),
    "qalora_group_size": (16,),
}
"""Values of keys, besides null, false, and empty ones, by which nothing is asked for."""


class Described(NamedTuple):
    """What a folder's ``adapter_config.json`` says."""

    adapter: Adapter
    pattern: dict[str, list[bool]]
    """Of AdaLoRA: which triplets of a layer the file holds, by ``LAYER.lora_E``; of other layers all."""


def options_of(kind: type[Adapter]) -> tuple[str, ...]:
    """The names of an adapter's options that a folder holds."""
    return tuple(one.name for one in fields(kind) if one.name != "base")  # type: ignore[arg-type]


def write(adapter: Adapter, network: nn.Module, pattern: dict[str, list[bool]], name: str = NAME) -> str:
    """The content of the file.

    Args:
        adapter: what was applied.
        network: what it was applied to.
        pattern: see `Described`.
        name: of the adapter.

    Raises:
        UserError: for an adapter that peft does not have.
    """
    adapter.refuse_unmergeable("written as peft's files")
    peft_type = next(peft_type for peft_type, kind in TYPES.items() if type(adapter) is kind)
    config: dict[str, Any] = {option: getattr(adapter, option) for option in options_of(type(adapter))}
    layers = list(all_adapted(network, name))
    if adapter.target_modules == ALL:  # peft leaves the layer that makes the logits out of it
        config["target_modules"] = "|".join(re.escape(layer_name) for layer_name, _ in layers)
    if isinstance(adapter, AdaLoRA):  # peft wants a number of steps, also of an adapter that was not trained
        steps = int(adapted(layers[0][1], name).steps) or adapter.tinit + adapter.tfinal + 1
        config |= {"total_step": steps, "rank_pattern": pattern or None}
    config |= {"peft_type": peft_type, "bias": "none", "fan_in_fan_out": False, "inference_mode": True}
    config |= {"base_model_name_or_path": None, "task_type": None, "init_lora_weights": True}
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def read(folder: Path) -> Described:
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
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: it is no JSON: {error}") from None
    found = config.get("peft_type") if isinstance(config, dict) else None
    if not isinstance(found, str) or found not in TYPES:
        known = " or ".join(repr(one) for one in TYPES)
        raise UserError(f"{path}: peft_type: {found!r} was found, {known} is expected")
    options = options_of(TYPES[found])
    for key, value in config.items():
        used = value not in (None, False, "", [], {}) and value not in UNUSED.get(key, ())
        if used and key not in {*options, "peft_type", *ABOUT, *ALSO[found]}:
            known = f"{', '.join(options)} are known{nearest(key, options)}"
            raise UserError(f"{path}: {one_line(key)}: {value!r} was found, which is not known here; {known}")
    given = {name: config[name] for name in options if config.get(name) is not None}
    _check_types(path, given)
    with under(f"{path}: "):
        adapter = TYPES[found](**given)
    return Described(adapter, _pattern(path, adapter, config) if isinstance(adapter, AdaLoRA) else {})


def _pattern(path: Path, adapter: AdaLoRA, config: dict[str, Any]) -> dict[str, list[bool]]:
    pattern: Any = config.get("rank_pattern") or {}
    told = f"{adapter.init_r} of true or false for each layer are expected, as its init_r"
    if not isinstance(pattern, dict):
        raise UserError(f"{path}: rank_pattern: {pattern!r} was found, {told}")
    for name, kept in pattern.items():
        good = isinstance(kept, list) and all(isinstance(one, bool) for one in kept) and len(kept) == adapter.init_r
        if not good:
            raise UserError(f"{path}: rank_pattern: {one_line(name)}: {kept!r} was found, {told}")
    return pattern


def _check_types(path: Path, given: dict[str, Any]) -> None:
    """Refuse JSON of other kinds; numbers' ranges and patterns are the adapter's to check."""
    for name, value in given.items():
        if name in ("use_rslora", "use_dora"):
            good = isinstance(value, bool)
        elif name in ("target_modules", "modules_to_save"):
            texts = isinstance(value, list) and all(isinstance(one, str) for one in value)
            good = texts or (name == "target_modules" and isinstance(value, str))
        else:
            whole = name in ("r", "init_r", "target_r", "tinit", "tfinal", "deltaT")
            good = isinstance(value, (int,) if whole else (int, float)) and not isinstance(value, bool)
        if not good:
            raise UserError(f"{path}: {name}: {value!r} was found, peft's kind of value is expected")
