"""From images to features: in blocks of fixed size, in float32, and nothing else on the machine moves.

A network's output is bit-equal only for equal batch shapes, so images pass an extractor 64 at a time, the last block
padded. Which rank computes a block, and how many follow each other, then changes no bit of a feature.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from lit_gen.core.modes import exact_math
from lit_gen.core.randomness import BLOCK
from lit_gen.metrics.frechet import Gaussian
from lit_gen.protocols.images import FeatureExtractor, Features


@dataclass
class Extracted:
    """The features of a set of images, in order, on the CPU.

    Attributes:
        features: float32 (n, d).
        logits: float32 (n, K), or None where the extractor is no classifier.
    """

    features: Tensor
    logits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def gaussian(self) -> Gaussian:
        """Mean and covariance of the features."""
        return Gaussian.of(self.features)

    def __getitem__(self, rows: slice) -> "Extracted":
        return Extracted(self.features[rows], None if self.logits is None else self.logits[rows])


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


def extract(extractor: FeatureExtractor, images: Tensor, where: torch.device | None = None) -> Extracted:
    """Features of all images.

    Args:
        extractor: moved to the device if it is a module.
        images: uint8 (n, C, H, W).
        where: the device to compute on; None for the CPU.

    Returns:
        n rows, in order.
    """
    device = where or torch.device("cpu")
    place(extractor, device)
    with exact_math(device):
        return join(extract_block(extractor, block.to(device)) for block in images.split(BLOCK))


def join(blocks: Iterable[Features]) -> Extracted:
    """Blocks of features in order."""
    parts = [Features(b.features.cpu(), None if b.logits is None else b.logits.cpu()) for b in blocks]
    logits = [b.logits for b in parts if b.logits is not None]
    return Extracted(torch.cat([b.features for b in parts]), torch.cat(logits) if logits else None)
