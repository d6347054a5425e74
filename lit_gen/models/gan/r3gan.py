"""R3GAN: a modern residual network without normalisation, for the relativistic loss with R1 and R2.

Huang et al., 2024, https://arxiv.org/abs/2501.05441. Blocks are inverted bottlenecks with grouped convolutions; all
stages have the same number of maps, as in its CIFAR-10 network (there 768; the defaults here are a small one: generator
833,920 parameters and discriminator 825,856 at size 32). The last convolution of each block starts at 0 and the others
are scaled by blocks ** (-1/4), so that depth does not change the variance (fix-up initialisation, Zhang et al., 2019,
https://arxiv.org/abs/1901.09321). Resampling is a fixed low-pass filter, written as a convolution: it has second
derivatives, which R1 and R2 need. Two things differ: the filter is [1, 3, 3, 1], theirs is [1, 2, 1], and the generator
ends with tanh, since images of this package lie in [-1, 1].
"""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least
from lit_gen.models.nn.conditioning import classes_of, needed
from lit_gen.models.nn.resolution import doublings

__all__ = ["Discriminator", "Generator"]

_SIDES = (32, 64)
_GAIN = math.sqrt(2 / (1 + 0.2**2))  # keeps the variance through a leaky ReLU of slope 0.2
GeneratorConditioning = Literal["none", "concat"]
DiscriminatorConditioning = Literal["none", "projection"]


def _scaled(layer: nn.Conv2d | nn.Linear, gain: float = 1.0) -> nn.Conv2d | nn.Linear:
    """Weights at N(0, gain^2 / inputs), bias at 0."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """x + conv1(lrelu(groups3(lrelu(conv1(x))))), biases before the activations.

    Args:
        width: maps in and out.
        expansion: maps inside, as a multiple of ``width``.
        group_size: maps in each group of the inner convolution.
        blocks: blocks of the whole network, for the initial scale.
    """

    def __init__(self, width: int, expansion: int, group_size: int, blocks: int) -> None:
        super().__init__()
        inner, gain = width * expansion, _GAIN * blocks**-0.25
        self.layers = nn.Sequential(
            _scaled(nn.Conv2d(width, inner, 1), gain),
            nn.LeakyReLU(0.2),
            _scaled(nn.Conv2d(inner, inner, 3, padding=1, groups=inner // group_size), gain),
            nn.LeakyReLU(0.2),
            _scaled(nn.Conv2d(inner, width, 1, bias=False), 0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, width, H, W) to the same shape."""
        out: Tensor = x + self.layers(x)
        return out


