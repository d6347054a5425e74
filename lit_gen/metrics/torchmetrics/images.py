"""Metrics of two sets of images, through the features of an extractor."""

from typing import Any

import torch
from torch import Tensor

from lit_gen.core.modes import exact_math, extract_block, place
from lit_gen.core.randomness import BLOCK
from lit_gen.metrics.frechet import Gaussian, frechet_distance
from lit_gen.metrics.kernel import SUBSET_SIZE, SUBSETS, kernel_distance
from lit_gen.metrics.neighbors import PRECISION_NEIGHBORS, precision_recall
from lit_gen.metrics.torchmetrics.rows import Rows, scalar
from lit_gen.protocols.images import FeatureExtractor


class _Features(Rows):
    """Base of the metrics of two sets of images.

    Args:
        extractor: of the features: `lit_gen.evaluation.extractors.load.load_extractor` makes one of a name, a file or
            a module. It moves to the device of the images, and stays out of ``state_dict``.
        **options: of `torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(self, extractor: FeatureExtractor, **options: Any) -> None:
        super().__init__("generated", "real", **options)
        self._extractor = (extractor,)  # in a tuple: its weights do not belong in a checkpoint

    def update(self, images: Tensor, real: bool, indices: Tensor | None = None) -> None:
        """Extract and keep the features of some images.

        Args:
            images: uint8 (b, C, H, W).
            real: whether they are real ones.
            indices: int64 (b,), each image's place in its set, from 0.

        Raises:
            UserError: for images that the extractor does not take, or indices of another shape.
        """
        (extractor,) = self._extractor
        place(extractor, images.device)
        with exact_math(images.device):
            features = torch.cat([extract_block(extractor, block).features for block in images.split(BLOCK)])
        self.keep("real" if real else "generated", features, indices)


class FrechetDistance(_Features):
    """`lit_gen.metrics.frechet.frechet_distance`, https://arxiv.org/abs/1706.08500."""

    def compute(self) -> Tensor:
        """The distance, float64 on the CPU."""
        return scalar(frechet_distance(Gaussian.of(self.rows("generated")), Gaussian.of(self.rows("real"))))


class KernelDistance(_Features):
    """`lit_gen.metrics.kernel.kernel_distance`, https://arxiv.org/abs/1801.01401.

    Args:
        extractor: of the features.
        subsets: how many random subsets.
        subset_size: their size.
        **options: of `torchmetrics.Metric`.
    """

    def __init__(
        self, extractor: FeatureExtractor, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE, **options: Any
    ) -> None:
        super().__init__(extractor, **options)
        self.subsets, self.subset_size = subsets, subset_size

    def compute(self) -> dict[str, Tensor]:
        """``mean`` and ``std`` over the subsets, float64 on the CPU; without ``std`` if there is only one subset."""
        found = kernel_distance(self.rows("generated"), self.rows("real"), self.subsets, self.subset_size)
        return {"mean": scalar(found.mean)} | ({} if found.std is None else {"std": scalar(found.std)})


class PrecisionRecall(_Features):
    """`lit_gen.metrics.neighbors.precision_recall`, https://arxiv.org/abs/1904.06991.

    Args:
        extractor: of the features.
        k: which neighbor a ball reaches.
        **options: of `torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(self, extractor: FeatureExtractor, k: int = PRECISION_NEIGHBORS, **options: Any) -> None:
        super().__init__(extractor, **options)
        self.k = k

    def compute(self) -> dict[str, Tensor]:
        """``precision`` and ``recall``, float64 on the CPU."""
        found = precision_recall(self.rows("generated"), self.rows("real"), self.k)
        return {name: scalar(value) for name, value in found._asdict().items()}
