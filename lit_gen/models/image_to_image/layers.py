"""What the networks of images to images share: norms, reflection, initial weights, checks of options and sizes."""

import math
from collections.abc import Collection
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least, expect, one_of

Norm = Literal["batch", "instance", "none"]
Output = Literal["tanh", "linear"]

_CONVOLUTIONS = nn.Conv2d | nn.ConvTranspose2d


def normalization(norm: Norm, maps: int) -> nn.Module:
    """A norm's layer for a number of maps, with gains and offsets.

    Instance norm (Ulyanov et al., 2016, https://arxiv.org/abs/1607.08022) has them too: it is what batch norm is in a
    batch of one image, as pix2pix is trained.
    """
    if norm == "none":
        return nn.Identity()
    return nn.BatchNorm2d(maps) if norm == "batch" else nn.InstanceNorm2d(maps, affine=True)


class Reflection(nn.Module):
    """Pad by a reflection on all sides; unlike torch's on a GPU, its gradient is the same in every run.

    Args:
        by: pixels on each side.
    """

    def __init__(self, by: int) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) of more than ``by`` pixels a side to (B, C, H + 2 by, W + 2 by)."""
        for dim in (2, 3):
            before = x.narrow(dim, 1, self.by).flip(dim)
            after = x.narrow(dim, x.shape[dim] - 1 - self.by, self.by).flip(dim)
            x = torch.cat([before, x, after], dim)
        return x


def initialize(network: nn.Module, norm: Norm, small: Collection[nn.Module] = ()) -> None:
    """Draw first weights; biases start at zero.

    With a norm they are N(0, 0.02), and its gains N(1, 0.02), as in pix2pix (Isola et al., 2017,
    https://arxiv.org/abs/1611.07004). Without one that would make signals vanish: N(0, 2 / inputs of an output) keeps
    their size (He et al., 2015, https://arxiv.org/abs/1502.01852).

    Args:
        network: all its convolutions and norms are drawn.
        norm: what the network has.
        small: convolutions that get a tenth of that where there is no norm: the ends of residual branches, as in
            ESRGAN (Wang et al., 2018, https://arxiv.org/abs/1809.00219).
    """
    for layer in network.modules():
        if isinstance(layer, _CONVOLUTIONS):
            nn.init.normal_(layer.weight, 0.0, 0.02 if norm != "none" else _he(layer) * (0.1 if layer in small else 1))
        elif isinstance(layer, nn.BatchNorm2d | nn.InstanceNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
        bias = getattr(layer, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)


def _he(layer: nn.Conv2d | nn.ConvTranspose2d) -> float:
    inputs = layer.weight.numel() / layer.out_channels
    if isinstance(layer, nn.ConvTranspose2d):  # whose kernel is shared out among stride^2 outputs
        inputs /= math.prod(layer.stride)
    return math.sqrt(2 / inputs)


def check(network: str, norms: Collection[str], norm: str, **counts: int) -> None:
    """Refuse a norm that is not among ``norms``, and counts below 1; ``network`` is the option's name."""
    at_least(1, f"{network}.", **counts)
    one_of(norms, f"{network}.", norm=norm)


def check_output(network: str, output: str, adds: str | None, source_channels: int, target_channels: int) -> None:
    """Refuse an output that is unknown, or does not go with adding the source.

    Args:
        network: the network's option.
        output: what it was given.
        adds: the option, with its value, by which the source is added to the output; None where it is not.
        source_channels: of the network; a last one beyond the target's is a mask, which is not added.
        target_channels: of the network.

    Raises:
        UserError: naming the option.
    """
    one_of(get_args(Output), f"{network}.", output=output)
    if adds is not None:
        expect(output == "linear", f"{network}.output", output, f"'linear' with {adds}")
        if source_channels - target_channels not in (0, 1):
            raise UserError(
                f"{network}.{adds} adds the source to the output: {source_channels} channels of the source and "
                f"{target_channels} of the target were found, equally many (and one of a mask) are expected"
            )


def check_pixels(option: str, norm: str, images: int, pixels: int, training: bool, size: str) -> None:
    """Refuse to normalize single numbers, of which nothing would be left.

    Args:
        option: the norm's option.
        norm: what it is.
        images: in the batch.
        pixels: of the smallest maps that are normalized.
        training: batch norm uses the batch.
        size: of the images, for the message.

    Raises:
        UserError: naming the size and the option.
    """
    alone = pixels == 1 and (norm == "instance" or (norm == "batch" and training and images == 1))
    if alone:
        batch = " (alone in their batch)" if norm == "batch" else ""
        raise UserError(
            f"{option}: {norm!r} was found, 'none' or larger images are expected: images of {size}{batch} come down to "
            f"maps of a single pixel, and a norm leaves nothing of one"
        )
