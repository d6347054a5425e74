"""peft's folders: ``adapter_config.json`` and ``adapter_model.safetensors``, both ways.

A tensor's name is ``base_model.model.``, the layer's name in the network, and the factor's name, without the adapter's.
The format is that of https://github.com/huggingface/peft (`peft.utils.save_and_load`).
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from lit_gen.core.errors import UserError
from lit_gen.core.files import write_whole
from lit_gen.core.terminal import one_line
from lit_gen.training.adapters import peft_config
from lit_gen.training.adapters.adapter import Adapter
from lit_gen.training.adapters.change import NAME, adapted, all_adapted, take_off
from lit_gen.training.adapters.peft_config import CONFIG
from lit_gen.training.adapters.targets import modules_named
from lit_gen.training.adapters.triplets import FACTORS, Triplets

WEIGHTS, PICKLE = "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."

BARE = ("lora_embedding_", "lora_magnitude_vector")
"""What has no ``.weight`` after its name; of AdaLoRA nothing has."""

Pattern = dict[str, list[bool]]


def save(adapter: Adapter, network: nn.Module, folder: Path) -> None:
    """Write a network's adapter as peft does; the network itself is not written.

    Of AdaLoRA, triplets that were dropped are left out.

    Args:
        adapter: what was applied.
        network: the network, its adapter merged or not.
        folder: is created; files of these names are replaced.

    Raises:
        UserError: if the network has no adapter, or one that peft does not have.
        OSError: if a file cannot be written.
    """
    tensors, pattern = _tensors(adapter, network), _kept(network)
    config = peft_config.write(adapter, network, pattern)
    for name, kept in pattern.items():
        for factor, key in _factors(name).items():
            tensors[key] = tensors[key][:, kept] if factor == "lora_B" else tensors[key][kept]
    written = {PREFIX + name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    write_whole(folder / WEIGHTS, to_bytes(written, {"format": "pt"}))
    write_whole(folder / CONFIG, config)


def load(adapter: Adapter, network: nn.Module, folder: Path, name: str = NAME) -> None:
    """Fill the adapter that a network has from a folder.

    Args:
        adapter: what was applied.
        network: changed in place, or not at all.
        folder: peft's, of an adapter with the same options, dropout apart.
        name: of the adapter.

    Raises:
        UserError: for another adapter, or tensors that are missing, left over, of other shapes, or not finite.
    """
    other, pattern = peft_config.read(folder)
    if type(other) is not type(adapter):
        kinds = f"{type(other).__name__} was found, where this network's adapter is {type(adapter).__name__}"
        raise UserError(f"{folder / CONFIG}: peft_type: {kinds}")
    for option in ("r", "init_r", "use_dora", "scaling"):
        here, there = getattr(adapter, option, None), getattr(other, option, None)
        if here != there:
            raise UserError(f"{folder / CONFIG}: {option}: {there} was found, where this network's adapter has {here}")
    if any(adapted(layer, name).unmerged is not None for _, layer in all_adapted(network, name)):
        raise UserError("adapter: it is merged; unmerge it before another is loaded")
    expected = _tensors(adapter, network, name)
    found = _whole(_read(folder), expected, pattern)
    for key in (*expected, *found):
        here, there = (_shape(tensors.get(key)) for tensors in (expected, found))
        if here != there:
            told = f"it holds {there} for {one_line(key)}, where this network's adapter has {here}"
            raise UserError(f"{folder / WEIGHTS}: {told}")
        if not torch.isfinite(found[key]).all():
            raise UserError(f"{folder / WEIGHTS}: {one_line(key)} is NaN or infinite")
    with torch.no_grad():
        for key, tensor in expected.items():
            tensor.copy_(found[key])
        for layer_name, layer in all_adapted(network, name):
            if isinstance(triplets := adapted(layer, name), Triplets):
                kept = pattern.get(f"{layer_name}.lora_E", [True] * triplets.rank)
                triplets.kept.copy_(torch.tensor(kept))


def attach(network: nn.Module, folder: str | Path, name: str = NAME) -> Adapter:
    """Put a folder's adapter on a network.

    Args:
        network: changed in place: it is frozen, its adapters and ``modules_to_save`` apart.
        folder: peft's.
        name: of the adapter.

    Returns:
        What was applied: its ``fold(network)`` makes it part of the weights.

    Raises:
        UserError: for a folder that cannot be read, or of another network, which then stays as it is.
    """
    refuse_pickle(Path(folder))
    adapter = peft_config.read(Path(folder)).adapter
    trained = [(p, p.requires_grad) for p in network.parameters()]
    adapter.apply(network, name=name)
    try:
        load(adapter, network, Path(folder), name)
    except UserError:
        for _, layer in list(all_adapted(network, name)):
            take_off(layer, name)
        for parameter, requires_grad in trained:
            parameter.requires_grad_(requires_grad)
        raise
    return adapter


def refuse_pickle(folder: Path) -> None:
    """Refuse a folder whose weights are a pickle.

    Raises:
        UserError: names the file.
    """
    if not (folder / WEIGHTS).exists() and (folder / PICKLE).exists():
        told = f"pickle, which may run code; {WEIGHTS} is expected, as peft's save_pretrained writes it"
        raise UserError(f"{folder / PICKLE}: it is {told}")


def _tensors(adapter: Adapter, network: nn.Module, name: str = NAME) -> dict[str, Tensor]:
    """An adapter's tensors by peft's names, without the prefix."""
    layers = list(all_adapted(network, name))
    if not layers:
        raise UserError("adapter: the network has none")
    found: dict[str, Tensor] = {}
    for layer_name, layer in layers:
        change = adapted(layer, name)
        for key, parameter in change.named_parameters():
            bare = key.startswith(BARE) or isinstance(change, Triplets)
            found[f"{layer_name}.{key}" if bare else f"{layer_name}.{key}.weight"] = parameter
    for module_name, module in modules_named(network, adapter.modules_to_save or (), "modules_to_save").items():
        found |= {f"{module_name}.{key}": tensor for key, tensor in module.state_dict().items()}
    return found


# ---- the triplets that a file holds


def _kept(network: nn.Module) -> Pattern:
    """Which triplets change anything, of the layers that have others too."""
    found: Pattern = {}
    for layer_name, layer in all_adapted(network):
        if isinstance(triplets := adapted(layer), Triplets):
            kept = (triplets.kept | (triplets.lora_E[:, 0] != 0)).tolist()
            found |= {} if all(kept) else {f"{layer_name}.lora_E": kept}
    return found


def _factors(name: str) -> dict[str, str]:
    """The names of a layer's three tensors, of that of its E."""
    layer = name.rpartition(".")[0]
    return {factor: f"{layer}.{factor}" for factor in FACTORS}


def _whole(found: dict[str, Tensor], expected: dict[str, Tensor], pattern: Pattern) -> dict[str, Tensor]:
    """A file's tensors, with this network's first weights, and zeros in E, where it left triplets out."""
    for name, kept in pattern.items():
        for factor, key in _factors(name).items():
            if key not in found or key not in expected:
                continue
            dim = 1 if factor == "lora_B" else 0
            own = expected[key].detach()
            whole = (torch.zeros_like(own) if factor == "lora_E" else own.clone()).transpose(0, dim)
            part = found[key].transpose(0, dim) if found[key].dim() == 2 else found[key]
            if part.shape == (sum(kept), *whole.shape[1:]):
                whole[torch.tensor(kept, device=whole.device)] = part.to(whole)
                found[key] = whole.transpose(0, dim)
    return found


def _read(folder: Path) -> dict[str, Tensor]:
    refuse_pickle(folder)
    path = folder / WEIGHTS
    try:
        tensors = from_bytes(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: it cannot be read ({error.strerror})") from None
    except SafetensorError as error:
        raise UserError(f"{path}: it is no safetensors file: {error}") from None
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def _shape(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else str(tuple(tensor.shape))
