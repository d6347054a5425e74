"""DCGAN: strided convolutions, batch norm, ReLU in the generator, leaky ReLU in the discriminator.

Radford et al., 2015, https://arxiv.org/abs/1511.06434. All weights start at N(0, 0.02) as there, batch-norm scales at
N(1, 0.02). Sizes are 28 (from 7x7, two doublings), 32 and 64 (from 4x4, three and four doublings); feature maps halve
with each doubling, down to ``width`` before the image.
"""

from typing import Literal, get_args

from torch import Tensor, nn

from lit_gen.models.adversarial.heads import LabelHead, MinibatchStd
from lit_gen.models.adversarial.losses import Logits
from lit_gen.models.nn.conditioning import ConditionalBatchNorm2d, classes_of, needed, one_hot_size, with_labels
from lit_gen.models.nn.normalization import apply_spectral_norm
from lit_gen.models.nn.resolution import doublings

__all__ = ["Discriminator", "Generator"]

GeneratorConditioning = Literal["none", "concat", "batch_norm"]
DiscriminatorConditioning = Literal["none", "concat", "projection", "auxiliary"]


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d) and module.affine:
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


class Generator(nn.Module):
    """Latents to images.

    Args:
        shape: image shape (C, H, W); taken from the data set by the command line.
        latent_dim: dimension of the latent z, drawn from N(0, I).
        width: feature maps of the last hidden layer.
        conditioning: how labels enter, "none" or "concat": the one-hot label beside z (Mirza and Osindero,
            2014, https://arxiv.org/abs/1411.1784); "batch_norm": gains and biases by class (`ConditionalBatchNorm2d`).
        num_classes: classes of the labels; taken from the data set by the command line.

    Raises:
        UserError: for a size other than 28, 32 or 64, or a conditioning without labels.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int = 100,
        width: int = 64,
        conditioning: GeneratorConditioning = "none",
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.latent_dim, self.width, self.conditioning = tuple(shape), latent_dim, width, conditioning
        steps = doublings("dcgan", shape, width)
        classes = classes_of("generator", conditioning, get_args(GeneratorConditioning), num_classes)
        self.num_classes = classes
        start, maps = shape[1] >> steps, width << (steps - 1)

        def norm(features: int) -> nn.Module:
            if classes is not None and conditioning == "batch_norm":
                return ConditionalBatchNorm2d(features, classes)
            return nn.BatchNorm2d(features)

        layers: list[nn.Module] = [
            nn.Linear(latent_dim + one_hot_size(self), maps * start * start, bias=False),
            nn.Unflatten(1, (maps, start, start)),
            norm(maps),
            nn.ReLU(),
        ]
        for _ in range(steps - 1):
            layers += [
                nn.ConvTranspose2d(maps, maps // 2, 4, stride=2, padding=1, bias=False),
                norm(maps // 2),
                nn.ReLU(),
            ]
            maps //= 2
        layers += [nn.ConvTranspose2d(maps, shape[0], 4, stride=2, padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(_initialize)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (B, latent_dim), and labels (B,) if conditional, to images (B, C, H, W) in [-1, 1]."""
        x = with_labels(z, labels, self)
        for layer in self.layers:
            x = layer(x, needed(labels, self)) if isinstance(layer, ConditionalBatchNorm2d) else layer(x)
        return x


class Discriminator(nn.Module):
    """Images to logits, the generator's mirror image; no batch norm in its first layer.

    Args:
        shape: image shape (C, H, W); taken from the data set by the command line.
        width: feature maps of the first layer.
        conditioning: how labels enter, "none" or "concat": one-hot label maps beside the image (Mirza and
            Osindero, 2014, https://arxiv.org/abs/1411.1784); "projection" or "auxiliary": see `LabelHead`.
        num_classes: classes of the labels; taken from the data set by the command line.
        spectral_norm: divide all weights by their largest singular value (SN-DCGAN has it instead of batch norm).
        batch_norm: batch norm after the inner convolutions, as in the paper; without it the convolutions have
            biases. A penalty on each sample's gradient (WGAN-GP) needs a discriminator without it.
        minibatch_std: append the batch's deviation to the last maps, see `MinibatchStd`.

    Raises:
        UserError: for a size other than 28, 32 or 64, or a conditioning without labels.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int = 64,
        conditioning: DiscriminatorConditioning = "none",
        num_classes: int | None = None,
        spectral_norm: bool = False,
        batch_norm: bool = True,
        minibatch_std: bool = False,
    ) -> None:
        super().__init__()
        self.shape, self.width, self.conditioning = tuple(shape), width, conditioning
        self.spectral_norm, self.batch_norm, self.minibatch_std = spectral_norm, batch_norm, minibatch_std
        steps = doublings("dcgan", shape, width)
        self.num_classes = classes_of("discriminator", conditioning, get_args(DiscriminatorConditioning), num_classes)
        channels = shape[0] + one_hot_size(self)
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        maps = width
        for _ in range(steps - 1):
            layers += [nn.Conv2d(maps, maps * 2, 4, stride=2, padding=1, bias=not batch_norm)]
            layers += [nn.BatchNorm2d(maps * 2)] if batch_norm else []
            layers += [nn.LeakyReLU(0.2)]
            maps *= 2
        if minibatch_std:
            layers += [MinibatchStd()]
            maps += 1
        features = maps * (shape[1] >> steps) ** 2
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 1))
        self.apply(_initialize)
        self.head = LabelHead(conditioning, features, self.num_classes)
        if spectral_norm:
            apply_spectral_norm(self)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor | Logits:
        """Images (B, C, H, W) in [-1, 1], and labels (B,) if conditional, to logits (B,), or `Logits`."""
        features, (*hidden, last) = with_labels(x, labels, self), self.layers
        for layer in hidden:  # a slice of layers would be a new module each time
            features = layer(features)
        out: Tensor | Logits = self.head(last(features).squeeze(1), features, labels)
        return out
