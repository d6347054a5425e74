"""What adapters share in a layer: its changes by name, which of them are in use, and the hook that applies them.

The changes are the submodules ``adapters.NAME`` of the layer, which stays the layer that it was: same class, same
names, one hook more. So a network's ``state_dict`` keeps every name that it had, and what is new has ``.adapters.`` in
its name. torch's fused paths, such as that of its transformer encoder, leave out what has hooks, where a layer of
another class would be passed over in silence.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from lit_gen.core.errors import UserError

NAME = "default"
"""The name of a trained adapter among a layer's, as peft's."""


class Change(nn.Module):
    """The change of one layer's output by an adapter.

    Attributes:
        unmerged: the layer's own weight, while the change is merged into it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unmerged: Tensor | None = None
        self.register_state_dict_pre_hook(_refuse_merged)
        self.register_load_state_dict_pre_hook(_refuse_merged)

    def forward(self, layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """The changed layer's output.

        Args:
            layer: the layer.
            x: its input.
            y: its output.

        Returns:
            As ``y``.
        """
        raise NotImplementedError

    def measure(self, layer: nn.Module) -> None:
        """Take over what depends on the layer's own weight, after another was loaded."""

    def merged(self, weight: Tensor) -> Tensor:
        """The changed weight, of the layer's own ``weight`` and of its shape."""
        raise NotImplementedError


class Changes(nn.ModuleDict):
    """The changes of one layer by name.

    Attributes:
        active: the names of those in use: each changes the layer's own output, and what they change adds up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.active: tuple[str, ...] = ()
        self.handle: Any = None  # of the hook


def put_on(layer: nn.Module, change: Change, name: str = NAME) -> None:
    """Give a layer a change, which its forward then applies."""
    if not isinstance(layer._modules.get("adapters"), Changes):
        layer.adapters = Changes()
        layer.adapters.handle = layer.register_forward_hook(_changed, with_kwargs=True)
    changes: Any = layer.adapters
    changes[name] = change
    changes.active = (*changes.active, name)


def take_off(layer: nn.Module, name: str = NAME) -> None:
    """Take a change from a layer."""
    changes: Any = layer.adapters
    del changes[name]
    changes.active = tuple(one for one in changes.active if one != name)
    if not changes:
        changes.handle.remove()
        del layer.adapters


def adapted(layer: nn.Module, name: str = NAME) -> Any:
    """The change of that name of a layer that has it: a `Change`."""
    return layer.adapters[name]  # type: ignore[index]


def all_adapted(network: nn.Module, name: str | None = NAME) -> Iterator[tuple[str, nn.Module]]:
    """The layers of a network that have a change of that name, or any if it is None, by name."""
    for layer_name, layer in network.named_modules():
        changes = layer._modules.get("adapters")
        if isinstance(changes, Changes) and (name is None or name in changes):
            yield layer_name, layer


def _changed(layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any], y: Tensor) -> Tensor:
    changes: Any = layer.adapters
    x = given[0] if given else named["input"]
    outputs: list[Tensor] = [changes[name](layer, x, y) for name in changes.active]
    if not outputs:
        return y
    total = outputs[0]  # of one alone, bit by bit
    for other in outputs[1:]:
        total = total + (other - y)
    return total


def _refuse_merged(module: nn.Module, *_: Any) -> None:
    """While merged, the layer's weight holds the change already: it would be counted twice."""
    if isinstance(module, Change) and module.unmerged is not None:
        raise UserError("adapter: it is merged into the network; unmerge it, or fold it into the weights for good")
