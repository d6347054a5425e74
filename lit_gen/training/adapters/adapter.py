"""What all adapters are: a frozen network with a small trained change of some of its layers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lit_gen.core.errors import UserError
from lit_gen.training.adapters.change import NAME, Change, adapted, all_adapted, put_on, take_off
from lit_gen.training.adapters.low_rank import KINDS
from lit_gen.training.adapters.targets import modules_named, targets, tied_to


class Adapter(ABC):
    """Base of the option ``model.adapter``; a subclass is a dataclass with at least these arguments.

    Attributes:
        target_modules: layers to adapt: a list of names or ends of names, a regular expression for whole names, or
            ``all-linear``: linear layers whose weight no other uses.
        modules_to_save: names or ends of names of modules that are trained whole.
        base: a run directory or a checkpoint with whose weights a fit begins.
        kinds: the classes of layers that it can adapt.
        mergeable: whether its change can become part of a layer's weight.
        penalized: whether it has a penalty.
        logged: the names of its other numbers in a log entry.
    """

    target_modules: list[str] | str
    modules_to_save: list[str] | None
    base: str | None
    kinds: ClassVar[tuple[type[nn.Module], ...]] = tuple(KINDS)
    mergeable: ClassVar[bool] = True
    penalized: ClassVar[bool] = False
    logged: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def change(self, layer: nn.Module) -> Change:
        """The change of a layer, which does nothing yet."""

    # ---- put on and taken off

    def apply(self, network: nn.Module, filled: bool = True, name: str = NAME) -> list[nn.Parameter]:
        """Put changes on a network's layers, freeze the rest.

        Their first weights are drawn from torch's global generator, as a network's are.

        Args:
            network: changed in place; its own weights keep names and values.
            filled: whether it has its weights by now; if they are loaded later, `check` them then.
            name: of the adapter.

        Returns:
            The trained parameters: those of the adapter, then those of ``modules_to_save``.

        Raises:
            UserError: for a network with an adapter of that name, a pattern that matches nothing, or a layer that
                cannot be adapted; the network is then as it was.
        """
        if any(True for _ in all_adapted(network, name)):
            raise UserError("model.adapter: the network has an adapter already; fold it into the weights first")
        layers = targets(network, self.target_modules, self.modules_to_save, self.kinds, self.mergeable)
        saved = _whole(network, self.modules_to_save or ())
        if filled:
            self._check(layers)
        made = {layer_name: self.change(layer) for layer_name, layer in layers.items()}
        network.requires_grad_(False)
        for layer_name, change in made.items():
            put_on(layers[layer_name], change.train(layers[layer_name].training), name)
        for module in saved.values():
            module.requires_grad_(True)
        trained = [p for change in made.values() for p in change.parameters()]
        return list(dict.fromkeys([*trained, *(p for module in saved.values() for p in module.parameters())]))

    def check(self, network: nn.Module) -> None:
        """Compare an adapted network's own weights with the adapter.

        Raises:
            UserError: for weights that it cannot change.
        """
        self._check(dict(all_adapted(network)))

    def _check(self, layers: dict[str, nn.Module]) -> None:  # noqa: B027
        """Refuse layers by their weights; a subclass may."""

    def begin(self, network: nn.Module) -> None:
        """Measure the layers anew, after other weights were loaded into those of an untrained adapter."""
        for _, layer in all_adapted(network):
            adapted(layer).measure(layer)

    # ---- during a fit

    def prepare(self, changes: Sequence[Change], steps: int) -> None:  # noqa: B027
        """Take note of a fit's length before its first step.

        Args:
            changes: of all layers.
            steps: the trainer's ``max_steps``, -1 if it is not set.

        Raises:
            UserError: if the adapter needs another.
        """

    def penalty(self, changes: Sequence[Change]) -> Tensor | None:
        """What is added to the loss, once per update; None for nothing."""
        return None

    def after_update(self, changes: Sequence[Change], step: int) -> None:  # noqa: B027
        """Act after the optimizer's step, when gradients are still there: of all micro-batches and ranks, clipped.

        Args:
            changes: of all layers.
            step: which one it was, from 1.
        """

    def average(self, changes: Sequence[Change]) -> None:  # noqa: B027
        """Act on the averaged weights after they were updated."""

    def scalars(self, changes: Sequence[Change]) -> dict[str, float]:
        """The numbers of a log entry by the names in ``logged``."""
        return {}

    # ---- part of the weights

    def merge(self, network: nn.Module) -> None:
        """Put the change into the layers' own weights; they then compute the same at their own cost, without dropout.

        Each layer's own weight is kept beside it, for `unmerge`; meanwhile no ``state_dict`` is given out.

        Raises:
            UserError: if nothing is adapted, if it is merged already, if the change cannot be part of a weight, or for
                a weight that something else uses, which would change too.
        """
        self.refuse_unmergeable("merged into weights or exported")
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
                weight: Any = layer.weight
                change = adapted(layer)
                merged = change.merged(weight)
                change.unmerged = weight.detach().clone()
                weight.copy_(merged)

    def unmerge(self, network: nn.Module) -> None:
        """Restore the layers' own weights, every bit of them.

        Raises:
            UserError: if it is not merged.
        """
        with torch.no_grad():
            for _, layer in _layers(network):
                change, weight = adapted(layer), layer.weight
                if change.unmerged is None:
                    raise UserError("adapter: it is not merged")
                weight.copy_(change.unmerged)  # type: ignore[operator]
                change.unmerged = None

    def fold(self, network: nn.Module) -> None:
        """Merge for good: the network has its own names again, and no adapter.

        Raises:
            UserError: as `merge`.
        """
        self.merge(network)
        for _, layer in _layers(network):
            take_off(layer)

    def refuse_unmergeable(self, what: str) -> None:
        """Refuse what needs a change of weights.

        Raises:
            UserError: for an adapter whose change is none; ``what`` says what cannot be done.
        """
        if not self.mergeable:
            raise UserError(f"model.adapter: {type(self).__name__} is no change of weights, so it cannot be {what}")


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
