"""PSNR and SSIM of pairs of images. A number without its convention says little, so each convention has its own name.

Four conventions are in use: over R, G and B or over the luma of ITU-R BT.601, on the whole image or without a border as
wide as the factor of a super-resolution.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least
from lit_gen.core.similarity import SIDE, structural_similarity

__all__ = ["Convention", "luma", "psnr", "ssim"]

WEIGHTS = (65.481, 128.553, 24.966)  # of R, G and B in [0, 1], in steps of 1/255
BLACK = 16.0


class Convention(NamedTuple):
    """Which values of an image are compared.

    Its name is a part of each number's name: ``psnr_rgb``, ``psnr_y_crop4``; of images that are not RGB ``psnr``.
    """

    luma: bool = False
    """Compare the luma of RGB images, see `luma`; else all channels."""
    crop: int = 0
    """Pixels that are left out at each border."""

    def name(self, metric: str, channels: int) -> str:
        """What ``metric`` is called of images with that many channels."""
        values = "_y" if self.luma else "_rgb" if channels == 3 else ""
        return f"{metric}{values}{f'_crop{self.crop}' if self.crop else ''}"

    def values(self, images: Tensor, peak: float) -> Tensor:
        """The values of images (B, C, H, W) that are compared.

        Returns:
            float64 (B, C or 1, H - 2 crop, W - 2 crop) on the CPU.

        Raises:
            UserError: if nothing is left, or for the luma of images that are not RGB.
        """
        at_least(0, "", crop=self.crop)
        height, width = images.shape[2:]
        if min(height, width) <= 2 * self.crop:
            raise UserError(f"crop: {self.crop} was found, which leaves nothing of {height}x{width} pixels")
        inner = images[:, :, self.crop : height - self.crop, self.crop : width - self.crop].cpu().double()
        return luma(inner, peak) if self.luma else inner


WHOLE = Convention()
"""All channels of the whole image."""


def luma(images: Tensor, peak: float = 255) -> Tensor:
    """The luma Y' of ITU-R BT.601 in studio range, as MATLAB's ``rgb2ycbcr``, not rounded: 16 to 235 of 255.

    Args:
        images: (B, 3, H, W) in [0, peak].
        peak: the largest value, 255 or 65535.

    Returns:
        float64 (B, 1, H, W) on the CPU, in units of ``peak``.

    Raises:
        UserError: for another number of channels.
    """
    if images.shape[1] != 3:
        raise UserError(f"images of {images.shape[1]} channel{'s' * (images.shape[1] > 1)} were found, luma is of RGB")
    weights = torch.tensor(WEIGHTS, dtype=torch.double).view(1, 3, 1, 1)
    return (BLACK + (images.cpu().double() / peak * weights).sum(1, keepdim=True)) * (peak / 255)


def psnr(
    made: Tensor,
    reference: Tensor,
    peak: float = 255,
    convention: Convention = WHOLE,
    mask: Tensor | None = None,
) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB: 10 log10(peak^2 / MSE), infinite for equal images.

    The number of a set is the mean over its images.

    Args:
        made: (B, C, H, W) in [0, peak], quantized as the file would be.
        reference: the same shape.
        peak: the largest value that a pixel can have: 255 of 8 bits, 65535 of 16.
        convention: which values count.
        mask: bool (B, 1, H, W), pixels that count; None for all. An image without one has NaN.

    Returns:
        float64 (B,) on the CPU.

    Raises:
        UserError: for shapes that differ, or a convention that does not fit.
    """
    a, b = _pair(made, reference, peak, convention)
    squares = (a - b).square()
    if mask is None:
        error = squares.flatten(1).mean(1)
    else:
        counted = convention._replace(luma=False).values(mask, 1).expand_as(squares)
        error = (squares * counted).flatten(1).sum(1) / counted.flatten(1).sum(1)
    return 10 * (peak**2 / error).log10()


def ssim(made: Tensor, reference: Tensor, peak: float = 255, convention: Convention = WHOLE) -> Tensor:
    """Structural similarity of each image, see `lit_gen.core.similarity`; Wang et al., 2004.

    Args:
        made: (B, C, H, W) in [0, peak], quantized as the file would be; at least 11 x 11 pixels.
        reference: the same shape.
        peak: the largest value that a pixel can have.
        convention: which values count.

    Returns:
        float64 (B,) on the CPU, at most 1.

    Raises:
        UserError: for shapes that differ, fewer pixels than the window has, or a convention that does not fit.
    """
    a, b = _pair(made, reference, peak, convention)
    if min(a.shape[2:]) < SIDE:
        height, width = a.shape[2:]
        raise UserError(f"SSIM: {height}x{width} pixels were found, its window has {SIDE}x{SIDE}")
    return structural_similarity(a, b, peak)


def _pair(made: Tensor, reference: Tensor, peak: float, convention: Convention) -> tuple[Tensor, Tensor]:
    if made.shape != reference.shape or made.ndim != 4:
        raise UserError(
            f"pairs of images: shapes {tuple(made.shape)} and {tuple(reference.shape)} were found, twice the same "
            f"(B, C, H, W) is expected"
        )
    return convention.values(made, peak), convention.values(reference, peak)
