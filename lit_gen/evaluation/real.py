"""The real side of an evaluation of a data set: its reference, the floor beside each number, single classes."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.evaluation.comparison import compare, needing
from lit_gen.evaluation.features import Extracted
from lit_gen.evaluation.reference import Reference, chosen, real_reference
from lit_gen.protocols.data import Images, Split
from lit_gen.protocols.images import FeatureExtractor

FLOOR_DRAWS = 5
"""A floor is the mean over this many sets of real images, if the split has enough."""
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class Reals:
    """Real images, with which generated images are compared.

    Args:
        split_of: reads a split of a data set by its name, empty if there is none; only what is needed is read.
        split: which one is the reference.
        name: the data set's name in protocols.
        extractor: of the features.
        where: the device to compute on.
    """

    def __init__(
        self,
        split_of: Callable[[Split], Images],
        split: Split,
        name: str,
        extractor: FeatureExtractor,
        where: torch.device,
    ) -> None:
        self.split_of, self.split, self.name, self.extractor, self.where = split_of, split, name, extractor, where
        self._references: dict[int | None, Reference] = {}
        self._other: Reference | None = None
        self._floors: dict[tuple[tuple[str, ...], int, int], tuple[dict[str, float], dict[str, Any]]] = {}

    @property
    def other_split(self) -> Split | None:
        """The split whose images are new to the reference: held-out ones for ``train``, else the training images."""
        others: tuple[Split, ...] = ("val", "test") if self.split == "train" else ("train",)
        return next((name for name in others if len(self.split_of(name))), None)

    def reference(self, label: int | None = None) -> Reference:
        """All images of the reference's split, or those of one class.

        Raises:
            UserError: if fewer than two have that label.
        """
        if label not in self._references:
            whole = self.split_of(self.split)
            images, labels = whole.images, whole.labels
            if label is not None:
                if labels is None:
                    raise UserError("per_class: the data set has no labels")
                images = images[labels == label]
                if len(images) < 2:
                    raise UserError(f"per_class: {len(images)} real images of class {label} were found, 2 are expected")
            self._references[label] = self._of(images, self.split)
        return self._references[label]

    def floor(
        self, metrics: Sequence[str], count: int, draws: int = FLOOR_DRAWS
    ) -> tuple[dict[str, float], dict[str, Any] | None]:
        """The score of ``count`` real images of the other split (fewer if it has fewer), and which they are.

        No model can be expected to do better; one that does has most likely memorized its training images.
        The numbers are means over up to ``draws`` disjoint sets of this size, as far as the split has them; the
        record holds those of each. Computed once.
        """
        split = self.other_split
        if split is None:
            return {}, None
        wanted = (tuple(needing(metrics, "gaussian", "features", "pair", "logits")), count, draws)
        if wanted not in self._floors:
            images = self.split_of(split).images
            scores, record = [], dict[str, Any]()
            for draw in range(max(1, min(draws, len(images) // count))):
                others = self._of(chosen(images, count, draw), split)
                assert others.extracted is not None
                scores.append(compare(others.extracted, self.reference(), wanted[0]))
                record = record or others.record
            means = {key: math.fsum(score[key] for score in scores) / len(scores) for key in scores[0]}
            self._floors[wanted] = means, record | {"draws": scores}
        return self._floors[wanted]

    def train_and_held_out(self, metrics: Sequence[str]) -> tuple[Extracted, Extracted] | None:
        """Features of the training images and of held-out ones; None if no metric needs them.

        Raises:
            UserError: if the data set has no held-out images.
        """
        names = needing(metrics, "held_out")
        if not names:
            return None
        other = self.other_split
        if other is None or "train" not in (self.split, other):
            raise UserError(f"metrics: {names[0]} needs a train split and a held-out one")
        if self._other is None:
            self._other = self._of(self.split_of(other).images, other)
        here, there = self.reference().extracted, self._other.extracted
        assert here is not None
        assert there is not None
        return (here, there) if self.split == "train" else (there, here)

    def _of(self, images: Tensor, split: str) -> Reference:
        return real_reference(self.extractor, images, self.where, {"data": self.name, "split": split})
