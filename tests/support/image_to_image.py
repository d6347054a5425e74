"""Small networks from images to images, and what tests of them share."""

import functools
from types import MappingProxyType

import torch
from lightning import LightningDataModule
from torch import nn

from lit_gen.data.images.loaders import ImageSet
from lit_gen.models.image_to_image.module import Paired
from lit_gen.protocols.images import ImagePair


class Small(nn.Module):
    """Two convolutions; an output pixel depends on two source pixels on each side."""

    multiple, radius = 1, 2

    def __init__(self, source_channels=1, target_channels=1, factor=1, width=8, norm=nn.Identity):
        super().__init__()
        torch.manual_seed(0)
        self.source_channels, self.target_channels, self.factor = source_channels, target_channels, factor
        self.width, self.norm, self.scale = width, norm, factor
        self.layers = nn.Sequential(
            nn.Conv2d(source_channels, width, 3, padding=1),
            norm(width),
            nn.GELU(),
            nn.Conv2d(width, target_channels * factor**2, 3, padding=1),
            nn.PixelShuffle(factor),
        )

    def forward(self, x):
        return self.layers(x)


class Patches(nn.Module):
    """A logit for each fourth pixel."""

    def __init__(self, channels=2, width=8):
        super().__init__()
        torch.manual_seed(1)
        self.channels, self.width = channels, width
        self.layers = nn.Sequential(nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(), nn.Conv2d(width, 1, 4, 2, 1))

    def forward(self, x):
        return self.layers(x)[:, 0]


def build(generator=None, rate=1e-3, optimizer=torch.optim.Adam, **options):
    """Regression, or with ``discriminator`` a game."""
    made = functools.partial(optimizer, lr=rate)
    others = {"discriminator_optimizer": made} if options.get("discriminator") is not None else {}
    return Paired(Small() if generator is None else generator, **{"generator_optimizer": made, **others, **options})


class Each:
    """Batches, in order."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


class Fixed(LightningDataModule):
    """The same pairs in every step, and in validation."""

    name = "fixed"
    protocol = MappingProxyType({})

    def __init__(self, batches, mask=None, levels=256):
        super().__init__()
        self.levels = levels
        self.batches = [ImagePair(a, b, None, torch.arange(len(a)), mask) for a, b in batches]

    def facts(self):
        source, target, mask = self.batches[0].source, self.batches[0].target, self.batches[0].mask
        return {
            "shape": tuple(target.shape[1:]), "num_classes": None, "levels": self.levels, "source_levels": self.levels,
            "source_shape": tuple(source.shape[1:]), "source_channels": source.shape[1] + (mask is not None),
            "target_channels": target.shape[1], "factor": target.shape[3] // source.shape[3],
        }  # fmt: skip

    def per_step(self):
        return len(self.batches[0].source), "pairs"

    def split(self, name):
        return ImageSet(self.batches[0].target)

    def pairs(self, name):
        return iter(self.batches[:1])

    def train_dataloader(self):
        return Each(self.batches)

    def val_dataloader(self):
        return Each(self.batches[:1])
