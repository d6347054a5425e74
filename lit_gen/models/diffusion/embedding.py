"""What a diffusion model's network is told beside the noisy images: the noise level, and the class."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Conditioning = Literal["none", "embedding"]
"""Whether a network is told the class: "none"; "embedding": a learned vector of it is added to that of the level."""

SLOWEST, FASTEST = 0.5, 128.0
"""Radians that the angles of `fourier` turn by in one unit of the level."""


def fourier(level: Tensor, features: int) -> Tensor:
    """Cosines and sines of the noise level (B,): (B, features), at least in float32.

    The angles are level * w, with w in a geometric sequence, as of the positions of a text: Vaswani et al., 2017,
    https://arxiv.org/abs/1706.03762; of noise levels first in DDPM (Ho et al., 2020, https://arxiv.org/abs/2006.11239).
    There the level is a step of 0 to 999. Here it is t / T in [0, 1], or ln(sigma) / 4, which is in about [-1.6, 1.1]
    (EDM: Karras et al., 2022, https://arxiv.org/abs/2206.00364). Over both, the slowest sine is monotonic, so that no
    two levels look alike; the fastest turns a twentieth of a unit into a full circle.

    Args:
        level: noise levels (B,).
        features: how many, an even number.
    """
    level = level.to(torch.promote_types(level.dtype, torch.float32))
    place = torch.linspace(0, 1, features // 2, dtype=level.dtype, device=level.device)
    angles = level[:, None] * (SLOWEST * (FASTEST / SLOWEST) ** place)
    return torch.cat([angles.cos(), angles.sin()], 1)


class Embedding(nn.Module):
    """Noise level and class as one vector, from which each block's scales and shifts are made.

    silu(MLP(fourier(level)) + table[label]), as in ADM (Dhariwal and Nichol, 2021, https://arxiv.org/abs/2105.05233).
    The table has a row more than there are classes: label ``num_classes`` is "no label", which classifier-free guidance
    needs (Ho and Salimans, 2022, https://arxiv.org/abs/2207.12598).

    Args:
        width: numbers of the vector.
        num_classes: classes, or None.
        features: of the level, for the MLP.
    """

    def __init__(self, width: int, num_classes: int | None = None, features: int = 64) -> None:
        super().__init__()
        self.features = features
        self.layers = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))
        self.table = None if num_classes is None else nn.Embedding(num_classes + 1, width)

    def forward(self, level: Tensor, labels: Tensor | None) -> Tensor:
        """Levels (B,), and int64 labels (B,) where there are classes, to (B, width)."""
        found: Tensor = self.layers(fourier(level, self.features).to(next(self.parameters()).dtype))
        if self.table is not None:
            assert labels is not None
            found = found + self.table(labels)
        return F.silu(found)


def sin_cos(rows: int, columns: int, width: int, like: Tensor) -> Tensor:
    """Fixed positions of a grid's tokens, in row order: (rows * columns, width), on the device of ``like``.

    The first half of a vector tells the column x, the second the row y, each by sin(p w) and then cos(p w) with
    w = 10000^(-i / n), i = 0, ..., n - 1, n = width / 4: as in MAE (He et al., 2021, https://arxiv.org/abs/2111.06377)
    and DiT (Peebles and Xie, 2022, https://arxiv.org/abs/2212.09748).
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    n = width // 4
    w = torch.exp(-math.log(10000) / n * torch.arange(n, dtype=dtype, device=like.device))
    y, x = (torch.arange(k, dtype=dtype, device=like.device)[:, None] * w for k in (rows, columns))
    x = torch.cat([x.sin(), x.cos()], 1)[None].expand(rows, -1, -1)
    y = torch.cat([y.sin(), y.cos()], 1)[:, None].expand(-1, columns, -1)
    return torch.cat([x, y], 2).flatten(0, 1).to(like.dtype)
