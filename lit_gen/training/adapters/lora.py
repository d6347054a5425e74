"""LoRA, rsLoRA and DoRA as one option: what is adapted, and how it begins."""

import math
from dataclasses import dataclass

from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.core.options import above, at_least, within
from lit_gen.training.adapters.adapter import Adapter
from lit_gen.training.adapters.low_rank import LowRank, directed
from lit_gen.training.adapters.targets import ALL


@dataclass
class LoRA(Adapter):
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

    def change(self, layer: nn.Module) -> LowRank:
        """The change of a layer, which does nothing yet."""
        return LowRank(layer, self.r, self.scaling, self.lora_dropout, self.use_dora)

    def _check(self, layers: dict[str, nn.Module]) -> None:
        """Refuse a row of zeros, which has no direction that DoRA could keep."""
        for name, layer in layers.items():
            if self.use_dora and not directed(layer):
                told = "has a row of zeros, which has no direction; use_dora false, or target_modules without it"
                raise UserError(f"model.adapter: the weight of {name} {told} is expected")
