"""Drawing generated images for a metric: in fixed blocks of global indices, over any number of processes."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from lit_gen.core import distributed
from lit_gen.core.images import quantize
from lit_gen.core.modes import extract_block, place
from lit_gen.core.randomness import BLOCK
from lit_gen.evaluation.features import Extracted
from lit_gen.evaluation.names import weights_used
from lit_gen.metrics.frechet import Gaussian, Moments
from lit_gen.protocols.images import FeatureExtractor, ImageGenerator, Weights

EXACT = 100_000
"""Up to this many images all features are gathered; beyond, only their sums (streaming)."""


def first_index(repeat: int, count: int) -> int:
    """The first index of set number ``repeat`` of ``count`` images: whole blocks after the set before."""
    return repeat * -(-count // BLOCK) * BLOCK


class Drawing:
    """Images of a model by global index, block k on rank k % world.

    Image i depends only on its index, and every block has 64 rows. So no bit of a result depends on the number of
    processes, or on the number of blocks drawn at once.

    Args:
        model: draws.
        weights: the moving average, or the raw weights.
        where: the model's device, also used for communication between processes.
        batch_size: images drawn at once, a multiple of 64.
        options: the model's own, of how it draws.

    Attributes:
        shown: the first block that this process drew, uint8 (64, C, H, W) on the CPU; None before.
    """

    def __init__(
        self, model: ImageGenerator, weights: Weights, where: torch.device, batch_size: int = 256, **options: Any
    ) -> None:
        self.model, self.weights, self.where, self.batch_size = model, weights, where, batch_size
        self.options = options
        self.shown: Tensor | None = None

    @property
    def weights_used(self) -> str:
        """The weights that were used, in words: a run may keep no moving average."""
        return weights_used(self.model, self.weights)

    @property
    def record(self) -> dict[str, Any]:
        """Where the images come from, for a protocol."""
        device = torch.cuda.get_device_name(self.where) if self.where.type == "cuda" else self.where.type
        return {"weights": self.weights_used, "device": device, **self.model.drawing_record(**self.options)}

    def blocks(self, first: int, count: int, labels: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's blocks of images ``first`` to ``first + count``.

        Every rank has the same number of blocks: the last ones may hold images beyond ``count``.

        Args:
            first: global index of the first image, a multiple of 64.
            count: images of all ranks together.
            labels: int64 (count,) for a conditional model; None for those that belong to the indices.

        Yields:
            (indices int64 (64,), images (64, C, H, W) as they come from the model).
        """
        world = distributed.world_size()
        mine = torch.arange(-(-count // (BLOCK * world))) * world + distributed.rank()
        for some in (first + BLOCK * mine).split(self.batch_size // BLOCK):
            indices = (some[:, None] + torch.arange(BLOCK)).flatten()
            wanted = None if labels is None else labels[(indices - first).clamp_max(count - 1)]
            images = self.model.sample(indices, labels=wanted, weights=self.weights, **self.options)
            if self.shown is None:
                self.shown = quantize(images[:BLOCK]).cpu()
            yield from zip(indices.split(BLOCK), images.split(BLOCK), strict=True)
            distributed.look()

    def gathered(
        self, rows: Callable[[Tensor], Tensor], first: int, count: int, labels: Tensor | None = None
    ) -> Tensor | None:
        """What ``rows`` makes of each block of images, in the order of the indices: (count, ...) on rank 0's CPU.

        Args:
            rows: images (64, C, H, W) to rows (64, ...).
            first: see `blocks`.
            count: see `blocks`.
            labels: see `blocks`.

        Returns:
            None on the other ranks.
        """
        made = distributed.together(
            lambda: torch.stack([rows(images) for _, images in self.blocks(first, count, labels)])
        )
        whole = distributed.gather_blocks(made, self.where)
        return None if whole is None else whole.flatten(0, 1)[:count]

    def features(
        self,
        extractor: FeatureExtractor,
        first: int,
        count: int,
        labels: Tensor | None = None,
        streaming: bool = False,
    ) -> Extracted | Gaussian | None:
        """Features of images ``first`` to ``first + count`` on rank 0, in streaming mode their Gaussian on every rank.

        Args:
            extractor: of the features; moved to the device if it is a module.
            first: see `blocks`.
            count: see `blocks`.
            labels: see `blocks`.
            streaming: keep only sums of the features: exact to about 1e-9, for any count.

        Returns:
            None on the other ranks, unless streaming. The features of an image that is not finite are NaN.
        """
        place(extractor, self.where)
        if streaming:
            return self._moments(extractor, first, count, labels)
        width = 0

        def rows(images: Tensor) -> Tensor:
            nonlocal width
            made = extract_block(extractor, quantize(images))
            width = made.features.shape[1]
            joined = made.features if made.logits is None else torch.cat([made.features, made.logits], dim=1)
            return joined.where(_finite(images), torch.nan)

        whole = self.gathered(rows, first, count, labels)
        if whole is None:
            return None
        return Extracted(whole[:, :width], whole[:, width:] if whole.shape[1] > width else None)

    def _moments(self, extractor: FeatureExtractor, first: int, count: int, labels: Tensor | None) -> Gaussian:
        def mine() -> Tensor:
            moments: Moments | None = None
            for indices, images in self.blocks(first, count, labels):
                features = extract_block(extractor, quantize(images)).features.where(_finite(images), torch.nan).cpu()
                moments = moments or Moments(features.shape[1])
                moments.add(features[indices < first + count])
            assert moments is not None
            return moments.flat

        return Moments.from_flat(distributed.total(distributed.together(mine), self.where)).gaussian()


def _finite(images: Tensor) -> Tensor:
    """Which images (b, C, H, W) are finite, (b, 1): the quantizer would turn NaN into black."""
    return images.flatten(1).isfinite().all(1, keepdim=True)
