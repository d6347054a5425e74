"""Fine-tuning: weights of another run to begin with, frozen parameters, learning rates of their own."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrizations import _SpectralNorm

from lit_gen.core.errors import UserError, near
from lit_gen.core.options import expect
from lit_gen.protocols.images import Weights
from lit_gen.training.meeting import iterates
from lit_gen.training.optimizers import FACTOR, made
from lit_gen.training.starting import START, begin_with

OPTION = "model.finetune"
Networks = dict[str, nn.Module]
"""The networks of a model, by the names of its attributes."""


@dataclass
class FineTune:
    """How a run goes on from another run's weights, and which parameters it changes how fast.

    Patterns are those of a shell (``*``, ``?``, ``[ab]``) for whole names of parameters, which begin with their
    network's: ``discriminator.layers.0.*``; a model of one network takes them without it too: ``blocks.0.*``. A weight
    that has two names is matched by either.

    A frozen parameter has no gradient, no decay and no place in the optimizer. Running statistics of a norm whose
    parameters are all frozen stay as they are, and it uses them; a frozen weight with spectral norm makes no more power
    iterations. Freezing the discriminator's first layers is FreezeD (Mo et al., 2020,
    https://arxiv.org/abs/2002.10964).

    Args:
        start: a run directory or a checkpoint of the same family, whose weights the networks begin with; null: those
            that they are built with. It is read when a run begins, not when one is resumed.
        weights: the averaged ones, where that run kept an average, or the raw ones.
        partial: leave out what only one of the two has: what ``start`` lacks keeps its initial values.
        reset: patterns of weights that keep their initial values although ``start`` has them; their shapes may differ.
        freeze: patterns of parameters that are not trained.
        rates: factors of the learning rate, above 0, by pattern; those of all patterns that match are multiplied.

    Raises:
        UserError: for a factor out of range, or an option that needs ``start``.
    """

    start: str | None = None
    weights: Weights = "ema"
    partial: bool = False
    reset: list[str] | None = None
    freeze: list[str] | None = None
    rates: dict[str, float] | None = None

    def __post_init__(self) -> None:
        for pattern, factor in (self.rates or {}).items():
            expect(0 < factor < math.inf, f"{OPTION}.rates.{pattern}", factor, "a number above 0")
        for name in ("partial", "reset") if self.start is None else ():
            if getattr(self, name):
                raise UserError(f"{OPTION}.{name}: it was given without start, the run whose weights it is about")

    # ---- before the first step

    def apply(self, networks: Networks, adapter: Any = None) -> None:
        """Freeze what is to be frozen.

        Args:
            networks: changed in place.
            adapter: the model's, if it has one.

        Raises:
            UserError: for a pattern that matches nothing, if nothing is left to train, or beside an adapter that
                freezes or fills the networks itself.
        """
        if adapter is not None and self.freeze:
            raise UserError(f"{OPTION}.freeze: null is expected beside model.adapter, which freezes all but itself")
        if adapter is not None and self.start is not None and adapter.base is not None:
            raise UserError(f"{OPTION}.start: it was found beside model.adapter.base; one of them is expected")
        for parameter in self._frozen(networks).values():
            parameter.requires_grad_(False)
        parameters = [p for network in networks.values() for p in network.parameters()]
        if self.freeze and not any(p.requires_grad for p in parameters):
            raise UserError(f"{OPTION}.freeze: {', '.join(self.freeze)} leaves nothing to train")
        self.factors(networks)
        if self.reset:
            states = {name: network.state_dict() for name, network in networks.items()}
            names = [_names(networks, name, key) for name, state in states.items() for key in state]
            for pattern in self.reset:
                _check(pattern, "reset", [each for each in names if matches(pattern, each)], names)

    def begin(self, module: nn.Module, networks: Networks) -> dict[str, Any] | None:
        """Fill the networks, and their averages, with the weights of ``start``.

        Args:
            module: what the networks belong to; the average of ``network`` is its ``ema_network``.
            networks: to fill.

        Returns:
            The checkpoint's content; None without ``start``.

        Raises:
            UserError: if there is no checkpoint, or it does not fit; nothing is filled then.
        """
        if self.start is None:
            return None

        def resets(network: str, key: str) -> bool:
            return any(matches(pattern, _names(networks, network, key)) for pattern in self.reset or ())

        averages = {name: getattr(module, f"ema_{name}", None) for name in networks}
        return begin_with(START, self.start, networks, averages, self.weights, self.partial, resets)

    # ---- training

    def keep_still(self, networks: Networks) -> None:
        """Put the parts into evaluation mode whose buffers would move in training although their weights are frozen."""
        frozen = {id(p) for p in self._frozen(networks).values()} if self.freeze else set()
        for name, network in networks.items() if frozen else ():
            for key, part in network.named_modules():
                if _moves(part) and self._stays(part, network, _names(networks, name, f"{key}.running_mean"), frozen):
                    part.eval()

    def _stays(self, part: nn.Module, network: nn.Module, statistic: Sequence[str], frozen: set[int]) -> bool:
        if isinstance(part, _SpectralNorm):
            owners = [m for m in network.modules() if any(child is part for child in m.children())]
            own = [p for owner in owners for p in owner.parameters(recurse=False)]
        else:
            own = list(part.parameters(recurse=False))
        if own:
            return all(id(p) in frozen for p in own)
        return any(matches(pattern, statistic) for pattern in self.freeze or ())  # a norm without gains

    def make(
        self, option: str, make: Callable[[Any], Any], parameters: Sequence[Any], networks: Networks
    ) -> torch.optim.Optimizer:
        """Make an optimizer in which every factor of a learning rate has parameter groups of its own.

        Args:
            option: the optimizer's name.
            make: from groups of parameters.
            parameters: or groups of them.
            networks: whose parameters have names.

        Raises:
            UserError: as `lit_gen.training.optimizers.made`.
        """
        factors = self.factors(networks)
        optimizer = made(option, make, list(_divided(parameters, factors)) if factors else parameters)
        for group in optimizer.param_groups if factors else ():
            group["lr"] = group["lr"] * group[FACTOR]
        return optimizer

    def factors(self, networks: Networks) -> dict[int, float]:
        """The factor of each parameter that a pattern matches, by the parameter's id.

        Raises:
            UserError: for a pattern that matches no parameter, or none that is trained.
        """
        found: dict[int, float] = {}
        for pattern, factor in (self.rates or {}).items():
            members = {id(p): p for p in self._matched(networks, pattern, "rates")}
            if not any(p.requires_grad for p in members.values()):
                raise UserError(f"{OPTION}.rates: {pattern} matches only frozen parameters, which have no rate")
            for key in members:
                found[key] = found.get(key, 1.0) * factor
        return found

    def _frozen(self, networks: Networks) -> dict[int, nn.Parameter]:
        return {id(p): p for pattern in self.freeze or () for p in self._matched(networks, pattern, "freeze")}

    @staticmethod
    def _matched(networks: Networks, pattern: str, option: str) -> list[nn.Parameter]:
        named = [
            (_names(networks, name, key), parameter)
            for name, network in networks.items()
            for key, parameter in network.named_parameters(remove_duplicate=False)
        ]
        found = [parameter for names, parameter in named if matches(pattern, names)]
        _check(pattern, option, found, [names for names, _ in named])
        return found


def matches(pattern: str, names: Iterable[str]) -> bool:
    """Whether a pattern matches one of the names that a parameter goes by."""
    return any(fnmatchcase(name, pattern) for name in names)


def _names(networks: Networks, network: str, key: str) -> tuple[str, ...]:
    """The names that a parameter goes by."""
    return (f"{network}.{key}", key) if len(networks) == 1 else (f"{network}.{key}",)


def _check(pattern: str, option: str, found: Sequence[Any], names: list[tuple[str, ...]]) -> None:
    if found:
        return
    known = [each[-1 if not pattern.startswith(each[0].partition(".")[0]) else 0] for each in names]
    close = near(pattern.replace("*", ""), known, 3, cutoff=0.4) or known[:3]
    raise UserError(f"{OPTION}.{option}: {pattern} matches no name; the nearest are {', '.join(close)}")


def _moves(part: nn.Module) -> bool:
    """Whether a part changes buffers of its own in each pass of the training."""
    return isinstance(part, _NormBase) or iterates(part)


def _divided(parameters: Sequence[Any], factors: dict[int, float]) -> Iterator[dict[str, Any]]:
    """Parameter groups in which all parameters have one factor, in the order of their first ones."""
    groups = parameters if parameters and isinstance(parameters[0], dict) else [{"params": parameters}]
    for group in groups:
        parts: dict[float, list[Tensor]] = {}
        for parameter in group["params"]:
            parts.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
        for factor, members in parts.items():
            yield {**group, "params": members, FACTOR: factor}
