"""Scoring images: the one assembly behind the callback `FID` and the command ``evaluate``, so that their numbers agree.

Sets of images, drawn by a model or given, become features. These are compared with the real side; the numbers get their
public names, floors, and the protocol of how they came about.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lit_gen.core import distributed
from lit_gen.core.errors import under
from lit_gen.core.modes import exact_math
from lit_gen.evaluation.comparison import compare
from lit_gen.evaluation.features import Extracted, extract
from lit_gen.evaluation.generated import Drawing, first_index
from lit_gen.evaluation.names import named, public_name, summary
from lit_gen.evaluation.real import FLOOR_DRAWS, Reals
from lit_gen.evaluation.reference import Reference, fingerprint
from lit_gen.evaluation.result import Result, protocol
from lit_gen.metrics.frechet import Gaussian
from lit_gen.protocols.images import FeatureExtractor


@dataclass(frozen=True)
class Scorer:
    """How images are scored; `drawn` and `given` say which images.

    Attributes:
        extractor: of the features.
        real: the real side: the images of a data set, or published statistics.
        metrics: some of `lit_gen.evaluation.comparison.METRICS`.
        suffix: put after the public names if the images are not plain samples: ``_reconstructions``.
        floor: score real images of another split too.
        prefix: put before the sentence of an error in a comparison: the option that it is about.
        floor_draws: the floor is the mean over at most this many sets of real images.
    """

    extractor: FeatureExtractor
    real: Reals | Reference
    metrics: Sequence[str]
    suffix: str = ""
    floor: bool = True
    prefix: str = ""
    floor_draws: int = FLOOR_DRAWS

    def drawn(
        self,
        drawing: Drawing,
        count: int,
        repeats: int = 1,
        streaming: bool = False,
        per_class: int = 0,
        record: Mapping[str, Any] | None = None,
    ) -> Result:
        """Score images of a model. Called on every rank: all draw and extract, rank 0 compares.

        Args:
            drawing: draws the images.
            count: images of a set.
            repeats: sets of images; mean and minimum are then reported.
            streaming: keep sums of the features only.
            per_class: images of each class that are compared with the real ones of that class; 0 for none.
            record: further entries of the protocol.

        Returns:
            The same on every rank.

        Raises:
            UserError: for features that a metric cannot take, or a reference without what a metric needs.
        """
        distributed.from_first(self._load_real)  # its errors come before anything is drawn
        raw = "_raw" if drawing.weights == "raw" else ""
        firsts, sets = [first_index(repeat, count) for repeat in range(repeats)], []
        for first in firsts:
            with exact_math(drawing.where):
                generated = drawing.features(self.extractor, first, count, None, streaming)
            sets.append(distributed.from_first(functools.partial(self._compare, generated, count, raw)))
        of_drawing = {"first_indices": firsts, **(record or {}), **drawing.record}
        result = distributed.from_first(lambda: self._result(sets, count, of_drawing))
        if per_class:
            distances = self._class_distances(drawing, per_class)
            name = f"intra_{public_name('fd', per_class, self.extractor)}{self.suffix}{raw}"
            result.values[name] = sum(distances) / len(distances)
            result.protocol["per_class"] = {"count": per_class, "distances": distances}
        return result

    def given(self, images: Tensor, where: torch.device, record: Mapping[str, Any] | None = None) -> Result:
        """Score images as they are, in one process.

        Args:
            images: uint8 (n, C, H, W).
            where: the device to compute on.
            record: further entries of the protocol.

        Raises:
            UserError: as `drawn`.
        """
        self._load_real()
        scores = self._compare(extract(self.extractor, images, where), len(images))
        return self._result([scores], len(images), {**(record or {}), "fingerprint": fingerprint(images)})

    def _load_real(self) -> None:
        """Compute or read the features of the real images, so that `_real_side` has them."""
        with under(self.prefix):
            self._real_side()

    def _real_side(self) -> tuple[Reference, tuple[Extracted, Extracted] | None]:
        """The reference, and features of training and held-out images if a metric needs them."""
        if isinstance(self.real, Reference):
            return self.real, None
        return self.real.reference(), self.real.train_and_held_out(self.metrics)

    def _compare(self, generated: Extracted | Gaussian | None, count: int, raw: str = "") -> dict[str, float]:
        """The numbers of one set by their public names; on rank 0."""
        assert generated is not None
        with under(self.prefix):
            reference, held_out = self._real_side()
            values = compare(generated, reference, self.metrics, held_out)
        return named(values, count, self.extractor, self.suffix + raw)

    def _class_distances(self, drawing: Drawing, count: int) -> list[float]:
        """The Fréchet distance of each class, ``count`` generated images against the real ones; on every rank."""
        model: Any = drawing.model
        real = self.real
        assert isinstance(real, Reals)

        def distance(generated: Extracted | Gaussian | None, label: int) -> float:
            assert generated is not None
            return compare(generated, real.reference(label), ["fid"])["fd"]

        distances = []
        for label in range(model.num_classes):
            with exact_math(drawing.where):
                generated = drawing.features(self.extractor, 0, count, torch.full((count,), label))
            distances.append(distributed.from_first(functools.partial(distance, generated, label)))
        return distances

    def _result(self, sets: Sequence[dict[str, float]], count: int, record: Mapping[str, Any]) -> Result:
        """Numbers, floors and protocol of sets of ``count`` images each; on rank 0."""
        reference, _ = self._real_side()
        record = protocol(self.extractor, reference, self.metrics, count) | dict(record)
        if len(sets) > 1:
            record["repeats"] = list(sets)
        floors: dict[str, float] = {}
        if self.floor and isinstance(self.real, Reals):
            scores, of_floor = self.real.floor(self.metrics, count, self.floor_draws)
            if of_floor is not None:
                named_so = functools.partial(
                    named, count=of_floor["count"], extractor=self.extractor, suffix=self.suffix
                )
                floors, each = named_so(scores), [named_so(draw) for draw in of_floor["draws"]]
                of_floor = of_floor | {"draws": {name: [draw[name] for draw in each] for name in floors}}
            record["floor"] = of_floor
        return Result(summary(sets) if len(sets) > 1 else dict(sets[0]), floors, record)
