"""Multi-layer perceptrons, for 28x28 images as in the first GAN and for two-dimensional toy sets.

Goodfellow et al., 2014, https://arxiv.org/abs/1406.2661 (the activations here are the usual leaky ReLU, not maxout).
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from lit_gen.errors import UserError

__all__ = ["Discriminator", "Generator"]


def _stack(sizes: list[int], dropout: float = 0.0) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.LeakyReLU(0.2)] + ([nn.Dropout(dropout)] if dropout else [])
    return layers


def _check(name: str, **values: int) -> None:
    for option, value in values.items():
        if value < 1:
            raise UserError(f"{name}.{option}: {value} was found, a whole number of at least 1 is expected")


class Generator(nn.Module):
    """Latents to images or points.

    Args:
        shape: sample shape (C, H, W); taken from the data set by the command line. Points are (2, 1, 1).
        latent_dim: dimension of the latent z, drawn from N(0, I).
        width: units of each hidden layer.
        depth: number of hidden layers.
        bounded: end with tanh, so that samples lie in [-1, 1]; None: for images yes, for points (H = W = 1) no.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int = 64,
        width: int = 256,
        depth: int = 3,
        bounded: bool | None = None,
    ) -> None:
        super().__init__()
        _check("generator", latent_dim=latent_dim, width=width, depth=depth)
        self.shape, self.latent_dim, self.width, self.depth, self.bounded = (
            tuple(shape),
            latent_dim,
            width,
            depth,
            bounded,
        )
        ends_in_tanh = tuple(shape[1:]) != (1, 1) if bounded is None else bounded
        self.layers = nn.Sequential(
            *_stack([latent_dim] + [width] * depth),
            nn.Linear(width, math.prod(shape)),
            nn.Tanh() if ends_in_tanh else nn.Identity(),
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (B, latent_dim) to samples (B, C, H, W); labels are not used."""
        samples: Tensor = self.layers(z).unflatten(1, self.shape)
        return samples


class Discriminator(nn.Module):
    """Images or points to logits.

    Args:
        shape: sample shape (C, H, W); taken from the data set by the command line.
        width: units of each hidden layer.
        depth: number of hidden layers.
        dropout: share of hidden units dropped in training, in [0, 1), as in the first GAN; 0 for none.
    """

    def __init__(self, shape: tuple[int, int, int], width: int = 256, depth: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        _check("discriminator", width=width, depth=depth)
        if not 0 <= dropout < 1:
            raise UserError(f"discriminator.dropout: {dropout} was found, a number in [0, 1) is expected")
        self.shape, self.width, self.depth, self.dropout = tuple(shape), width, depth, dropout
        self.layers = nn.Sequential(*_stack([math.prod(shape)] + [width] * depth, dropout), nn.Linear(width, 1))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Samples (B, C, H, W) to logits (B,); labels are not used."""
        logits: Tensor = self.layers(x.flatten(1))
        return torch.squeeze(logits, 1)
