"""What a module with the option ``adapter`` does at each point of a run."""

import copy
from collections.abc import Callable
from typing import Any

from torch import nn

from lit_gen.protocols.images import Weights
from lit_gen.training.adapters.adapter import Adapter
from lit_gen.training.adapters.attached import Attached
from lit_gen.training.adapters.change import all_adapted
from lit_gen.training.starting import BASE, begin_with


class Adapted(nn.Module):
    """The part of `lit_gen.training.module.TrainingModule` that `lit_gen.training.adapters` need.

    Attributes:
        adapter: the trained change of frozen networks; None where networks are trained themselves.
        attached: the same, during training.
    """

    adapter: Adapter | None = None
    attached: Attached | None = None
    refuse_lazy: Callable[..., None]
    weighted: Callable[..., nn.Module]
    begun_with: Callable[[dict[str, Any]], None]
    _adaptable: tuple[str, ...] = ()  # names of the networks that an adapter is for

    def keep_adapter(self, adapter: Adapter | None, *names: str) -> None:
        """Freeze the networks ``names`` but for an adapter; call it in the constructor, before `keep_average`.

        A checkpoint holds the networks with the adapter, under the names ``....adapters.default....``.

        Args:
            adapter: which change is trained; None to train the networks themselves.
            names: attributes of this module. Names of layers are those within the network; of several networks, each
                begins with its network's.

        Raises:
            UserError: for an adapter that does not fit.
        """
        self.adapter, self._adaptable = adapter, names
        if adapter is not None:
            self.refuse_lazy(*names)
            self.attached = Attached(adapter, self.adaptable())

    def adaptable(self, weights: Weights = "raw") -> nn.Module:
        """The network that an adapter is for; of several, a module that holds them by name."""
        networks = {name: self.weighted(name, weights) for name in self._adaptable}
        return next(iter(networks.values())) if len(networks) == 1 else nn.ModuleDict(networks)

    def begin_adapter(self, begun: bool, steps: int) -> None:
        """Fill the networks with the weights that the adapter changes, and prepare it for a fit.

        Args:
            begun: whether an earlier fit has filled them.
            steps: the trainer's ``max_steps``, -1 if it is not set.

        Raises:
            UserError: if they do not fit.
        """
        if self.adapter is None or self.attached is None:
            return
        if self.adapter.base is not None and not begun:
            networks = {name: getattr(self, name) for name in self._adaptable}
            averages = {name: getattr(self, f"ema_{name}", None) for name in networks}
            self.begun_with(begin_with(BASE, self.adapter.base, networks, averages))
            self.adapter.begin(self)
        self.adapter.check(self)
        self.adapter.prepare(self.attached.changes, steps)

    def plain(self, network: nn.Module) -> nn.Module:
        """A network without an adapter: itself, or a copy in which the adapter is part of the weights.

        Raises:
            UserError: for a weight that the network uses elsewhere too.
        """
        if self.adapter is None:
            return network
        network = copy.deepcopy(network)
        if any(True for _ in all_adapted(network)):
            self.adapter.fold(network)
        return network
