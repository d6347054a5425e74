"""Bottleneck adapters: a small network after each of some layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gen.core.options import at_least, one_of
from lit_gen.training.adapters.adapter import Adapter
from lit_gen.training.adapters.change import Change

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


@dataclass
class Bottleneck(Adapter):
    """A frozen network with small trained networks after some layers: h + W_up act(W_down h + b) + c.

    Houlsby et al., 2019, https://arxiv.org/abs/1902.00751: after the last layer of each attention and of each
    feed-forward part, before it is added to what it skips: ``[proj, down]`` of
    `lit_gen.models.lm.transformer.Transformer`. Pfeiffer et al., 2021, https://arxiv.org/abs/2005.00247: after the
    feed-forward part alone, ``[down]``. W_up, b and c are zero at first, so that nothing is changed; W_down is normal
    with standard deviation 0.01, as Houlsby's.

    It is no change of weights: it cannot be merged, exported or written as peft's files.

    Args:
        target_modules: the layers that it comes after, linear, two-dimensional convolutions (at each pixel) and
            embeddings: a list of names or ends of names, a regular expression for whole names, or ``all-linear``.
        size: how many numbers are between W_down and W_up, at least 1.
        activation: gelu, relu, silu or tanh.
        modules_to_save: names or ends of names of modules that are trained whole, such as a new head.
        base: a run directory or a checkpoint of the same family, with whose weights a fit begins, the averaged ones if
            it kept an average; null: those that the networks are built with.

    Raises:
        UserError: for a size or an activation that there is not.
    """

    mergeable: ClassVar[bool] = False

    target_modules: list[str] | str
    size: int = 64
    activation: str = "gelu"
    modules_to_save: list[str] | None = None
    base: str | None = None

    def __post_init__(self) -> None:
        at_least(1, "model.adapter.", size=self.size)
        one_of(ACTIVATIONS, "model.adapter.", activation=self.activation)

    def change(self, layer: nn.Module) -> "Between":
        """The change of a layer, which does nothing yet."""
        return Between(layer, self.size, self.activation)


class Between(Change):
    """The small network after one layer, on the channels of its output.

    Args:
        layer: the layer; it is not kept.
        size: how many numbers are in between.
        activation: a name of `ACTIVATIONS`.
    """

    def __init__(self, layer: nn.Module, size: int, activation: str) -> None:
        super().__init__()
        weight: Tensor = layer.weight  # type: ignore[assignment]
        width = weight.shape[1] if isinstance(layer, nn.Embedding) else weight.shape[0]
        half = weight.dtype in (torch.float16, torch.bfloat16)  # small updates would be rounded away
        made: dict[str, Any] = {"dtype": torch.float32 if half else weight.dtype, "device": weight.device}
        self.activation, self.last = activation, not isinstance(layer, nn.Conv2d)
        self.down_weight = nn.Parameter(nn.init.normal_(torch.empty(size, width, **made), std=0.01))
        self.down_bias = nn.Parameter(torch.zeros(size, **made))
        self.up_weight = nn.Parameter(torch.zeros(width, size, **made))
        self.up_bias = nn.Parameter(torch.zeros(width, **made))

    def forward(self, layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """See `Change`."""
        h = (y if self.last else y.movedim(-3, -1)).to(self.down_weight.dtype)
        low = ACTIVATIONS[self.activation](F.linear(h, self.down_weight, self.down_bias))
        change = F.linear(low, self.up_weight, self.up_bias)
        return y + (change if self.last else change.movedim(-1, -3)).to(y.dtype)
