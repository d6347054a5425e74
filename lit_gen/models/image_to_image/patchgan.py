"""PatchGAN: a discriminator that judges every patch of an image, by one logit each.

Isola et al., 2017, https://arxiv.org/abs/1611.07004, section 6.1.2 (C64-C128-C256-C512 for patches of 70 pixels;
C64-C128 for 16; C64-C128 of size 1 for single pixels, the PixelGAN). Patches of 70 pixels have 30x30 logits on images
of 256x256, and 2,768,705 parameters with six channels and batch norm.
"""

from typing import get_args

from torch import Tensor, nn

from lit_gen.core.errors import UserError
from lit_gen.core.options import expect
from lit_gen.models.image_to_image.layers import Norm, check, check_pixels, initialize, normalization
from lit_gen.models.nn.normalization import apply_spectral_norm

__all__ = ["PatchGAN"]

_HALVINGS = {1: 0, 16: 1, 34: 2, 70: 3}  # of the patches' sides


class PatchGAN(nn.Module):
    """Images to one logit for each patch.

    Args:
        source_channels: of the images that a generator takes; from the data by the command line.
        target_channels: of the images that it makes; from the data by the command line.
        conditional: it sees the source, which comes first among the channels, beside the target.
        receptive: the side of a patch, in pixels: 1, 16, 34 or 70.
        width: maps of the first layer; they double with each further one.
        norm: of all layers but the first and the last: "batch", "instance" or "none".
        spectral_norm: divide all weights by their largest singular value (Miyato et al., 2018,
            https://arxiv.org/abs/1802.05957).

    Raises:
        UserError: for an option out of range.
    """

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        conditional: bool = True,
        receptive: int = 70,
        width: int = 64,
        norm: Norm = "batch",
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        self.source_channels, self.target_channels, self.conditional = source_channels, target_channels, conditional
        self.receptive, self.width, self.norm, self.spectral_norm = receptive, width, norm, spectral_norm
        counts = {"source_channels": source_channels, "target_channels": target_channels, "width": width}
        check("discriminator", get_args(Norm), norm, **counts)
        known = ", ".join(map(str, _HALVINGS))
        expect(receptive in _HALVINGS, "discriminator.receptive", receptive, f"one of {known}")
        halvings, bias = _HALVINGS[receptive], norm == "none"
        kernel, padding = (4, 1) if halvings else (1, 0)
        channels = target_channels + (source_channels if conditional else 0)
        strides = [2] * halvings + [1] if halvings else [1, 1]
        layers: list[nn.Module] = []
        for i, stride in enumerate(strides):
            maps = width << i
            layers += [nn.Conv2d(channels, maps, kernel, stride, padding, bias=i == 0 or bias)]
            layers += [normalization(norm if i else "none", maps), nn.LeakyReLU(0.2)]
            channels = maps
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, kernel, 1, padding))
        initialize(self, norm)
        if spectral_norm:
            apply_spectral_norm(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W), the source's channels first if conditional, to logits (B, h, w).

        Raises:
            UserError: for images that are too small for a logit.
        """
        height, breadth = x.shape[2:]
        least = 3 * 2 ** _HALVINGS[self.receptive] if self.receptive > 1 else 1
        if min(height, breadth) < least:
            fits = [str(r) for r, n in _HALVINGS.items() if min(height, breadth) >= (3 * 2**n if n else 1)]
            raise UserError(
                f"discriminator.receptive: patches of {self.receptive} pixels were found, images of {height}x{breadth} "
                f"leave them no logit; images of at least {least}x{least} or a receptive field of "
                f"{' or '.join(fits)} are expected"
            )
        if self.receptive == 1:  # elsewhere maps that are normalized have 2x2 pixels and more
            size = f"{height}x{breadth}"
            check_pixels("discriminator.norm", self.norm, len(x), height * breadth, self.training, size)
        logits: Tensor = self.layers(x)
        return logits.squeeze(1)
