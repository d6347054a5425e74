"""The diffusion transformer: Peebles and Xie, 2022, https://arxiv.org/abs/2212.09748."""

from typing import get_args

import torch.nn.functional as F
from torch import Tensor, nn

from lit_gen.core.options import at_least, expect
from lit_gen.models.diffusion.embedding import Conditioning, Embedding, sin_cos
from lit_gen.models.diffusion.unet import check_patch
from lit_gen.models.nn.conditioning import classes_of, needed

__all__ = ["DiT"]


def _norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm of tokens (B, T, width), then times 1 + scale, plus shift, both (B, width)."""
    h = F.layer_norm(x, x.shape[-1:], eps=1e-6)
    return h * (1 + scale[:, None]) + shift[:, None]


def _modulation(width: int, count: int) -> nn.Linear:
    """From level and class to ``count`` vectors, zero at first."""
    layer = nn.Linear(width, count * width)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """Attention and MLP, each with adaLN-zero: x + gate * layer(norm(x) * (1 + scale) + shift); begins as x.

    Args:
        width: numbers of a token.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = _linear(width, 3 * width), _linear(width, width)
        self.mlp = nn.Sequential(_linear(width, 4 * width), nn.GELU(approximate="tanh"), _linear(4 * width, width))
        self.modulation = _modulation(width, 6)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """Tokens (B, T, width) and vectors (B, width) to tokens."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(embedded).chunk(6, 1)
        x = x + gate1[:, None] * self._attend(_norm(x, shift1, scale1))
        out: Tensor = x + gate2[:, None] * self.mlp(_norm(x, shift2, scale2))
        return out

    def _attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, T, D)
        h = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(h.transpose(1, 2).flatten(2))
        return out


class DiT(nn.Module):
    """Noisy images, noise levels and labels to what the parametrization asks for; begins as zero.

    Patches become tokens, with fixed positions; each block is told level and class by adaLN-zero.

    Args:
        shape: image shape (C, H, W); taken from the data set by the command line. ``patch`` divides H and W.
        num_classes: classes of the labels; taken from the data set by the command line.
        conditioning: "none"; "embedding": the network is told the label, of which ``num_classes`` is "no label".
        patch: pixels of patch x patch make a token.
        width: numbers of a token, a multiple of 4.
        depth: number of blocks.
        heads: of the attention, a divisor of ``width``.

    Raises:
        UserError: for a patch that does not divide the image, an option out of range, or a conditioning without labels.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int | None = None,
        conditioning: Conditioning = "none",
        patch: int = 2,
        width: int = 128,
        depth: int = 6,
        heads: int = 4,
    ) -> None:
        super().__init__()
        at_least(1, "model.network.", patch=patch, width=width, depth=depth, heads=heads)
        expect(width % 4 == 0, "model.network.width", width, "a multiple of 4")
        expect(width % heads == 0, "model.network.heads", heads, f"a divisor of model.network.width = {width}")
        check_patch(shape, patch)
        self.shape, self.patch, self.width, self.depth, self.heads = tuple(shape), patch, width, depth, heads
        self.conditioning = conditioning
        self.num_classes = classes_of("model.network", conditioning, get_args(Conditioning), num_classes)
        numbers = shape[0] * patch**2
        self.first, self.embedding = _linear(numbers, width), Embedding(width, self.num_classes)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.modulation, self.last = _modulation(width, 2), _linear(width, numbers)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, level: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W), levels (B,), and labels (B,) if conditional, to (B, C, H, W).

        Raises:
            UserError: if a conditional network gets no labels.
        """
        embedded = self.embedding(level, None if self.num_classes is None else needed(labels, self))
        rows, columns = (n // self.patch for n in self.shape[1:])
        h = self.first(F.pixel_unshuffle(x, self.patch).flatten(2).mT)  # (B, rows * columns, width)
        h = h + sin_cos(rows, columns, self.width, like=h)
        for block in self.blocks:
            h = block(h, embedded)
        shift, scale = self.modulation(embedded).chunk(2, 1)
        out: Tensor = self.last(_norm(h, shift, scale))
        return F.pixel_shuffle(out.mT.unflatten(2, (rows, columns)), self.patch)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer as in the paper's code: uniform weights of Glorot and Bengio, bias zero."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
