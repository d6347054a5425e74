"""Multi-layer perceptrons, for 28x28 images as in the first GAN and for two-dimensional toy sets.

Goodfellow et al., 2014, https://arxiv.org/abs/1406.2661 (the activations here are the usual leaky ReLU, not maxout).
"""

import math
from itertools import pairwise
from typing import Literal, get_args

from torch import Tensor, nn

from lit_gen.core.options import at_least, within
from lit_gen.models.adversarial.heads import LabelHead
from lit_gen.models.adversarial.losses import Logits
from lit_gen.models.nn.conditioning import classes_of, one_hot_size, with_labels
from lit_gen.models.nn.normalization import apply_spectral_norm

__all__ = ["Discriminator", "Generator"]

GeneratorConditioning = Literal["none", "concat"]
DiscriminatorConditioning = Literal["none", "concat", "projection", "auxiliary"]


def _stack(sizes: list[int], dropout: float = 0.0) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.LeakyReLU(0.2)] + ([nn.Dropout(dropout)] if dropout else [])
    return layers


class Generator(nn.Module):
    """Latents to images or points.

    Args:
        shape: sample shape (C, H, W); taken from the data set by the command line. Points are (2, 1, 1).
        latent_dim: dimension of the latent z, drawn from N(0, I).
        width: units of each hidden layer.
        depth: number of hidden layers.
        bounded: end with tanh, so that samples lie in [-1, 1]; None: for images yes, for points (H = W = 1) no.
        conditioning: how labels enter, "none" or "concat": the one-hot label beside z (Mirza and Osindero,
            2014, https://arxiv.org/abs/1411.1784).
        num_classes: classes of the labels; taken from the data set by the command line.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int = 64,
        width: int = 256,
        depth: int = 3,
        bounded: bool | None = None,
        conditioning: GeneratorConditioning = "none",
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        at_least(1, "generator.", latent_dim=latent_dim, width=width, depth=depth)
        self.shape, self.latent_dim, self.width, self.depth = tuple(shape), latent_dim, width, depth
        self.bounded, self.conditioning = bounded, conditioning
        self.num_classes = classes_of("generator", conditioning, get_args(GeneratorConditioning), num_classes)
        ends_in_tanh = tuple(shape[1:]) != (1, 1) if bounded is None else bounded
        self.layers = nn.Sequential(
            *_stack([latent_dim + one_hot_size(self)] + [width] * depth),
            nn.Linear(width, math.prod(shape)),
            nn.Tanh() if ends_in_tanh else nn.Identity(),
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (B, latent_dim), and labels (B,) if conditional, to samples (B, C, H, W)."""
        samples: Tensor = self.layers(with_labels(z, labels, self)).unflatten(1, self.shape)
        return samples


class Discriminator(nn.Module):
    """Images or points to logits.

    Args:
        shape: sample shape (C, H, W); taken from the data set by the command line.
        width: units of each hidden layer.
        depth: number of hidden layers.
        dropout: share of hidden units dropped in training, in [0, 1), as in the first GAN; 0 for none.
        conditioning: how labels enter, "none" or "concat": the one-hot label beside the sample (Mirza and
            Osindero, 2014, https://arxiv.org/abs/1411.1784); "projection" or "auxiliary": see `LabelHead`.
        num_classes: classes of the labels; taken from the data set by the command line.
        spectral_norm: divide all weights by their largest singular value.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int = 256,
        depth: int = 3,
        dropout: float = 0.0,
        conditioning: DiscriminatorConditioning = "none",
        num_classes: int | None = None,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        at_least(1, "discriminator.", width=width, depth=depth)
        within("[0, 1)", "discriminator.", dropout=dropout)
        self.shape, self.width, self.depth, self.dropout = tuple(shape), width, depth, dropout
        self.conditioning, self.spectral_norm = conditioning, spectral_norm
        self.num_classes = classes_of("discriminator", conditioning, get_args(DiscriminatorConditioning), num_classes)
        inputs = math.prod(shape) + one_hot_size(self)
        self.layers = nn.Sequential(*_stack([inputs] + [width] * depth, dropout), nn.Linear(width, 1))
        self.head = LabelHead(conditioning, width, self.num_classes)
        if spectral_norm:
            apply_spectral_norm(self)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor | Logits:
        """Samples (B, C, H, W), and labels (B,) if conditional, to logits (B,), or `Logits`."""
        features, (*hidden, last) = with_labels(x.flatten(1), labels, self), self.layers
        for layer in hidden:  # a slice of layers would be a new module each time
            features = layer(features)
        out: Tensor | Logits = self.head(last(features).squeeze(1), features, labels)
        return out
