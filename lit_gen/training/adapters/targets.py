"""Which layers of a network an adapter changes: peft's patterns, refused where they match nothing or cannot work."""

import functools
import re
from collections.abc import Iterator, Sequence

from torch import nn

from lit_gen.core.blame import named
from lit_gen.core.errors import UserError, near
from lit_gen.training.adapters.low_rank import KINDS

ALL = "all-linear"
OPTION = "model.adapter.target_modules"


Kinds = tuple[type[nn.Module], ...]


def targets(
    network: nn.Module,
    patterns: str | Sequence[str],
    kept: Sequence[str] | None,
    kinds: Kinds = tuple(KINDS),
    merged: bool = True,
) -> dict[str, nn.Module]:
    """The layers to adapt.

    Args:
        network: what is adapted.
        patterns: names of layers or ends of them (``proj`` is every ``....proj``); a string is a regular expression for
            whole names, or ``all-linear``: every linear layer whose weight nothing else uses.
        kept: modules that are trained whole, in which nothing is adapted.
        kinds: the classes of layers that can be adapted.
        merged: whether the change must be able to become part of a layer's weight.

    Returns:
        Layers by name, in the network's order.

    Raises:
        UserError: for a pattern that matches no layer, or a layer that cannot be adapted.
    """
    whole = modules_named(network, kept or (), "model.adapter.modules_to_save")
    inside = tuple(f"{name}." for name in whole)
    free = {n: m for n, m in _own_modules(network) if n not in whole and not n.startswith(inside)}
    found: dict[str, nn.Module]
    against = functools.partial(reason_against, network, kinds=kinds, merged=merged)
    if patterns == ALL:
        plain = {n: m for n, m in free.items() if isinstance(m, nn.Linear) and against(n, m) is None}
        found = {n: m for n, m in plain.items() if tied_to(network, n, m) is None}
        if not found:
            raise UserError(f"{OPTION}: there is no linear layer that could be adapted")
        return found
    if isinstance(patterns, str):
        found = _matching(free, patterns)
    else:
        chosen: set[str] = set()
        for pattern in patterns or [""]:
            chosen |= set(_ending(free, pattern) or _refuse(free, pattern))
        found = {name: module for name, module in free.items() if name in chosen}
    for name, layer in found.items():
        if (reason := against(name, layer)) is not None:
            raise UserError(f"{OPTION}: {name} {reason}")
    return found


def modules_named(network: nn.Module, patterns: Sequence[str], option: str) -> dict[str, nn.Module]:
    """Modules whose names are or end in one of the patterns.

    Raises:
        UserError: for a pattern that matches none.
    """
    modules = dict(_own_modules(network))
    found: dict[str, nn.Module] = {}
    for pattern in patterns:
        found |= _ending(modules, pattern) or _refuse(modules, pattern, option)
    return found


def reason_against(
    network: nn.Module, name: str, layer: nn.Module, kinds: Kinds = tuple(KINDS), merged: bool = True
) -> str | None:
    """Why a layer cannot be adapted, in words that follow its name; None if it can. Arguments as those of `targets`."""
    parent = network.get_submodule(name.rpartition(".")[0])
    if not isinstance(layer, kinds):
        return f"is {named(layer)}; {', '.join(kind.__name__ for kind in kinds)} are expected"
    if isinstance(parent, nn.MultiheadAttention):
        return "is a part of nn.MultiheadAttention, which uses its weight without calling it"
    return _reason_against_merging(layer) if merged else None


def _reason_against_merging(layer: nn.Module) -> str | None:
    kinds = tuple(KINDS)
    if not any(type(layer).forward is kind.forward for kind in kinds):
        return f"is {named(layer)}, whose forward is its own, so that an adapter could not be merged"
    if "weight" not in layer._parameters:
        return "has a computed weight (spectral norm, say), so that an adapter could not be merged"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return f"is a convolution in {layer.groups} groups; one group is expected"
    if isinstance(layer, nn.Embedding) and (layer.max_norm is not None or layer.sparse):
        return "is an embedding with max_norm or sparse gradients; neither is expected"
    return None


def tied_to(network: nn.Module, name: str, layer: nn.Module) -> str | None:
    """What else uses a layer's weight; None if nothing does.

    A network that uses its embedding's weight directly to make logits says so by an attribute ``tied``.
    """
    others = (n for n, m in network.named_modules() if m is not layer and any(p is layer.weight for p in _own(m)))
    parent = network.get_submodule(name.rpartition(".")[0])
    direct = isinstance(layer, nn.Embedding) and getattr(parent, "tied", False) is True
    return next(others, "the layer that makes the logits" if direct else None)


def _own_modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All but the network itself and what adapters are on it."""
    yield from ((n, m) for n, m in network.named_modules() if n and "adapters" not in n.split("."))


def _own(module: nn.Module) -> Iterator[nn.Parameter | None]:
    yield from module._parameters.values()


def _ending(modules: dict[str, nn.Module], pattern: str) -> dict[str, nn.Module]:
    return {n: m for n, m in modules.items() if n == pattern or (pattern and n.endswith(f".{pattern}"))}


def _matching(modules: dict[str, nn.Module], pattern: str) -> dict[str, nn.Module]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"{OPTION}: {pattern!r} is no regular expression: {error}") from error
    return {n: m for n, m in modules.items() if expression.fullmatch(n)} or _refuse(modules, pattern)


def _refuse(modules: dict[str, nn.Module], pattern: str, option: str = OPTION) -> dict[str, nn.Module]:
    """Refuse a pattern that matches nothing; offers the nearest ends of names, or whole names, of its layers."""
    layers = [n for n, m in modules.items() if option != OPTION or isinstance(m, tuple(KINDS))]
    ends = dict.fromkeys(n.rpartition(".")[2] for n in layers)
    known = [n for n in ends if not n.isdigit()] + layers
    close = near(pattern, known, 3, cutoff=0.5) or known[:5]
    raise UserError(f"{option}: no layer is called {pattern!r}; there are {', '.join(close) or 'none'}")
