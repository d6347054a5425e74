"""Convolutional networks for images of 28, 32 and 64 pixels: strided convolutions, and residual blocks between them.

No normalization: an image's terms of the bound depend only on that image. Feature maps double with each halving of the
resolution, from ``width`` in the first layer: 28 pixels become 7x7 (two halvings), 32 and 64 become 4x4 (three and
four). The decoder is the encoder's mirror image.
"""

from typing import ClassVar, Literal, get_args

from torch import Tensor, nn

from lit_gen.models.nn.conditioning import classes_of, one_hot_size, with_labels
from lit_gen.models.nn.resolution import doublings
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


class Block(nn.Module):
    """x + conv3(act(conv3(act(x)))); He et al., 2016, https://arxiv.org/abs/1603.05027, without normalization.

    Args:
        maps: maps in and out.
        activation: its name.
    """

    def __init__(self, maps: int, activation: Activation) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        convolutions = [nn.Conv2d(maps, maps, 3, padding=1) for _ in range(2)]
        self.layers = nn.Sequential(act(), convolutions[0], act(), convolutions[1])

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, maps, H, W) to the same shape."""
        out: Tensor = x + self.layers(x)
        return out


class _Network(Buildable):
    """The constructor of encoder and decoder, which are one another's mirror image.

    Args:
        shape: image shape (C, H, W); taken from the data set by the command line.
        width: feature maps next to the image: of the encoder's first layer, of the decoder's last hidden layer.
        depth: residual blocks at each resolution.
        activation: "relu", "tanh" or "silu".
        conditioning: "none"; "concat": one-hot label maps beside the image; in the decoder the label beside the latent.
        num_classes: classes of the labels; taken from the data set by the command line.

    Raises:
        UserError: for a size other than 28, 32 or 64, an option out of range, or a conditioning without labels.
    """

    side: ClassVar[Literal["encoder", "decoder"]]

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int = 32,
        depth: int = 0,
        activation: Activation = "relu",
        conditioning: Conditioning = "none",
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        name = f"model.{self.side}"
        check_options(name, width, depth, activation)
        self.halvings = doublings(name, shape, width)
        self.shape, self.width, self.depth, self.activation = tuple(shape), width, depth, activation
        self.conditioning = conditioning
        self.num_classes = classes_of(name, conditioning, get_args(Conditioning), num_classes)
        self.layers: nn.Sequential | None = None


class Encoder(_Network):
    """Images to features, from which the bottleneck makes latents."""

    side = "encoder"

    def build(self, features: int) -> None:
        """Make the layers; see `layers.connect`."""
        if not unbuilt(self, self.side, features=features):
            return
        inputs = self.shape[0] + one_hot_size(self)
        layers: list[nn.Module] = []
        for step in range(self.halvings):
            maps = self.width << step
            layers += [nn.Conv2d(inputs, maps, 4, stride=2, padding=1)]
            layers += [Block(maps, self.activation) for _ in range(self.depth)]
            layers += [ACTIVATIONS[self.activation]()]
            inputs = maps
        side = self.shape[1] >> self.halvings
        layers += [nn.Flatten(), nn.Linear(inputs * side * side, features)]
        self.layers = nn.Sequential(*layers).apply(initialize)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W), and labels (B,) if conditional, to features (B, F)."""
        features: Tensor = layers_of(self)(with_labels(x, labels, self))
        return features


class Decoder(_Network):
    """Latents to outputs, from which the likelihood makes a distribution."""

    side = "decoder"

    def build(self, latent_dim: int, channels: int) -> None:
        """Make the layers; see `layers.connect`."""
        if not unbuilt(self, self.side, latent_dim=latent_dim, channels=channels):
            return
        side, maps = self.shape[1] >> self.halvings, self.width << (self.halvings - 1)
        inputs = latent_dim + one_hot_size(self)
        layers: list[nn.Module] = [nn.Linear(inputs, maps * side * side), nn.Unflatten(1, (maps, side, side))]
        for step in reversed(range(self.halvings)):
            layers += [Block(maps, self.activation) for _ in range(self.depth)]
            layers += [ACTIVATIONS[self.activation]()]
            outputs = self.width << (step - 1) if step else channels
            layers += [nn.ConvTranspose2d(maps, outputs, 4, stride=2, padding=1)]
            maps = outputs
        self.layers = nn.Sequential(*layers).apply(initialize)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (B, latent_dim), and labels (B,) if conditional, to outputs (B, channels, H, W)."""
        outputs: Tensor = layers_of(self)(with_labels(z, labels, self))
        return outputs
