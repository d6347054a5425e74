"""From images to features: in the blocks of `lit_gen.core.modes`, in float32, without changing any random state."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lit_gen.core import distributed
from lit_gen.core.modes import exact_math, extract_block, place
from lit_gen.core.randomness import BLOCK
from lit_gen.metrics.frechet import Gaussian
from lit_gen.protocols.images import FeatureExtractor, Features


@dataclass
class Extracted:
    """The features of a set of images, in order, on the CPU.

    Attributes:
        features: float32 (n, d).
        logits: float32 (n, K), or None if the extractor is not a classifier.
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
        return join(_blocks(extractor, images, device))


def _blocks(extractor: FeatureExtractor, images: Tensor, device: torch.device) -> Iterator[Features]:
    for block in images.split(BLOCK):
        yield extract_block(extractor, block.to(device))
        distributed.look()


def join(blocks: Iterable[Features]) -> Extracted:
    """Blocks of features in order."""
    parts = [Features(b.features.cpu(), None if b.logits is None else b.logits.cpu()) for b in blocks]
    logits = [b.logits for b in parts if b.logits is not None]
    return Extracted(torch.cat([b.features for b in parts]), torch.cat(logits) if logits else None)
