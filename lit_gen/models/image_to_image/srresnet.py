"""Super-resolution: residual blocks at the source's resolution, then steps of upsampling.

Ledig et al., 2017, https://arxiv.org/abs/1609.04802 (SRResNet, the generator of SRGAN). With ``block`` "dense" it is
the generator of ESRGAN (Wang et al., 2018, https://arxiv.org/abs/1809.00219), whose first and last convolutions are of
size 3, with one more before the last, and which has leaky ReLU in place of PReLU and no norm. For three channels and
factor 4, SRResNet has 1,547,350 parameters, and ESRGAN's generator (23 blocks, nearest upsampling) 16,697,987.
"""

import functools
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gen.core.options import expect, one_of
from lit_gen.models.image_to_image.layers import Norm, Output, check, check_output, initialize, normalization
from lit_gen.models.image_to_image.receptive import convolved, radius_of, repeated

__all__ = ["SRResNet"]

_STEPS = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}
_BETA = 0.2  # by which ESRGAN scales what is added to a sum
Kind = Literal["residual", "dense"]
Upsampling = Literal["subpixel", "nearest"]
Start = Literal["bicubic", "none"]


class ResidualBlock(nn.Module):
    """x + norm(conv(prelu(norm(conv(x)))))."""

    def __init__(self, maps: int, norm: Norm) -> None:
        super().__init__()
        bias = norm == "none"
        self.layers = nn.Sequential(
            nn.Conv2d(maps, maps, 3, padding=1, bias=bias),
            normalization(norm, maps),
            nn.PReLU(),
            nn.Conv2d(maps, maps, 3, padding=1, bias=bias),
            normalization(norm, maps),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        out: Tensor = x + self.layers(x)
        return out


class DenseBlock(nn.Module):
    """x + 0.2 times the last of five convolutions, each of which sees x and all that those before it made."""

    def __init__(self, maps: int, growth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(maps + i * growth, growth, 3, padding=1) for i in range(4))
        self.last = nn.Conv2d(maps + 4 * growth, maps, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        h = x
        for conv in self.convs:
            h = torch.cat([h, F.leaky_relu(conv(h), 0.2)], 1)
        out: Tensor = x + _BETA * self.last(h)
        return out


class NestedBlock(nn.Module):
    """x + 0.2 times three dense blocks, one after the other: ESRGAN's residual-in-residual dense block."""

    def __init__(self, maps: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(DenseBlock(maps, growth) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        out: Tensor = x + _BETA * self.layers(x)
        return out


def enlarged(x: Tensor, factor: int) -> Tensor:
    """Images (B, C, h, w), ``factor`` times as large by bicubic interpolation (a = -0.5, as PIL and MATLAB have it)."""
    return F.interpolate(x, scale_factor=factor, mode="bicubic", antialias=True)  # without antialias a is -0.75


class SRResNet(nn.Module):
    """Source images to target images ``factor`` times as large.

    Args:
        source_channels: of the images that it takes; from the data by the command line.
        target_channels: of the images that it makes; from the data by the command line.
        factor: 2, 3, 4 or 8; from the data by the command line.
        width: maps of every layer.
        blocks: of the body.
        block: "residual": two convolutions; "dense": three dense blocks of five convolutions each.
        growth: maps that each convolution of a dense block adds.
        norm: of residual blocks, "batch" as in the paper or "none"; null for what the paper of the block has, which for
            dense ones is "none".
        upsampling: "subpixel": channels become pixels (Shi et al., 2016, https://arxiv.org/abs/1609.05158); they begin
            alike, without a checkerboard (Aitken et al., 2017, https://arxiv.org/abs/1707.02937); "nearest": pixels are
            repeated before the convolution.
        start: "bicubic": the network's output is added to the source, enlarged so, which it need not learn (Kim et al.,
            2016, https://arxiv.org/abs/1511.04587): a short training begins where bicubic interpolation ends; "none",
            as in both papers. A mask, the source's last channel, is left out of the sum.
        output: "linear", or "tanh".

    Raises:
        UserError: for an option out of range, or "bicubic" with "tanh" or with channels that differ.
    """

    multiple = 1

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        factor: int,
        width: int = 64,
        blocks: int = 16,
        block: Kind = "residual",
        growth: int = 32,
        norm: Literal["batch", "none"] | None = None,
        upsampling: Upsampling = "subpixel",
        start: Start = "bicubic",
        output: Output = "linear",
    ) -> None:
        super().__init__()
        self.source_channels, self.target_channels, self.factor = source_channels, target_channels, factor
        self.width, self.blocks, self.block, self.growth = width, blocks, block, growth
        self.norm: Norm = norm or ("batch" if block == "residual" else "none")
        self.upsampling, self.start, self.output = upsampling, start, output
        _check(self)
        dense = block == "dense"
        first = nn.Conv2d(source_channels, width, 3 if dense else 9, padding="same")
        self.first = nn.Sequential(first, nn.Identity() if dense else nn.PReLU())
        inner = [NestedBlock(width, growth) if dense else ResidualBlock(width, self.norm) for _ in range(blocks)]
        after = nn.Conv2d(width, width, 3, padding=1, bias=self.norm == "none")
        self.body = nn.Sequential(*inner, after, normalization(self.norm, width))
        up: list[nn.Module] = []
        for step in _STEPS[factor]:
            up += self._enlarging(step)
        self.up = nn.Sequential(*up)
        last = nn.Conv2d(width, target_channels, 3 if dense else 9, padding="same")
        before = [nn.Conv2d(width, width, 3, padding=1), self._activation()] if dense else []
        self.last = nn.Sequential(*before, last)
        of_blocks = [[m for m in one.modules() if isinstance(m, nn.Conv2d)] for one in inner]
        ends = [conv for convs in of_blocks for conv in (convs if dense else convs[-1:])]
        initialize(self, "none", small={*ends, last})
        for conv in up:
            if isinstance(conv, nn.Conv2d) and upsampling == "subpixel":
                _begin_alike(conv, conv.out_channels // width)

    def _activation(self) -> nn.Module:
        return nn.LeakyReLU(0.2) if self.block == "dense" else nn.PReLU()

    def _enlarging(self, step: int) -> list[nn.Module]:
        """A step that makes maps ``step`` times as large."""
        if self.upsampling == "nearest":
            conv = nn.Conv2d(self.width, self.width, 3, padding=1)
            return [nn.Upsample(scale_factor=step), conv, self._activation()]
        conv = nn.Conv2d(self.width, self.width * step**2, 3, padding=1)
        return [conv, nn.PixelShuffle(step), self._activation()]

    @property
    def scale(self) -> int:
        """The output's sides over the source's."""
        return self.factor

    @property
    def radius(self) -> int:
        """Source pixels on each side that an output pixel depends on, in evaluation."""
        return _radius(self.factor, self.blocks, self.block == "dense", self.upsampling)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, source_channels, h, w) to (B, target_channels, factor h, factor w)."""
        h = self.first(x)
        out: Tensor = self.last(self.up(h + self.body(h)))
        if self.start == "bicubic":
            out = out + enlarged(x[:, : self.target_channels], self.factor)
        return torch.tanh(out) if self.output == "tanh" else out


def _begin_alike(conv: nn.Conv2d, pixels: int) -> None:
    """Give all channels that become the pixels of one map the same weights, so that it begins as nearest upsampling."""
    with torch.no_grad():
        conv.weight.copy_(conv.weight[::pixels].repeat_interleave(pixels, 0))


def _check(of: SRResNet) -> None:
    """Refuse options out of range."""
    counts = {"source_channels": of.source_channels, "target_channels": of.target_channels, "width": of.width}
    one_of(get_args(Kind), "generator.", block=of.block)
    check("generator", ("batch", "none"), of.norm, **counts, blocks=of.blocks, growth=of.growth)
    expect(of.block != "dense" or of.norm == "none", "generator.norm", of.norm, "'none' with block: dense")
    hint = "; for images of equal size choose a ResNet or UNet" if of.factor == 1 else ""
    expect(of.factor in _STEPS, "generator.factor", of.factor, f"one of {', '.join(map(str, _STEPS))}", hint)
    one_of(get_args(Upsampling), "generator.", upsampling=of.upsampling)
    one_of(get_args(Start), "generator.", start=of.start)
    adds = "start: bicubic" if of.start == "bicubic" else None
    check_output("generator", of.output, adds, of.source_channels, of.target_channels)


@functools.cache
def _radius(factor: int, blocks: int, dense: bool, upsampling: Upsampling) -> int:
    def through(reach: Tensor) -> Tensor:
        reach = convolved(reach, 3 if dense else 9)
        for _ in range(blocks * (15 if dense else 2) + 1):
            reach = convolved(reach, 3)
        for step in _STEPS[factor]:
            reach = repeated(convolved(reach, 3), step) if upsampling == "subpixel" else reach
            reach = convolved(repeated(reach, step), 3) if upsampling == "nearest" else reach
        return convolved(convolved(reach, 3), 3) if dense else convolved(reach, 9)  # bicubic sees 2, which is less

    return radius_of(through, 1, factor)
