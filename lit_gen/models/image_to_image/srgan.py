"""SRGAN's discriminator: convolutions as in VGG, every second one of which halves the resolution.

Ledig et al., 2017, https://arxiv.org/abs/1609.04802, figure 4. The maps' mean over all pixels takes the place of a
vector of all of them, so that it takes images of any size.
"""

from typing import Literal

from torch import Tensor, nn

from lit_gen.models.image_to_image.layers import check, check_pixels, initialize, normalization
from lit_gen.models.nn.normalization import apply_spectral_norm

__all__ = ["Discriminator"]


class Discriminator(nn.Module):
    """Images to one logit each.

    Args:
        source_channels: of the images that a generator takes; from the data by the command line.
        target_channels: of the images that it makes; from the data by the command line.
        conditional: it sees the source, which comes first among the channels, beside the target; SRGAN's does not.
        width: maps of the first two layers; they double with every two further ones, up to eight times as many, and
            sixteen times as many numbers lie before the logit.
        norm: of all convolutions but the first: "batch" or "none".
        spectral_norm: divide all weights by their largest singular value (Miyato et al., 2018,
            https://arxiv.org/abs/1802.05957).

    Raises:
        UserError: for an option out of range.
    """

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        conditional: bool = False,
        width: int = 64,
        norm: Literal["batch", "none"] = "batch",
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        self.source_channels, self.target_channels, self.conditional = source_channels, target_channels, conditional
        self.width, self.norm, self.spectral_norm = width, norm, spectral_norm
        counts = {"source_channels": source_channels, "target_channels": target_channels, "width": width}
        check("discriminator", ("batch", "none"), norm, **counts)
        maps = target_channels + (source_channels if conditional else 0)
        layers: list[nn.Module] = []
        for i in range(8):
            inputs, maps = maps, width << i // 2
            layers += [nn.Conv2d(inputs, maps, 3, 1 + i % 2, 1, bias=i == 0 or norm == "none")]
            layers += [normalization(norm if i else "none", maps), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(maps, 2 * maps), nn.LeakyReLU(0.2), nn.Linear(2 * maps, 1))
        initialize(self, norm)
        if spectral_norm:
            apply_spectral_norm(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W), the source's channels first if conditional, to logits (B,).

        Raises:
            UserError: for images that come down to a single pixel, alone in their batch, with batch norm.
        """
        height, breadth = x.shape[2:]
        pixels = -(-height // 16) * -(-breadth // 16)
        check_pixels("discriminator.norm", self.norm, len(x), pixels, self.training, f"{height}x{breadth}")
        logits: Tensor = self.head(self.layers(x).mean([2, 3]))
        return logits.squeeze(1)
