"""LoRA, rsLoRA and DoRA as one option: what is adapted, how it begins, and how it becomes part of the weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.core.options import above, at_least, within
from lit_gen.training.adapters.low_rank import LowRank, adapted, all_adapted, directed, put_on, take_off
from lit_gen.training.adapters.targets import ALL, modules_named, targets, tied_to


@dataclass
class LoRA:
    """A frozen network with a trained change of low rank in some layers; names and defaults are peft's.

    LoRA: Hu et al., 2021, https://arxiv.org/abs/2106.09685. rsLoRA: Kalajdzievski, 2023,
    https://arxiv.org/abs/2312.03732. DoRA: Liu et al., 2024, https://arxiv.org/abs/2402.09353. The formulas are in
    `lit_gen.training.adapters.low_rank.LowRank`.

    Args:
        r: rank of the change, at least 1.
        lora_alpha: the change is multiplied by ``lora_alpha / r``.
        lora_dropout: in [0, 1): of the input of the change, in training.
        target_modules: layers to adapt, linear, two-dimensional convolutions and embeddings: a list of names or ends of
            names, a regular expression for whole names, or ``all-linear``: linear layers whose weight no other uses.
        modules_to_save: names or ends of names of modules that are trained whole, such as a new head.
        use_rslora: multiply by ``lora_alpha / sqrt(r)`` instead, which keeps the gradient's size at high ranks.
        use_dora: train the length of each row of the changed weight too.
        base: a run directory or a checkpoint of the same family, with whose weights a fit begins, the averaged ones if
            it kept an average; null: those that the networks are built with.

    Raises:
        UserError: for a number out of range.
    """

    r: int = 8
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    target_modules: list[str] | str = ALL  # in this order: a list on the command line is a string too
    modules_to_save: list[str] | None = None
    use_rslora: bool = False
    use_dora: bool = False
    base: str | None = None

    def __post_init__(self) -> None:
        at_least(1, "model.adapter.", r=self.r)
        above(0, "model.adapter.", finite=True, lora_alpha=self.lora_alpha)
        within("[0, 1)", "model.adapter.", lora_dropout=self.lora_dropout)

    @property
    def scaling(self) -> float:
        """What the product of the factors is multiplied by."""
        return self.lora_alpha / (math.sqrt(self.r) if self.use_rslora else self.r)

    def apply(self, network: nn.Module, filled: bool = True) -> list[nn.Parameter]:
        """Put adapters on a network's layers, freeze the rest.

        Factors are drawn from torch's global generator, as a network's first weights are.

        Args:
            network: changed in place; its own weights keep names and values.
            filled: whether it has its weights by now; if they are loaded later, `check` them then.

        Returns:
            The trained parameters: those of the adapters, then those of ``modules_to_save``.

        Raises:
            UserError: for a network with an adapter, a pattern that matches nothing, or a layer that cannot be adapted;
                the network is then as it was.
        """
        if any(True for _ in all_adapted(network)):
            raise UserError("model.adapter: the network has an adapter already; fold it into the weights first")
        layers = targets(network, self.target_modules, self.modules_to_save)
        saved = _whole(network, self.modules_to_save or ())
        if filled:
            self._check(layers)
        options = (self.r, self.scaling, self.lora_dropout, self.use_dora)
        made = {name: LowRank(layer, *options) for name, layer in layers.items()}
        network.requires_grad_(False)
        for name, adapter in made.items():
            put_on(layers[name], adapter.train(layers[name].training))
        for module in saved.values():
            module.requires_grad_(True)
        adapters = [p for adapter in made.values() for p in adapter.parameters()]
        return list(dict.fromkeys([*adapters, *(p for module in saved.values() for p in module.parameters())]))

    def check(self, network: nn.Module) -> None:
        """Compare an adapted network's own weights with the adapter.

        Raises:
            UserError: for a row of zeros, which has no direction that DoRA could keep.
        """
        self._check(dict(all_adapted(network)))

    def begin(self, network: nn.Module) -> None:
        """Set DoRA's lengths anew, after other weights were loaded into the layers of an untrained adapter."""
        for _, layer in all_adapted(network):
            adapted(layer).measure(layer)

    def _check(self, layers: dict[str, nn.Module]) -> None:
        for name, layer in layers.items():
            if self.use_dora and not directed(layer):
                told = "has a row of zeros, which has no direction; use_dora false, or target_modules without it"
                raise UserError(f"model.adapter: the weight of {name} {told} is expected")

    def merge(self, network: nn.Module) -> None:
        """Put the change into the layers' own weights; they then compute the same at their own cost, without dropout.

        Each layer's own weight is kept beside it, for `unmerge`; meanwhile no ``state_dict`` is given out.

        Raises:
            UserError: if nothing is adapted, if it is merged already, or for a weight that something else uses, which
                would change too.
        """
        for name, layer in _layers(network):
            if adapted(layer).unmerged is not None:
                raise UserError("adapter: it is merged already")
            if (other := tied_to(network, name, layer)) is not None:
                raise UserError(
                    f"adapter: the weight of {name} is also that of {other}, which merging would change; untie them, "
                    f"or leave {name} out of target_modules"
                )
        with torch.no_grad():
            for _, layer in _layers(network):
                weight: nn.Parameter = layer.weight  # type: ignore[assignment]
                adapter = adapted(layer)
                merged = adapter.merged(weight)
                adapter.unmerged = weight.detach().clone()
                weight.copy_(merged)

    def unmerge(self, network: nn.Module) -> None:
        """Restore the layers' own weights, every bit of them.

        Raises:
            UserError: if it is not merged.
        """
        with torch.no_grad():
            for _, layer in _layers(network):
                adapter, weight = adapted(layer), layer.weight
                if adapter.unmerged is None:
                    raise UserError("adapter: it is not merged")
                weight.copy_(adapter.unmerged)  # type: ignore[operator]
                adapter.unmerged = None

    def fold(self, network: nn.Module) -> None:
        """Merge for good: the network has its own names again, and no adapter.

        Raises:
            UserError: as `merge`.
        """
        self.merge(network)
        for _, layer in _layers(network):
            take_off(layer)


def _layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    found = list(all_adapted(network))
    if not found:
        raise UserError("adapter: the network has none")
    return found


def _whole(network: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The modules that are trained whole.

    Raises:
        UserError: for one that shares a weight with a frozen module.
    """
    option = "model.adapter.modules_to_save"
    found = modules_named(network, names, option)
    inside = {id(module) for whole in found.values() for module in whole.modules()}
    owned = {id(p): name for name, whole in found.items() for p in whole.parameters()}
    for name, module in network.named_modules():
        for parameter in module._parameters.values():
            if id(parameter) in owned and id(module) not in inside:
                raise UserError(f"{option}: {owned[id(parameter)]} shares a weight with {name}, which is frozen")
    return found
