"""What a module with the option ``finetune`` does at each point of a run."""

from collections.abc import Callable, Iterable
from typing import Any, Self

import torch
from torch import nn

from lit_gen.training.finetune import FineTune, Networks
from lit_gen.training.optimizers import made


class FineTuned(nn.Module):
    """The part of `lit_gen.training.module.TrainingModule` that `lit_gen.training.finetune.FineTune` needs.

    Attributes:
        finetune: whose weights a fit begins with, what is frozen, rates of single parameters; None for none of it.
    """

    finetune: FineTune | None = None
    adapter: Any = None
    refuse_lazy: Callable[..., None]
    begun_with: Callable[[dict[str, Any]], None]
    _tuned: tuple[str, ...] = ()  # names of the networks that it is about

    def keep_finetune(self, finetune: FineTune | None, *names: str) -> None:
        """Freeze what is to be frozen; call it in the constructor, after `keep_adapter` and before `keep_average`.

        Args:
            finetune: how; None to train all parameters alike, from the weights that the networks are built with.
            names: attributes of this module: its networks, those without an average too.

        Raises:
            UserError: for a pattern that matches nothing.
        """
        self.finetune = finetune
        if finetune is not None:
            self.refuse_lazy(*names)
            self._tuned = names
            finetune.apply(self._networks(), self.adapter)

    def begin_finetune(self) -> None:
        """Fill the networks with the weights that a run begins with; not called where it goes on.

        Raises:
            UserError: if they do not fit.
        """
        content = None if self.finetune is None else self.finetune.begin(self, self._networks())
        if content is not None:
            self.begun_with(content)
            if self.adapter is not None:
                self.adapter.begin(self)

    def make_optimizer(self, option: str, make: Callable[[Any], Any], parameters: Any) -> torch.optim.Optimizer:
        """Make an optimizer, with the learning rates of `finetune`.

        Args:
            option: its name.
            make: from parameters.
            parameters: or groups of them.

        Raises:
            UserError: if it cannot be made.
        """
        if self.finetune is None:
            return made(option, make, parameters)
        return self.finetune.make(option, make, parameters, self._networks())

    def trained(self, parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        """Those that are trained: with an adapter or fine-tuning, what is not frozen."""
        changed = self.adapter is not None or self.finetune is not None
        return [p for p in parameters if p.requires_grad or not changed]

    def keep_still(self) -> None:
        """Keep the statistics of what is frozen from moving."""
        if self.finetune is not None:
            self.finetune.keep_still(self._networks())

    def train(self, mode: bool = True) -> Self:
        """Switch the mode of everything except what is frozen."""
        super().train(mode)
        if mode:
            self.keep_still()
        return self

    def _networks(self) -> Networks:
        return {name: getattr(self, name) for name in self._tuned}
