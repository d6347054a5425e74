"""Glow, a multiscale flow of images: Kingma and Dhariwal, 2018, https://arxiv.org/abs/1807.03039.

The scales are those of RealNVP: Dinh et al., 2017, https://arxiv.org/abs/1605.08803.
"""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least, expect
from lit_gen.models.flow.invertible import ActNorm, Convolution, Coupling, squeeze, unsqueeze
from lit_gen.models.nn.conditioning import classes_of

__all__ = ["Glow"]

Conditioning = Literal["none", "embedding"]


class Glow(nn.Module):
    """Images x (B, C, H, W) to z (B, D) and back, D = C H W.

    Each scale squeezes 2x2 pixels into channels, takes ``steps`` steps of ActNorm, invertible 1x1 convolution and
    affine coupling, and lets half of the channels leave to z. What leaves has a Gaussian whose mean and deviation a
    network makes of what stays. That is one more coupling: an affine map to the standard normal, in which all of z is.
    z has the first scale's first. Before the first batch (`initialize`) each ActNorm is the identity.

    Args:
        shape: image shape (C, H, W); taken from the data set by the command line. Its sides are multiples of
            2^scales.
        scales: how often the resolution halves.
        steps: at each scale.
        width: hidden channels of the couplings' networks.
        conditioning: "none"; "embedding": the couplings' networks get a learned vector of the label.
        num_classes: classes of the labels; taken from the data set by the command line.

    Raises:
        UserError: for a side that cannot be halved so often, an option out of range, or a conditioning without labels.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        scales: int = 2,
        steps: int = 8,
        width: int = 64,
        conditioning: Conditioning = "none",
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        at_least(1, "model.transform.", scales=scales, steps=steps, width=width)
        _check_sides(shape[1:], scales)
        self.shape, self.scales, self.steps, self.width = tuple(shape), scales, steps, width
        self.conditioning = conditioning
        self.num_classes = classes_of("model.transform", conditioning, get_args(Conditioning), num_classes)
        self.blocks = nn.ModuleList()
        self.sizes: list[int] = []  # numbers of z that leave after each block
        channels, numbers = shape[0], math.prod(shape)
        for scale in range(scales):
            channels, last = 4 * channels, scale == scales - 1
            layers: list[nn.Module] = []
            for _ in range(steps):
                layers += [ActNorm(channels), Convolution(channels), Coupling(channels, width, self.num_classes)]
            if not last:
                layers.append(Coupling(channels, width, self.num_classes))  # of what leaves, given what stays
                channels //= 2
            self.blocks.append(nn.ModuleList(layers))
            self.sizes.append(numbers >> (scale + (not last)))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W), and labels (B,) if conditional, to z (B, D) and log|det dz/dx| in nats (B,)."""
        return self._latents(x, labels)

    @torch.no_grad()
    def initialize(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Let each ActNorm give this batch, over all ranks, mean 0 and variance 1; one that has done so stays.

        Raises:
            UserError: if a channel is constant, on every rank.
        """
        self._latents(x, labels, first=True)

    def inverse(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (B, D), and labels (B,) if conditional, to images (B, C, H, W)."""
        with torch.autocast(z.device.type, enabled=False):
            parts = z.split(self.sizes, 1)
            side = [n >> self.scales for n in self.shape[1:]]
            h: Tensor = parts[-1].view(len(z), -1, *side)
            for scale in reversed(range(self.scales)):
                if scale < self.scales - 1:
                    h = torch.cat([h, parts[scale].view_as(h)], 1)
                for layer in reversed(self._layers(scale)):
                    h = layer.inverse(h, labels)
                h = unsqueeze(h)
            return h

    def _layers(self, scale: int) -> list[Any]:
        block: Any = self.blocks[scale]
        return list(block)

    def _latents(self, x: Tensor, labels: Tensor | None, first: bool = False) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):  # the log-determinants are exact in float32
            parts: list[Tensor] = []
            h, log_det = x, x.new_zeros(len(x))
            for scale in range(self.scales):
                h = squeeze(h)
                for layer in self._layers(scale):
                    if first and isinstance(layer, ActNorm):
                        layer.initialize(h)
                    h, its_own = layer(h, labels)
                    log_det = log_det + its_own
                if scale < self.scales - 1:
                    h, leaves = h.chunk(2, 1)
                    parts.append(leaves.flatten(1))
            return torch.cat([*parts, h.flatten(1)], 1), log_det


def _check_sides(sides: tuple[int, int], scales: int) -> None:
    height, breadth = sides
    size, most = f"{height}x{breadth}", 0
    while height % 2 ** (most + 1) == breadth % 2 ** (most + 1) == 0:
        most += 1
    if not most:
        raise UserError(
            f"model.transform: images of {size} were found, but each of model.transform.scales halves both sides: even "
            f"sides are expected; data.resize sets the shorter side and data.crop cuts a square"
        )
    expect(scales <= most, "model.transform.scales", scales, f"at most {most} for images of {size}")
