"""The U-Net of diffusion models, with the residual blocks of ADM as EDM has them, but smaller.

Ronneberger et al., 2015, https://arxiv.org/abs/1505.04597 (the shape); Ho et al., 2020, https://arxiv.org/abs/2006.11239
(for diffusion); ADM: Dhariwal and Nichol, 2021, https://arxiv.org/abs/2105.05233; EDM: Karras et al., 2022,
https://arxiv.org/abs/2206.00364. Smaller: as many blocks on the way up as on the way down, one in the middle, and
between blocks the resolution changes by the mean of 2x2 pixels and by repetition, which is EDM's filter.
"""

from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gen.core.options import at_least, expect, within
from lit_gen.models.diffusion.embedding import Conditioning, Embedding
from lit_gen.models.nn.conditioning import classes_of, needed

__all__ = ["UNet"]


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer, with weights and bias at zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def group_norm(maps: int) -> nn.GroupNorm:
    """Group norm (Wu and He, 2018, https://arxiv.org/abs/1803.08494): at most 32 groups, each of at least 4 maps."""
    groups = [n for n in range(2, 33) if maps % n == 0 and maps // n >= 4]
    return nn.GroupNorm(max(groups, default=1), maps)


class Attention(nn.Module):
    """x + attention over all pixels of norm(x): Wang et al., 2018, https://arxiv.org/abs/1711.07971; begins as x."""

    def __init__(self, maps: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.out = group_norm(maps), nn.Conv2d(maps, 3 * maps, 1), zeroed(nn.Conv2d(maps, maps, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        qkv = self.qkv(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1))  # (B, 3, heads, D, HW)
        q, k, v = qkv.mT.unbind(1)
        h = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = x + self.out(h.mT.reshape(x.shape))
        return out


class Block(nn.Module):
    """skip(x) + conv(silu(norm(conv(silu(norm(x)))) * (1 + scale) + shift)); scale, shift of level and class.

    The second convolution begins at zero.

    Args:
        inputs: maps in.
        maps: maps out.
        embedding: numbers of the vector of level and class.
        dropout: share of the maps' values that are dropped before the second convolution.
        heads: of the attention that follows; 0 for none.
    """

    def __init__(self, inputs: int, maps: int, embedding: int, dropout: float, heads: int) -> None:
        super().__init__()
        self.norm0, self.conv0 = group_norm(inputs), nn.Conv2d(inputs, maps, 3, padding=1)
        self.norm1, self.conv1 = group_norm(maps), zeroed(nn.Conv2d(maps, maps, 3, padding=1))
        self.affine = nn.Linear(embedding, 2 * maps)
        self.skip = nn.Identity() if inputs == maps else nn.Conv2d(inputs, maps, 1)
        self.dropout = nn.Dropout(dropout)
        self.attention = Attention(maps, heads) if heads else nn.Identity()

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) and vectors (B, embedding) to maps (B, maps, H, W)."""
        scale, shift = self.affine(embedded)[:, :, None, None].chunk(2, 1)
        h = self.conv0(F.silu(self.norm0(x)))
        h = F.silu(self.norm1(h) * (1 + scale) + shift)
        h = self.skip(x) + self.conv1(self.dropout(h))
        out: Tensor = self.attention(h)
        return out


class UNet(nn.Module):
    """Noisy images, noise levels and labels to what the parametrization asks for; begins as zero.

    Args:
        shape: image shape (C, H, W); taken from the data set by the command line. H / patch and W / patch are multiples
            of 2^(len(multipliers) - 1).
        num_classes: classes of the labels; taken from the data set by the command line.
        conditioning: "none"; "embedding": the network is told the label, of which ``num_classes`` is "no label".
        width: feature maps, times ``multipliers``.
        multipliers: of the width, one for each resolution, the finest first.
        blocks: at each resolution, on the way down and on the way up.
        attention: the resolutions, counted from 0, whose blocks end in self-attention.
        heads: of the attention.
        patch: pixels of patch x patch become channels at the beginning, and pixels again at the end: a factor patch^2
            less work (Shi et al., 2016, https://arxiv.org/abs/1609.05158; Hoogeboom et al., 2023,
            https://arxiv.org/abs/2301.11093, find it as good on large images).
        dropout: in the blocks.

    Raises:
        UserError: for a side that cannot be divided so, an option out of range, or a conditioning without labels.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int | None = None,
        conditioning: Conditioning = "none",
        width: int = 32,
        multipliers: tuple[int, ...] = (1, 2),
        blocks: int = 1,
        attention: tuple[int, ...] = (),
        heads: int = 1,
        patch: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.shape, self.width, self.multipliers, self.blocks = tuple(shape), width, tuple(multipliers), blocks
        self.attention, self.heads, self.patch, self.dropout = tuple(attention), heads, patch, dropout
        _check(self)
        self.conditioning = conditioning
        self.num_classes = classes_of("model.network", conditioning, get_args(Conditioning), num_classes)
        maps, channels, embedding = [m * width for m in multipliers], shape[0] * patch**2, 4 * width
        self.embedding = Embedding(embedding, self.num_classes)
        of: list[dict[str, Any]] = [
            {"embedding": embedding, "dropout": dropout, "heads": heads if i in attention else 0}
            for i in range(len(maps))
        ]
        self.first = nn.Conv2d(channels, maps[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()  # one list of blocks for each resolution, finest first
        inputs = maps[0]
        for i, m in enumerate(maps):
            self.down.append(_blocks([inputs] + [m] * (blocks - 1), m, of[i]))
            inputs = m
        self.middle = Block(maps[-1], maps[-1], **of[-1])
        for i, m in enumerate(maps):
            below = maps[min(i + 1, len(maps) - 1)]
            self.up.append(_blocks([below + m] + [2 * m] * (blocks - 1), m, of[i]))
        self.norm, self.last = group_norm(maps[0]), zeroed(nn.Conv2d(maps[0], channels, 3, padding=1))

    def forward(self, x: Tensor, level: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W), levels (B,), and labels (B,) if conditional, to (B, C, H, W).

        Raises:
            UserError: if a conditional network gets no labels.
        """
        embedded = self.embedding(level, None if self.num_classes is None else needed(labels, self))
        h = self.first(F.pixel_unshuffle(x, self.patch))
        down: list[Any] = list(self.down)
        up: list[Any] = list(self.up)
        skips: list[Tensor] = []
        for i, blocks in enumerate(down):
            h = F.avg_pool2d(h, 2) if i else h
            for block in blocks:
                h = block(h, embedded)
                skips.append(h)
        h = self.middle(h, embedded)
        for i in reversed(range(len(up))):
            for block in up[i]:
                h = block(torch.cat([h, skips.pop()], 1), embedded)
            h = F.interpolate(h, scale_factor=2, mode="nearest") if i else h
        out: Tensor = self.last(F.silu(self.norm(h)))
        return F.pixel_shuffle(out, self.patch)


def _blocks(inputs: list[int], maps: int, options: dict[str, Any]) -> nn.ModuleList:
    return nn.ModuleList(Block(n, maps, **options) for n in inputs)


def _check(of: UNet) -> None:
    """Refuse options out of range."""
    name, count = "model.network.", len(of.multipliers)
    at_least(1, name, width=of.width, multipliers=min(of.multipliers, default=0), blocks=of.blocks)
    at_least(1, name, heads=of.heads, patch=of.patch)
    within("[0, 1)", name, dropout=of.dropout)
    known = all(0 <= i < count for i in of.attention)
    places = f"some of 0 to {count - 1}, the places of model.network.multipliers,"
    expect(known, f"{name}attention", of.attention, places)
    for i in of.attention:
        maps = of.width * of.multipliers[i]
        expect(maps % of.heads == 0, f"{name}heads", of.heads, f"a divisor of the {maps} maps at resolution {i}")
    check_patch(of.shape, of.patch)
    _, height, breadth = of.shape
    most, sides = 1, [height // of.patch, breadth // of.patch]
    while all(n % 2**most == 0 for n in sides):
        most += 1
    patches = f", {sides[0]}x{sides[1]} of patches of {of.patch}," if of.patch > 1 else ""
    expected = f"at most {most} for images of {height}x{breadth}{patches} since each further one halves both sides"
    expect(count <= most, f"{name}multipliers", of.multipliers, expected)


def check_patch(shape: tuple[int, ...], patch: int) -> None:
    """Refuse patches that do not divide the image (C, H, W).

    Raises:
        UserError: with those that do.
    """
    _, height, breadth = shape
    good = [n for n in range(1, min(height, breadth) + 1) if height % n == breadth % n == 0]
    expected = f"one of {', '.join(map(str, good))} for images of {height}x{breadth}"
    expect(patch in good, "model.network.patch", patch, expected)
