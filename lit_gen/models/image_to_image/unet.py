"""The U-Net of pix2pix: halve the resolution to a bottleneck, double it again, and hand the details across.

Isola et al., 2017, https://arxiv.org/abs/1611.07004, section 6.1.1; Ronneberger et al., 2015,
https://arxiv.org/abs/1505.04597 (the shape). Each halving is a convolution of size 4, each doubling a transposed one,
which gets the maps that the halving at its resolution made beside those from below. Neither the first layer nor the
bottleneck has a norm: an image of 2^depth pixels has a bottleneck of one, of which a norm would leave nothing. Depth 8
has 54,413,955 parameters with three channels and batch norm.
"""

import functools
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gen.core.errors import UserError
from lit_gen.core.options import one_of, within
from lit_gen.models.image_to_image.layers import Norm, Output, check, check_output, initialize, normalization
from lit_gen.models.image_to_image.receptive import convolved, radius_of, repeated, transposed

__all__ = ["UNet"]

Upsampling = Literal["transposed", "nearest"]


class UNet(nn.Module):
    """Source images to target images of the same size.

    Args:
        source_channels: of the images that it takes; from the data by the command line.
        target_channels: of the images that it makes; from the data by the command line.
        width: maps of the first layer; they double with each halving, up to eight times as many.
        depth: halvings. Sides are multiples of 2^depth. pix2pix has 8, for images of 256x256.
        norm: "batch"; "instance", with which every pixel depends on the whole image; "none".
        dropout: share of maps' values dropped in the three doublings next to the bottleneck, in training; pix2pix has
            0.5, as its only noise.
        upsampling: "transposed" convolutions; "nearest": pixels are repeated before a convolution of size 3, against
            checkerboards (Odena et al., 2016, https://distill.pub/2016/deconv-checkerboard).
        output: "tanh", or "linear".

    Raises:
        UserError: for an option out of range.
    """

    scale = 1

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        width: int = 64,
        depth: int = 5,
        norm: Norm = "batch",
        dropout: float = 0.0,
        upsampling: Upsampling = "transposed",
        output: Output = "tanh",
    ) -> None:
        super().__init__()
        self.source_channels, self.target_channels, self.width = source_channels, target_channels, width
        self.depth, self.norm, self.dropout, self.upsampling, self.output = depth, norm, dropout, upsampling, output
        counts = {"source_channels": source_channels, "target_channels": target_channels, "width": width}
        check("generator", get_args(Norm), norm, **counts, depth=depth)
        one_of(get_args(Upsampling), "generator.", upsampling=upsampling)
        within("[0, 1)", "generator.", dropout=dropout)
        check_output("generator", output, None, source_channels, target_channels)
        maps = [width << min(i, 3) for i in range(depth)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()  # from the image to the bottleneck, and back
        for i in range(depth):
            normed = 0 < i < depth - 1
            self.down.append(
                nn.Sequential(
                    nn.Conv2d(maps[i - 1] if i else source_channels, maps[i], 4, 2, 1, bias=norm == "none"),
                    normalization(norm if normed else "none", maps[i]),
                )
            )
        for i in reversed(range(depth)):
            inputs = maps[i] * (1 if i == depth - 1 else 2)
            if i == 0:
                self.up.append(self._doubling(inputs, target_channels, bias=True))
                break
            layers = [self._doubling(inputs, maps[i - 1], norm == "none"), normalization(norm, maps[i - 1])]
            layers += [nn.Dropout(dropout)] if dropout and i >= depth - 3 else []
            self.up.append(nn.Sequential(*layers))
        initialize(self, norm)

    def _doubling(self, inputs: int, outputs: int, bias: bool) -> nn.Module:
        if self.upsampling == "transposed":
            return nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=bias)
        return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias))

    @property
    def multiple(self) -> int:
        """Sides of images are multiples of it."""
        return int(2**self.depth)

    @property
    def radius(self) -> int | None:
        """Source pixels on each side that an output pixel depends on, in evaluation; None for all."""
        return None if self.norm == "instance" else _radius(self.depth, self.upsampling)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, source_channels, H, W) to (B, target_channels, H, W), in [-1, 1] with "tanh".

        Raises:
            UserError: for sides that are no multiples of 2^depth.
        """
        _check_sides(self, x)
        skips: list[Tensor] = []
        for i, down in enumerate(self.down):
            x = down(F.leaky_relu(x, 0.2) if i else x)
            skips.append(x)
        for i, up in enumerate(self.up):
            skip = skips.pop()
            x = up(F.relu(torch.cat([skip, x], 1) if i else x))
        return torch.tanh(x) if self.output == "tanh" else x


def _check_sides(network: UNet, x: Tensor) -> None:
    height, breadth = x.shape[2:]
    if height % network.multiple or breadth % network.multiple:
        most = next(i for i in range(32) if height % 2 ** (i + 1) or breadth % 2 ** (i + 1))
        raise UserError(
            f"generator.depth: {network.depth} halvings were found, at most {most} are expected for images of "
            f"{height}x{breadth}, or images padded to multiples of {network.multiple}"
        )


@functools.cache
def _radius(depth: int, upsampling: Upsampling) -> int:
    def through(reach: Tensor) -> Tensor:  # by way of the bottleneck, which sees all that shorter ways see
        for _ in range(depth):
            reach = convolved(reach, 4, stride=2, padding=1)
        for _ in range(depth):
            reach = transposed(reach, 4) if upsampling == "transposed" else convolved(repeated(reach, 2), 3)
        return reach

    return radius_of(through, 2**depth)
