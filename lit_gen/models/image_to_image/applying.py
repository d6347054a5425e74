"""A network on images: with masks, of any size, in blocks, in tiles, and what a discriminator sees of it."""

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gen.core.blame import named, shown
from lit_gen.core.errors import UserError
from lit_gen.core.randomness import BLOCK, Rows
from lit_gen.models.adversarial.augment import Augmentation
from lit_gen.models.image_to_image.sizes import applied
from lit_gen.models.image_to_image.tiles import tiled
from lit_gen.protocols.images import ImagePair

PIXELS = 1 << 16
"""About the most pixels of sources that a network gets at once in evaluation."""


class Images(NamedTuple):
    """What a network changes."""

    source: Tensor
    """float (B, C, h, w)."""
    mask: Tensor | None = None
    """float (B, 1, h, w), 1 where nothing is left."""

    @property
    def together(self) -> Tensor:
        """The network's input: source, 0 in the holes, and mask, (B, C or C + 1, h, w)."""
        if self.mask is None:
            return self.source
        return torch.cat([self.source.masked_fill(self.mask > 0, 0), self.mask], 1)


def restored(
    network: nn.Module,
    images: Images,
    keep_known: bool,
    laid_out: Callable[[Tensor], Tensor] = lambda images: images,
    run: Callable[[nn.Module, Tensor], Tensor] = applied,
) -> Tensor:
    """A network's output, with the known pixels of the source where there is a mask.

    Args:
        network: see `lit_gen.models.image_to_image.module.Paired`.
        images: of any size.
        keep_known: whether known pixels are kept.
        laid_out: puts the network's input into its memory format.
        run: runs the network on images of any size.

    Raises:
        UserError: if it returns anything but images.
    """
    made = run(network, laid_out(images.together))
    if not isinstance(made, Tensor) or made.ndim != 4 or len(made) != len(images.source):
        found = f"{named(network)} returned {shown(made)}"
        raise UserError(f"model.generator: {found}, images (B, C, H, W) are expected")
    if images.mask is None or not keep_known:
        return made
    return torch.where(images.mask > 0, made, images.source.to(made.dtype))


def translated(
    network: nn.Module,
    images: Images,
    where: torch.device,
    keep_known: bool,
    laid_out: Callable[[Tensor], Tensor],
    tile: int | None = None,
    border: int | None = None,
) -> Tensor:
    """`restored` in blocks of equal shape, so that an output does not depend on the images beside it.

    Args:
        network: in evaluation mode.
        images: on any device.
        where: the network's device.
        keep_known: see `restored`.
        laid_out: see `restored`.
        tile: see `lit_gen.protocols.images.ImageTranslator`.
        border: see there.
    """
    count, _, height, width = images.source.shape
    rows = max(1, min(BLOCK, PIXELS // (height * width)))

    def run(network: nn.Module, x: Tensor) -> Tensor:
        return applied(network, x) if tile is None else tiled(network, x, tile, border)

    def block(rows_of: Tensor | None, first: int) -> Tensor | None:
        if rows_of is None:
            return None
        some = rows_of[first : first + rows].to(where)
        return torch.cat([some, some.new_zeros(rows - len(some), *some.shape[1:])])

    made = []
    for first in range(0, count, rows):
        source = block(images.source, first)
        assert source is not None
        part = Images(source, block(images.mask, first))
        made.append(restored(network, part, keep_known, laid_out, run)[: count - first])
    return torch.cat(made)


def judged(pair: ImagePair, images: Tensor, conditional: bool) -> Tensor:
    """What a discriminator sees: the source, enlarged by nearest neighbour, and the images; else the images only."""
    if not conditional:
        return images
    source = Images(pair.source, pair.mask).together
    if source.shape[2:] != images.shape[2:]:
        source = F.interpolate(source, images.shape[2:], mode="nearest")
    return torch.cat([source, images.to(source.dtype)], 1)


class Apart(Augmentation):
    """An augmentation of a source, its mask and an image that belong together: equal draws for each of them.

    So they are moved and colored alike, and no color is mixed from the channels of two images.

    Args:
        augment: of images.
        sizes: channels of each.
    """

    def __init__(self, augment: Augmentation, sizes: Sequence[int]) -> None:
        super().__init__()
        self.augment, self.sizes = augment, list(sizes)

    def forward(self, images: Tensor, random: Rows) -> Tensor:
        """See `Augmentation`; (B, C, H, W) with all channels one after the other."""
        parts = images.split(self.sizes, 1)
        return torch.cat([self.augment(part, copy.copy(random)) for part in parts], 1)  # a copy draws the same
