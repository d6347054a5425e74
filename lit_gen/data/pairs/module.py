"""What data modules of pairs share: their facts, their loaders, and the protocol of evaluation."""

import warnings
from typing import Any

from torch import Tensor

from lit_gen.data.images.loaders import EvalLoader, TrainLoader
from lit_gen.data.images.module import ImageData
from lit_gen.data.module import place
from lit_gen.data.pairs.loaders import EvalPairs, TrainPairs
from lit_gen.protocols.data import Split
from lit_gen.protocols.images import ImageBatch, ImagePair


class PairData(ImageData):
    """Base of the data modules of pairs: an `ImageData` of the targets whose batches are pairs.

    ``shape`` and ``levels`` are those of a target. A subclass defines `paired`, and which batches it is made of.
    """

    source_shape: tuple[int, int, int]
    """(C, h, w) of one source."""
    masked: bool = False
    """Whether sources have holes."""
    source_levels: int | None = None
    """Levels of a pixel of a source; None where they are those of a target."""
    factor: int = 1
    """How many times larger a target is."""
    items = "pairs"

    def paired(self, batch: ImageBatch, split: Split, epoch: int | None = None) -> ImagePair:
        """Make pairs.

        Args:
            batch: what `batches_of` and `batches_for_training` yield; perhaps without rows.
            split: of which it is.
            epoch: in training; None for the pairs that are evaluated, always the same.
        """
        raise NotImplementedError

    def batches_for_training(self) -> TrainLoader:
        """The loader of what `paired` makes training pairs of."""
        return super().train_dataloader()

    def batches_of(self, split: Split, rank: int, world: int) -> EvalLoader:
        """The loader of what `paired` makes pairs for evaluation of, on the host."""
        return EvalLoader(self.split(split), rank=rank, world=world)

    def facts(self) -> dict[str, Any]:
        """See `lit_gen.protocols.data.PairSets`."""
        channels, facts = self.source_shape[0], super().facts()
        return facts | {
            "source_levels": self.source_levels or facts["levels"],
            "source_shape": self.source_shape,
            "source_channels": channels + self.masked,
            "target_channels": self.shape[0],
            "factor": self.factor,
        }

    def pairs(self, split: Split) -> EvalPairs:
        """See `lit_gen.protocols.data.PairSets`."""
        here = place(self.trainer)
        loader = self.batches_of(split, here.get("rank", 0), here.get("world", 1))
        return EvalPairs(loader, lambda batch: self.paired(batch, split), here.get("device"))

    def train_dataloader(self) -> TrainPairs:  # type: ignore[override]  # of pairs
        """Shuffled pairs, a batch for each step."""
        return TrainPairs(self.batches_for_training(), lambda batch, epoch: self.paired(batch, "train", epoch))

    def val_dataloader(self) -> EvalPairs | list[Any]:  # type: ignore[override]
        """The held-out pairs, each once."""
        return self._pairs_or_none("val")

    def test_dataloader(self) -> EvalPairs | list[Any]:  # type: ignore[override]
        """The test pairs, each once."""
        return self._pairs_or_none("test")

    predict_dataloader = test_dataloader  # type: ignore[assignment]

    def _pairs_or_none(self, split: Split) -> EvalPairs | list[Any]:
        if len(self.split(split)):
            return self.pairs(split)
        warnings.filterwarnings("ignore", message="Total length of `list`")  # Lightning says it of an empty split
        return []


def shape_of(image: Tensor) -> tuple[int, int, int]:
    """(C, H, W) of an image."""
    channels, height, width = image.shape
    return channels, height, width
