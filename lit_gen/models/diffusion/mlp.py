"""A multi-layer perceptron for points of toy sets, and for small images."""

import math
from typing import get_args

import torch.nn.functional as F
from torch import Tensor, nn

from lit_gen.core.options import at_least
from lit_gen.models.diffusion.embedding import Conditioning, Embedding
from lit_gen.models.nn.conditioning import classes_of, needed

__all__ = ["MLP"]


class Block(nn.Module):
    """x + second(silu(first(x) + shift)), where the shift is linear in the vector of level and class."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.shift = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """Both (B, width), to (B, width)."""
        out: Tensor = x + self.second(F.silu(self.first(x) + self.shift(embedded)))
        return out


class MLP(nn.Module):
    """Noisy points or images, noise levels and labels to what the parametrization asks for; begins as zero.

    Args:
        shape: sample shape (C, H, W); taken from the data set by the command line. Points are (2, 1, 1).
        num_classes: classes of the labels; taken from the data set by the command line.
        conditioning: "none"; "embedding": the network is told the label, of which ``num_classes`` is "no label".
        width: units of each hidden layer.
        depth: residual blocks, of two layers each.

    Raises:
        UserError: for an option out of range, or a conditioning without labels.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int | None = None,
        conditioning: Conditioning = "none",
        width: int = 128,
        depth: int = 3,
    ) -> None:
        super().__init__()
        at_least(1, "model.network.", width=width, depth=depth)
        self.shape, self.width, self.depth, self.conditioning = tuple(shape), width, depth, conditioning
        self.num_classes = classes_of("model.network", conditioning, get_args(Conditioning), num_classes)
        numbers = math.prod(shape)
        self.first, self.embedding = nn.Linear(numbers, width), Embedding(width, self.num_classes)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.last = nn.Linear(width, numbers)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, level: Tensor, labels: Tensor | None = None) -> Tensor:
        """Samples (B, C, H, W), levels (B,), and labels (B,) if conditional, to (B, C, H, W).

        Raises:
            UserError: if a conditional network gets no labels.
        """
        embedded = self.embedding(level, None if self.num_classes is None else needed(labels, self))
        h = self.first(x.flatten(1))
        for block in self.blocks:
            h = block(h, embedded)
        out: Tensor = self.last(F.silu(h))
        return out.view(x.shape)
