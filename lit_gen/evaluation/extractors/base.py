"""What the extractors share: the name and the hash of the published Inception, and checks of images."""

import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.protocols.images import FeatureExtractor

INCEPTION = "inception-v3-compat"
PUBLISHED = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""SHA-256 of Inception's published weights; only numbers made with them are called FID, KID and IS."""


def check_images(extractor: FeatureExtractor, images: Tensor) -> None:
    """Refuse images that an extractor does not take.

    Raises:
        UserError: for anything but uint8 (B, C, H, W) of its channels and size.
    """
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise UserError(
            f"extractor {extractor.name}: images {images.dtype} {tuple(images.shape)} were found, torch.uint8 "
            f"(B, C, H, W) are expected"
        )
    check_shape(extractor, (images.shape[1], images.shape[2], images.shape[3]))


def check_shape(extractor: FeatureExtractor, shape: tuple[int, int, int]) -> None:
    """Refuse images of a shape (C, H, W) that an extractor does not take.

    Raises:
        UserError: says what it takes.
    """
    channels, height, width = shape
    fits = extractor.channels in (None, channels) and extractor.size in (None, (height, width))
    if not fits:
        size = "any size" if extractor.size is None else f"{extractor.size[0]}x{extractor.size[1]} pixels"
        raise UserError(
            f"extractor {extractor.name}: images of {channels} channels and {height}x{width} pixels were found, "
            f"{extractor.channels or 'any number of'} channels and {size} are expected"
        )
