"""Multi-layer perceptrons, for images of any shape and for points of toy sets.

The classics: 784-400-z with ReLU is ``width: 400, depth: 1`` (Kingma and Welling, 2014,
https://arxiv.org/abs/1312.6114, have 500 tanh); 784-200-200-z with tanh (Burda et al., 2016,
https://arxiv.org/abs/1509.00519) is ``width: 200, depth: 2, activation: tanh``. ``depth: 0`` is linear: with a Gaussian
likelihood, probabilistic PCA.
"""

import math
from itertools import pairwise
from typing import ClassVar, Literal, get_args

from torch import Tensor, nn

from lit_gen.models.nn.conditioning import classes_of, one_hot_size, with_labels
from lit_gen.models.vae.layers import (
    ACTIVATIONS,
    Activation,
    Buildable,
    Conditioning,
    check_options,
    initialize,
    layers_of,
    unbuilt,
)

__all__ = ["Decoder", "Encoder"]


def _stack(sizes: list[int], activation: Activation) -> nn.Sequential:
    """Linear layers with activations between them, none at the end."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1]).apply(initialize)


class _Network(Buildable):
    """The constructor of encoder and decoder, which are one another's mirror image.

    Args:
        shape: sample shape (C, H, W); taken from the data set by the command line. Points are (2, 1, 1).
        width: units of each hidden layer.
        depth: number of hidden layers; 0 for a linear map.
        activation: "relu", "tanh" or "silu".
        conditioning: "none"; "concat": the one-hot label beside the sample; in the decoder beside the latent.
        num_classes: classes of the labels; taken from the data set by the command line.

    Raises:
        UserError: for an option out of range, or a conditioning without labels.
    """

    side: ClassVar[Literal["encoder", "decoder"]]

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int = 400,
        depth: int = 1,
        activation: Activation = "relu",
        conditioning: Conditioning = "none",
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        name = f"model.{self.side}"
        check_options(name, width, depth, activation)
        self.shape, self.width, self.depth, self.activation = tuple(shape), width, depth, activation
        self.conditioning = conditioning
        self.num_classes = classes_of(name, conditioning, get_args(Conditioning), num_classes)
        self.layers: nn.Sequential | None = None


class Encoder(_Network):
    """Images or points to features, from which the bottleneck makes latents."""

    side = "encoder"

    def build(self, features: int) -> None:
        """Make the layers; see `layers.connect`."""
        if unbuilt(self, self.side, features=features):
            inputs = math.prod(self.shape) + one_hot_size(self)
            self.layers = _stack([inputs, *[self.width] * self.depth, features], self.activation)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Samples (B, C, H, W), and labels (B,) if conditional, to features (B, F)."""
        features: Tensor = layers_of(self)(with_labels(x.flatten(1), labels, self))
        return features


class Decoder(_Network):
    """Latents to outputs, from which the likelihood makes a distribution; the encoder's mirror image."""

    side = "decoder"

    def build(self, latent_dim: int, channels: int) -> None:
        """Make the layers; see `layers.connect`."""
        if unbuilt(self, self.side, latent_dim=latent_dim, channels=channels):
            inputs, outputs = latent_dim + one_hot_size(self), channels * math.prod(self.shape[1:])
            self.layers = _stack([inputs, *[self.width] * self.depth, outputs], self.activation)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (B, latent_dim), and labels (B,) if conditional, to outputs (B, channels, H, W)."""
        outputs: Tensor = layers_of(self)(with_labels(z, labels, self))
        images: Tensor = outputs.unflatten(1, (-1, *self.shape[1:]))
        return images
