"""Augmentations of what the discriminator sees: real and generated images alike, differentiably.

With few images the discriminator memorizes them. Random transforms of its input delay that, and the generator does not
learn the transforms as long as they can be distinguished from the images. Each is an `Augmentation`:
``augment(images, random)`` keeps the shape, runs the whole batch at once and can be differentiated twice with respect
to the images, so that gradient penalties pass through it. All draws come from ``random``: the same at any world size.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lit_gen.core.errors import UserError, nearest
from lit_gen.core.options import not_negative, within
from lit_gen.core.randomness import Rows
from lit_gen.models.adversarial import warp

__all__ = ["Augmentation", "DiffAugment", "Identity", "InstanceNoise"]


class Augmentation(nn.Module):
    """Images (B, C, H, W) in [-1, 1] to augmented images of that shape, data type and device."""

    def forward(self, images: Tensor, random: Rows) -> Tensor:
        """Augment each image by its own draws.

        Args:
            images: (B, C, H, W) in [-1, 1]; changes of color may leave the range.
            random: draws for these rows, only for this call.
        """
        raise NotImplementedError

    def observe(self, real_sign: Tensor, images: int, update: int) -> None:
        """Learn from one update of the discriminator; by default nothing.

        Args:
            real_sign: scalar, the mean sign of the logits of real images over all ranks.
            images: number of real images in the update, over all ranks.
            update: number of updates so far, from 1.
        """


class Identity(Augmentation):
    """No augmentation."""

    def forward(self, images: Tensor, random: Rows) -> Tensor:
        """Images (B, C, H, W) as they are."""
        return images


class InstanceNoise(Augmentation):
    """Normal noise on every image or point, so that the two distributions overlap from the start.

    Sønderby et al., 2016, https://arxiv.org/abs/1610.04490. A schedule for ``augment.sigma`` lets it fade.

    Args:
        sigma: its standard deviation, in the units of images in [-1, 1] or of the points.

    Raises:
        UserError: for a negative ``sigma``.
    """

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__()
        not_negative("augment.", sigma=sigma)
        self.sigma = sigma

    def forward(self, images: Tensor, random: Rows) -> Tensor:
        """Images (B, C, H, W) plus N(0, sigma^2)."""
        draw = random  # the name says what it is: a draw with its own generator
        return images + self.sigma * draw.normal(*images.shape).to(images.dtype)


def widened(images: Tensor) -> Tensor:
    """The images (B, C, H, W) in float32 at least: half precision would round positions and colors."""
    if images.ndim != 4 or tuple(images.shape[2:]) == (1, 1):
        raise UserError(f"augment: images of shape (C, H, W) are expected; not points, as {tuple(images.shape[1:])} is")
    return images.to(torch.promote_types(images.dtype, torch.float32))


def brightness(x: Tensor, draw: Rows) -> Tensor:
    """Images (B, C, H, W) plus U(-0.5, 0.5)."""
    return x + (draw.uniform(len(x), 1, 1, 1) - 0.5)


def saturation(x: Tensor, draw: Rows) -> Tensor:
    """Images (B, C, H, W), each pixel's distance from its mean over channels times U(0, 2)."""
    mean = x.mean(1, keepdim=True)
    return (x - mean) * (2 * draw.uniform(len(x), 1, 1, 1)) + mean


def contrast(x: Tensor, draw: Rows) -> Tensor:
    """Images (B, C, H, W), the distance from each image's mean times U(0.5, 1.5)."""
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (draw.uniform(len(x), 1, 1, 1) + 0.5) + mean


def translate(x: Tensor, draw: Rows, share: float) -> Tensor:
    """Images (B, C, H, W) shifted by whole pixels, up to ``share`` of each side; zeros come in."""
    reach = [int(size * share + 0.5) for size in x.shape[2:]]
    u = draw.uniform(len(x), 2)
    down, right = (((2 * r + 1) * u[:, i]).floor().long() - r for i, r in enumerate(reach))
    return warp.shift(x, down, right)


def cut_out(x: Tensor, draw: Rows, share: float) -> Tensor:
    """Images (B, C, H, W) with a rectangle of ``share`` of each side set to zero, its center anywhere."""
    cut = [int(size * share + 0.5) for size in x.shape[2:]]
    u = draw.uniform(len(x), 2)
    top, left = (((x.shape[2 + i] + 1 - c % 2) * u[:, i]).floor() - c // 2 for i, c in enumerate(cut))
    return warp.cut_out(x, top, left, *cut)


class DiffAugment(Augmentation):
    """Differentiable augmentation: fixed transforms, applied to every image.

    Zhao et al., 2020, https://arxiv.org/abs/2006.10738, as in the authors' code: "color" is brightness + U(-0.5, 0.5),
    then saturation x U(0, 2) about the mean over channels, then contrast x U(0.5, 1.5) about the image's mean. Zeros
    fill what translation and cutout leave; in [-1, 1] these are grey.

    Args:
        policy: which transforms, in that order, separated by commas; "" for none.
        translation: largest shift as a share of the image's side, in [0, 1].
        cutout: side of the cut as a share of the image's side, in [0, 1].
    """

    def __init__(
        self, policy: str = "color,translation,cutout", translation: float = 0.125, cutout: float = 0.5
    ) -> None:
        super().__init__()
        self.policy, self.translation, self.cutout = policy, translation, cutout
        known: dict[str, list[Callable[[Tensor, Rows], Tensor]]] = {
            "color": [brightness, saturation, contrast],
            "translation": [functools.partial(translate, share=translation)],
            "cutout": [functools.partial(cut_out, share=cutout)],
        }
        names = [name.strip() for name in policy.split(",") if name.strip()]
        for name in names:
            if name not in known:
                raise UserError(
                    f"augment.policy: {name!r} was found, some of {', '.join(known)} are expected{nearest(name, known)}"
                )
        within("[0, 1]", "augment.", translation=translation, cutout=cutout)
        self.transforms = [transform for name in names for transform in known[name]]

    def forward(self, images: Tensor, random: Rows) -> Tensor:
        """Images (B, C, H, W), with any number of channels, to transformed images of that shape."""
        pixels = widened(images)
        for transform in self.transforms:
            pixels = transform(pixels, random)
        return pixels.to(images.dtype)
