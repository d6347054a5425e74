"""SNGAN: residual networks with batch norm in the generator and spectral norm in the discriminator, for 32 and 64.

Miyato et al., 2018, tables 4 and 5, https://arxiv.org/abs/1802.05957; conditional as in Miyato and Koyama, 2018,
https://arxiv.org/abs/1802.05637. At size 32 all layers have ``width`` maps, at 64 the maps double from ``width`` next
to the image to 16 times that number at the other end. Parameters at the default widths, for three channels and ten
classes:

- 32: generator 4,276,739 (4,304,387 with conditional batch norm), discriminator 1,053,825 (1,055,105 with projection);
- 64: generator 12,220,675 (12,272,515), discriminator 10,141,441 (10,151,681).

Weights start Xavier uniform, with gain sqrt(2) in the residual branches and 1 elsewhere, biases at 0. Upsampling
repeats pixels, as in the authors' code.
"""

import math
from itertools import pairwise
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gen.models.adversarial.heads import LabelHead
from lit_gen.models.adversarial.losses import Logits
from lit_gen.models.nn.conditioning import ConditionalBatchNorm2d, classes_of, needed, one_hot_size, with_labels
from lit_gen.models.nn.normalization import apply_spectral_norm
from lit_gen.models.nn.resolution import doublings

__all__ = ["Discriminator", "Generator"]

_SIDES = (32, 64)
GeneratorConditioning = Literal["none", "batch_norm", "concat"]
DiscriminatorConditioning = Literal["none", "projection", "auxiliary"]


def _conv(inputs: int, outputs: int, kernel: int, gain: float = 1.0) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    nn.init.xavier_uniform_(conv.weight, gain)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


