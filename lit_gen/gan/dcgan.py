"""DCGAN: strided convolutions, batch norm, ReLU in the generator, leaky ReLU in the discriminator.

Radford et al., 2015, https://arxiv.org/abs/1511.06434. All weights start at N(0, 0.02) as there, batch-norm scales at
N(1, 0.02). Sizes are 28 (from 7x7, two doublings), 32 and 64 (from 4x4, three and four doublings); feature maps halve
with each doubling, down to ``width`` before the image.
"""

import torch
from torch import Tensor, nn

from lit_gen.errors import UserError

__all__ = ["Discriminator", "Generator"]

_DOUBLINGS = {28: 2, 32: 3, 64: 4}  # image size -> resolution doublings


def _doublings(shape: tuple[int, int, int], width: int) -> int:
    if width < 1:
        raise UserError(f"dcgan: width {width} was found, a whole number of at least 1 is expected")
    _, height, breadth = shape
    if height != breadth or height not in _DOUBLINGS:
        raise UserError(
            f"dcgan: images of {height}x{breadth} were found, but sizes {', '.join(map(str, _DOUBLINGS))} (square) are "
            f"expected; data.resize sets the shorter "
            f"side and data.crop cuts a square, or choose another network"
        )
    return _DOUBLINGS[height]


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


class Generator(nn.Module):
    """Latents to images.

    Args:
        shape: image shape (C, H, W); taken from the data set by the command line.
        latent_dim: dimension of the latent z, drawn from N(0, I).
        width: feature maps of the last hidden layer.

    Raises:
        UserError: for a size other than 28, 32 or 64.
    """

    def __init__(self, shape: tuple[int, int, int], latent_dim: int = 100, width: int = 64) -> None:
        super().__init__()
        self.shape, self.latent_dim, self.width = tuple(shape), latent_dim, width
        doublings = _doublings(shape, width)
        start, maps = shape[1] >> doublings, width << (doublings - 1)
        layers: list[nn.Module] = [
            nn.Linear(latent_dim, maps * start * start, bias=False),
            nn.Unflatten(1, (maps, start, start)),
            nn.BatchNorm2d(maps),
            nn.ReLU(),
        ]
        for _ in range(doublings - 1):
            layers += [
                nn.ConvTranspose2d(maps, maps // 2, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(maps // 2),
                nn.ReLU(),
            ]
            maps //= 2
        layers += [nn.ConvTranspose2d(maps, shape[0], 4, stride=2, padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(_initialize)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (B, latent_dim) to images (B, C, H, W) in [-1, 1]; labels are not used."""
        images: Tensor = self.layers(z)
        return images


class Discriminator(nn.Module):
    """Images to logits, the generator's mirror image; no batch norm in its first layer.

    Args:
        shape: image shape (C, H, W); taken from the data set by the command line.
        width: feature maps of the first layer.

    Raises:
        UserError: for a size other than 28, 32 or 64.
    """

    def __init__(self, shape: tuple[int, int, int], width: int = 64) -> None:
        super().__init__()
        self.shape, self.width = tuple(shape), width
        doublings = _doublings(shape, width)
        layers: list[nn.Module] = [nn.Conv2d(shape[0], width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        maps = width
        for _ in range(doublings - 1):
            layers += [
                nn.Conv2d(maps, maps * 2, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(maps * 2),
                nn.LeakyReLU(0.2),
            ]
            maps *= 2
        end = shape[1] >> doublings
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(maps * end * end, 1))
        self.apply(_initialize)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] to logits (B,); labels are not used."""
        logits: Tensor = self.layers(x)
        return torch.squeeze(logits, 1)
