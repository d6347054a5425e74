"""Residual networks from images to images: halve the resolution a few times, residual blocks, double it again.

Johnson et al., 2016, https://arxiv.org/abs/1603.08155; as here Zhu et al., 2017, https://arxiv.org/abs/1703.10593
(CycleGAN, appendix 7.2: c7s1-64, d128, d256, R256 six or nine times, u128, u64, c7s1-3). Nine blocks with three
channels have 11,383,427 parameters with either norm. CycleGAN's own code in PyTorch has 5,248 fewer with instance norm:
biases that the norm takes away again, where there are gains and offsets here. Without halvings it is a plain residual
network at full resolution, which suits small images and noise.
"""

import functools
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lit_gen.core.errors import UserError
from lit_gen.core.options import not_negative, one_of
from lit_gen.models.image_to_image.layers import (
    Norm,
    Output,
    Reflection,
    check,
    check_output,
    check_pixels,
    initialize,
    normalization,
)
from lit_gen.models.image_to_image.receptive import convolved, radius_of, repeated, transposed

__all__ = ["ResNet"]

Padding = Literal["reflection", "zeros"]
Upsampling = Literal["transposed", "nearest"]


def _conv(inputs: int, outputs: int, kernel: int, padding: Padding, bias: bool) -> list[nn.Module]:
    """A convolution that keeps the size."""
    by = kernel // 2
    if padding == "zeros":
        return [nn.Conv2d(inputs, outputs, kernel, padding=by, bias=bias)]
    return [Reflection(by), nn.Conv2d(inputs, outputs, kernel, bias=bias)]