def _linear(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


class GeneratorBlock(nn.Module):
    """Norm, ReLU, upsample, convolution, norm, ReLU, convolution; the shortcut is a convolution of size 1."""

    def __init__(self, inputs: int, outputs: int, num_classes: int | None) -> None:
        super().__init__()
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(maps) if num_classes is None else ConditionalBatchNorm2d(maps, num_classes)
            for maps in (inputs, outputs)
        )
        self.convs = nn.ModuleList(_conv(maps, outputs, 3, math.sqrt(2)) for maps in (inputs, outputs))
        self.shortcut = _conv(inputs, outputs, 1)

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, 2 H, 2 W)."""
        given = () if labels is None else (labels,)
        h = F.interpolate(F.relu(self.norms[0](x, *given)), scale_factor=2, mode="nearest")
        h = F.relu(self.norms[1](self.convs[0](h), *given))
        # A convolution of size 1 gives the same before the pixels are repeated, at a quarter of the cost.
        shortcut = F.interpolate(self.shortcut(x), scale_factor=2, mode="nearest")
        out: Tensor = self.convs[1](h) + shortcut
        return out


class Generator(nn.Module):
    """Latents to images.

    Args:
        shape: image shape (C, H, W); taken from the data set by the command line.
        latent_dim: dimension of the latent z, drawn from N(0, I).
        width: feature maps next to the image; None for the paper's 256 at size 32, 64 at size 64.
        conditioning: "none"; "batch_norm": gains and biases by class in the blocks (`ConditionalBatchNorm2d`);
            "concat": the one-hot label beside z (Mirza and Osindero, 2014, https://arxiv.org/abs/1411.1784).
        num_classes: classes of the labels; taken from the data set by the command line.
        spectral_norm: divide all weights by their largest singular value, as later GANs do in the generator too.

    Raises:
        UserError: for a size other than 32 or 64, or a conditioning without labels.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int = 128,
        width: int | None = None,
        conditioning: GeneratorConditioning = "none",
        num_classes: int | None = None,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        self.shape, self.latent_dim, self.width, self.conditioning = tuple(shape), latent_dim, width, conditioning
        self.spectral_norm = spectral_norm
        narrow = (256 if shape[1] == 32 else 64) if width is None else width
        steps = doublings("sngan", shape, narrow, _SIDES)
        self.num_classes = classes_of("generator", conditioning, get_args(GeneratorConditioning), num_classes)
        maps = [narrow] * (steps + 1) if steps == 3 else [narrow << i for i in range(steps, -1, -1)]
        by_class = self.num_classes if conditioning == "batch_norm" else None
        self.first = _linear(latent_dim + one_hot_size(self), maps[0] * 4 * 4)
        self.blocks = nn.ModuleList(GeneratorBlock(maps[i], maps[i + 1], by_class) for i in range(steps))
        self.norm, self.last = nn.BatchNorm2d(maps[-1]), _conv(maps[-1], shape[0], 3)
        if spectral_norm:
            apply_spectral_norm(self)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (B, latent_dim), and labels (B,) if conditional, to images (B, C, H, W) in [-1, 1]."""
        given = needed(labels, self) if self.conditioning == "batch_norm" else None
        x = self.first(with_labels(z, labels, self)).unflatten(1, (-1, 4, 4))
        for block in self.blocks:
            x = block(x, given)
        return torch.tanh(self.last(F.relu(self.norm(x))))


class DiscriminatorBlock(nn.Module):
    """ReLU, convolution, ReLU, convolution, average pooling; a shortcut of size 1 if the shape changes.

    Args:
        inputs: maps that come in.
        outputs: maps that go out.
        down: halve the resolution.
        first: the input is the image: no ReLU before it, and the same number of hidden maps as of outputs.
    """

    def __init__(self, inputs: int, outputs: int, down: bool, first: bool = False) -> None:
        super().__init__()
        hidden = outputs if first else inputs
        self.down, self.first = down, first
        self.convs = nn.ModuleList(
            [_conv(inputs, hidden, 3, math.sqrt(2)), _conv(hidden, outputs, 3, math.sqrt(2))],
        )
        self.shortcut = _conv(inputs, outputs, 1) if down or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, H, W), of half the resolution if ``down``."""
        h = self.convs[1](F.relu(self.convs[0](x if self.first else F.relu(x))))
        if self.down:  # a convolution of size 1 gives the same after the average, at a quarter of the cost
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        out: Tensor = h + self.shortcut(x)
        return out


class Discriminator(nn.Module):
    """Images to logits, by the sum of the last maps over all pixels; no batch norm.

    Args:
        shape: image shape (C, H, W); taken from the data set by the command line.
        width: feature maps next to the image; None for the paper's 128 at size 32, 64 at size 64.
        conditioning: "none"; "projection" or "auxiliary": see `LabelHead`.
        num_classes: classes of the labels; taken from the data set by the command line.
        spectral_norm: divide all weights by their largest singular value; false for use with a gradient penalty.

    Raises:
        UserError: for a size other than 32 or 64, or a conditioning without labels.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int | None = None,
        conditioning: DiscriminatorConditioning = "none",
        num_classes: int | None = None,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        self.shape, self.width, self.conditioning = tuple(shape), width, conditioning
        self.spectral_norm = spectral_norm
        narrow = (128 if shape[1] == 32 else 64) if width is None else width
        steps = doublings("sngan", shape, narrow, _SIDES)
        self.num_classes = classes_of("discriminator", conditioning, get_args(DiscriminatorConditioning), num_classes)
        maps = [narrow] * 4 if steps == 3 else [narrow << i for i in range(5)]
        down = [True] * 4 if steps == 4 else [True, False, False]  # at 32 no further than to 8x8
        blocks = [DiscriminatorBlock(shape[0], maps[0], down=True, first=True)]
        blocks += [DiscriminatorBlock(*ends, down=d) for ends, d in zip(pairwise(maps), down, strict=True)]
        self.blocks, self.last = nn.Sequential(*blocks), _linear(maps[-1], 1)
        self.head = LabelHead(conditioning, maps[-1], self.num_classes)
        if spectral_norm:
            apply_spectral_norm(self)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor | Logits:
        """Images (B, C, H, W) in [-1, 1], and labels (B,) if conditional, to logits (B,), or `Logits`."""
        features = F.relu(self.blocks(x)).sum([2, 3])
        out: Tensor | Logits = self.head(self.last(features).squeeze(1), features, labels)
        return out