class Resample(nn.Module):
    """Double or halve the resolution through the separable filter [1, 3, 3, 1] / 8, zeros beyond the border."""

    filter: Tensor

    def __init__(self, up: bool) -> None:
        super().__init__()
        self.up = up
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / (4 if up else 8)  # upsampling spreads one pixel over four
        self.register_buffer("filter", torch.outer(taps, taps)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, 2 H, 2 W) or (B, C, H / 2, W / 2)."""
        apply = F.conv_transpose2d if self.up else F.conv2d
        kernel = self.filter.to(x.dtype).expand(x.shape[1], -1, -1, -1)
        return apply(x, kernel, stride=2, padding=1, groups=x.shape[1])


def _stage(width: int, blocks: int, expansion: int, group_size: int, total: int) -> list[nn.Module]:
    return [Block(width, expansion, group_size, total) for _ in range(blocks)]


def _check(network: str, blocks: int, expansion: int, group_size: int, width: int) -> None:
    at_least(1, f"{network}.", blocks=blocks, expansion=expansion, group_size=group_size)
    if width * expansion % group_size:
        raise UserError(f"{network}.group_size: {group_size} does not divide width * expansion = {width * expansion}")


class Generator(nn.Module):
    """Latents to images: a learned 4x4 map, scaled by a linear function of z, then upsampled.

    Args:
        shape: image shape (C, H, W); taken from the data set by the command line.
        latent_dim: dimension of the latent z, drawn from N(0, I).
        width: feature maps of every stage.
        blocks: residual blocks of each stage; stages are 4x4, 8x8, ... to the image's size.
        group_size: maps in each group of the 3x3 convolutions.
        expansion: maps inside a block, as a multiple of ``width``.
        conditioning: how labels enter, "none" or "concat": a learned embedding of the label, of ``latent_dim``
            numbers, beside z.
        num_classes: classes of the labels; taken from the data set by the command line.

    Raises:
        UserError: for a size other than 32 or 64, a group size that does not divide, or a conditioning without labels.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int = 64,
        width: int = 128,
        blocks: int = 2,
        group_size: int = 16,
        expansion: int = 2,
        conditioning: GeneratorConditioning = "none",
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.latent_dim, self.width, self.conditioning = tuple(shape), latent_dim, width, conditioning
        self.blocks, self.group_size, self.expansion = blocks, group_size, expansion
        _check("generator", blocks, expansion, group_size, width)
        steps = doublings("r3gan", shape, width, _SIDES)
        self.num_classes = classes_of("generator", conditioning, get_args(GeneratorConditioning), num_classes)
        self.embedding = None
        if self.num_classes is not None:
            self.embedding = nn.Embedding(self.num_classes, latent_dim)
            nn.init.normal_(self.embedding.weight, 0.0, self.num_classes**-0.5)
        self.basis = nn.Parameter(nn.init.normal_(torch.empty(width, 4, 4)))
        self.scale = _scaled(nn.Linear(latent_dim * (1 if self.embedding is None else 2), width, bias=False))
        stage = (width, blocks, expansion, group_size, blocks * (steps + 1))
        layers = _stage(*stage)
        for _ in range(steps):
            layers += [Resample(up=True), *_stage(*stage)]
        self.layers = nn.Sequential(*layers, _scaled(nn.Conv2d(width, shape[0], 1, bias=False)), nn.Tanh())

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (B, latent_dim), and labels (B,) if conditional, to images (B, C, H, W) in [-1, 1]."""
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(needed(labels, self))], 1)
        images: Tensor = self.layers(self.basis * self.scale(z)[:, :, None, None])
        return images


class Discriminator(nn.Module):
    """Images to logits, the generator's mirror image: a 4x4 convolution for each map ends in a vector.

    Args:
        shape: image shape (C, H, W); taken from the data set by the command line.
        width: feature maps of every stage.
        blocks: residual blocks of each stage.
        group_size: maps in each group of the 3x3 convolutions.
        expansion: maps inside a block, as a multiple of ``width``.
        conditioning: "none"; "projection": the logit is <embedding(y), vector>, without a term that ignores the label.
        num_classes: classes of the labels; taken from the data set by the command line.

    Raises:
        UserError: for a size other than 32 or 64, a group size that does not divide, or a conditioning without labels.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int = 128,
        blocks: int = 2,
        group_size: int = 16,
        expansion: int = 2,
        conditioning: DiscriminatorConditioning = "none",
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.width, self.conditioning = tuple(shape), width, conditioning
        self.blocks, self.group_size, self.expansion = blocks, group_size, expansion
        _check("discriminator", blocks, expansion, group_size, width)
        steps = doublings("r3gan", shape, width, _SIDES)
        self.num_classes = classes_of("discriminator", conditioning, get_args(DiscriminatorConditioning), num_classes)
        stage = (width, blocks, expansion, group_size, blocks * (steps + 1))
        layers: list[nn.Module] = [_scaled(nn.Conv2d(shape[0], width, 1, bias=False))]
        for _ in range(steps):
            layers += [*_stage(*stage), Resample(up=False)]
        layers += [*_stage(*stage), _scaled(nn.Conv2d(width, width, 4, groups=width, bias=False)), nn.Flatten()]
        self.embedding = None
        if self.num_classes is not None:
            self.embedding = nn.Embedding(self.num_classes, width)
            nn.init.normal_(self.embedding.weight, 0.0, (self.num_classes * width) ** -0.5)
        self.layers = nn.Sequential(
            *layers, _scaled(nn.Linear(width, 1 if self.embedding is None else width, bias=False))
        )

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1], and labels (B,) if conditional, to logits (B,)."""
        out: Tensor = self.layers(x)
        if self.embedding is not None:
            out = out * self.embedding(needed(labels, self))
        return out.sum(1)  # unconditional: of one number