class Block(nn.Module):
    """x + norm(conv(relu(norm(conv(x)))))."""

    def __init__(self, maps: int, norm: Norm, padding: Padding) -> None:
        super().__init__()
        bias = norm == "none"
        self.layers = nn.Sequential(
            *_conv(maps, maps, 3, padding, bias),
            normalization(norm, maps),
            nn.ReLU(),
            *_conv(maps, maps, 3, padding, bias),
            normalization(norm, maps),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        out: Tensor = x + self.layers(x)
        return out


class ResNet(nn.Module):
    """Source images to target images of the same size.

    Args:
        source_channels: of the images that it takes; from the data by the command line.
        target_channels: of the images that it makes; from the data by the command line.
        width: maps of the first layer; they double with each halving.
        blocks: residual blocks, at the lowest resolution.
        downsamplings: halvings. Sides are multiples of 2^downsamplings.
        norm: "batch"; "instance", with which every pixel depends on the whole image; "none".
        padding: "reflection" beyond the border, as in the paper, or "zeros"; halvings and doublings have zeros, as
            there.
        upsampling: "transposed" convolutions; "nearest": pixels are repeated before a convolution of size 3, against
            checkerboards (Odena et al., 2016, https://distill.pub/2016/deconv-checkerboard).
        residual: what the network makes is added to the source, so that it learns their difference (Zhang et al., 2017,
            https://arxiv.org/abs/1608.03981: for noise). A mask, the source's last channel, is left out of the sum.
        output: "tanh", or "linear"; null for "linear" where ``residual``, else "tanh".

    Raises:
        UserError: for an option out of range, ``residual`` with "tanh" or with channels that differ.
    """

    scale = 1

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        width: int = 64,
        blocks: int = 6,
        downsamplings: int = 2,
        norm: Norm = "batch",
        padding: Padding = "reflection",
        upsampling: Upsampling = "transposed",
        residual: bool = False,
        output: Output | None = None,
    ) -> None:
        super().__init__()
        self.source_channels, self.target_channels, self.width = source_channels, target_channels, width
        self.blocks, self.downsamplings, self.norm, self.padding = blocks, downsamplings, norm, padding
        self.upsampling, self.residual = upsampling, residual
        self.output: Output = output or ("linear" if residual else "tanh")
        _check(self)
        bias = norm == "none"
        layers = [*_conv(source_channels, width, 7, padding, bias), normalization(norm, width), nn.ReLU()]
        for i in range(downsamplings):
            conv = nn.Conv2d(width << i, width << (i + 1), 3, stride=2, padding=1, bias=bias)
            layers += [conv, normalization(norm, width << (i + 1)), nn.ReLU()]
        inner = [Block(width << downsamplings, norm, padding) for _ in range(blocks)]
        layers += inner
        for i in reversed(range(downsamplings)):
            layers += self._doubling(width << (i + 1), width << i, bias)
            layers += [normalization(norm, width << i), nn.ReLU()]
        end = _conv(width, target_channels, 7, padding, bias=True)
        self.layers = nn.Sequential(*layers, *end)
        branches = [[m for m in block.modules() if isinstance(m, nn.Conv2d)] for block in inner]
        initialize(self, norm, small={end[-1], *(convs[-1] for convs in branches)})

    def _doubling(self, inputs: int, outputs: int, bias: bool) -> list[nn.Module]:
        if self.upsampling == "transposed":
            return [nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1, bias=bias)]
        return [nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)]

    @property
    def multiple(self) -> int:
        """Sides of images are multiples of it."""
        return int(2**self.downsamplings)

    @property
    def radius(self) -> int | None:
        """Source pixels on each side that an output pixel depends on, in evaluation; None for all."""
        if self.norm == "instance":
            return None
        return _radius(self.blocks, self.downsamplings, self.padding == "reflection", self.upsampling)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, source_channels, H, W) to (B, target_channels, H, W), in [-1, 1] with "tanh".

        Raises:
            UserError: for sides that are no multiples of 2^downsamplings, or too small for reflection or the norm.
        """
        _check_sides(self, x)
        out: Tensor = self.layers(x)
        if self.residual:
            out = x[:, : self.target_channels] + out
        return torch.tanh(out) if self.output == "tanh" else out


def _check(of: ResNet) -> None:
    """Refuse options out of range."""
    counts = {"source_channels": of.source_channels, "target_channels": of.target_channels, "width": of.width}
    check("generator", get_args(Norm), of.norm, **counts, blocks=of.blocks)
    not_negative("generator.", downsamplings=of.downsamplings)
    one_of(get_args(Padding), "generator.", padding=of.padding)
    one_of(get_args(Upsampling), "generator.", upsampling=of.upsampling)
    adds = "residual: true" if of.residual else None
    check_output("generator", of.output, adds, of.source_channels, of.target_channels)


def _check_sides(of: ResNet, x: Tensor) -> None:
    height, breadth = x.shape[2:]
    size, least = f"{height}x{breadth}", max(4, 2 * of.multiple)  # for a reflection of 3 pixels, and of 1 inside
    if height % of.multiple or breadth % of.multiple:
        raise UserError(
            f"generator.downsamplings: {of.downsamplings} was found, images of {size} need sides that are multiples of "
            f"{of.multiple}"
        )
    if of.padding == "reflection" and min(height, breadth) < least:
        raise UserError(
            f"generator.padding: 'reflection' was found, 'zeros' is expected for images of {size}: reflections need "
            f"sides of at least {least}"
        )
    pixels = height * breadth // of.multiple**2
    check_pixels("generator.norm", of.norm, len(x), pixels, of.training, size)


@functools.cache
def _radius(blocks: int, downsamplings: int, reflect: bool, upsampling: Upsampling) -> int:
    def through(reach: Tensor) -> Tensor:
        reach = convolved(reach, 7, reflect=reflect)
        for _ in range(downsamplings):
            reach = convolved(reach, 3, stride=2)
        for _ in range(2 * blocks):
            reach = convolved(reach, 3, reflect=reflect)
        for _ in range(downsamplings):
            reach = transposed(reach, 3) if upsampling == "transposed" else convolved(repeated(reach, 2), 3)
        return convolved(reach, 7, reflect=reflect)

    return radius_of(through, 2**downsamplings)
