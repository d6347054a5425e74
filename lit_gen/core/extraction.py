"""Features of images in blocks of 64, the last one padded.

A network's output is bit-equal only for equal batch shapes. So every block has the same shape, and which rank computes
it, and how many follow each other, changes no bit of a feature.
"""

import torch
from torch import Tensor, nn

from lit_gen.core.randomness import BLOCK
from lit_gen.protocols.images import FeatureExtractor, Features


def place(extractor: object, where: torch.device) -> None:
    """Move an extractor that is a module to a device."""
    if isinstance(extractor, nn.Module):
        extractor.to(where)


def extract_block(extractor: FeatureExtractor, images: Tensor) -> Features:
    """Features of at most 64 uint8 images (b, C, H, W): those of a whole block, whose other rows are black."""
    padding = images.new_zeros(BLOCK - len(images), *images.shape[1:])
    # a copy in plain order: a generator's channels_last strides would choose another algorithm, and other last bits
    made = extractor(torch.cat([images, padding]).clone(memory_format=torch.contiguous_format))
    return Features(made.features[: len(images)], None if made.logits is None else made.logits[: len(images)])
