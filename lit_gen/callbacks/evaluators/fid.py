"""The Frechet inception distance and related metrics during training: exact at any world size.

Every number is computed from the same features: images drawn by global index, made uint8, passed through one feature
extractor in blocks of 64, gathered in the order of their indices. docs/metrics.md has the protocol.
"""

from pathlib import Path
from typing import Any, cast

import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn

from lit_gen.callbacks.evaluators.images import ImageEvaluator
from lit_gen.core import data as datasets
from lit_gen.core import distributed
from lit_gen.core.errors import UserError, under
from lit_gen.core.options import at_least, expect
from lit_gen.evaluation.comparison import METRICS, check_logits, check_metrics, needing
from lit_gen.evaluation.extractors.base import check_shape
from lit_gen.evaluation.extractors.load import load_extractor
from lit_gen.evaluation.features import extract
from lit_gen.evaluation.generated import EXACT, Drawing
from lit_gen.evaluation.images import Scorer
from lit_gen.evaluation.names import extractor_named, names_of, thousands
from lit_gen.evaluation.real import FLOOR_DRAWS, SPLITS, Reals
from lit_gen.evaluation.reference import Reference, published_statistics
from lit_gen.evaluation.result import Result
from lit_gen.protocols.data import ImageSets, Split
from lit_gen.protocols.images import FeatureExtractor, Weights


class FID(ImageEvaluator):
    """Frechet distance, and on request kernel distance, Inception Score, precision and recall, density and coverage.

    Named ``val/fid10k`` with the published Inception weights, ``val/fd10k_lenet-mnist`` with another extractor.

    Args:
        extractor: ``inception-v3-compat``, ``lenet-mnist``, ``lenet-fashion-mnist``, ``lenet-digits8``, a ``.pt2`` or
            TorchScript file, or a module; see `lit_gen.evaluation.extractors.load`.
        metrics: some of fid, kid, is, prc (precision and recall), dc (density and coverage), memorization.
        count: generated images.
        every: steps between two evaluations; 0 for none by steps.
        every_epochs: epochs between two evaluations; 0 for none by epochs.
        at_end: evaluate after the last step too.
        reference: the real images: the data set's train, val or test split, or an ``.npz`` with mu and sigma.
        floor: also measure the same number of real images of another split: what a perfect model would score.
        weights: the moving average, or the raw weights.
        repeats: number of sets of images, each from other latents; mean and minimum are then reported, by their names.
        per_class: for a conditional model, also compare this many images of each class with the real ones of the class.
        batch_size: images drawn at once, a multiple of 64; it changes memory and speed, but no bit of a result.
        streaming: keep sums of features instead of features, which gives only fid; null: beyond 100,000 images.
        extractor_weights: file with the weights of ``inception-v3-compat``; null downloads them.
        extractor_hash: SHA-256 that the extractor's weights must have, or its first digits; null for any.

    Raises:
        UserError: for an option out of range.
    """

    suffix = ""
    """A subclass with another source of images puts this after the names of the numbers."""
    floor_draws = FLOOR_DRAWS
    """The floor is the mean over at most this many sets of real images."""

    def __init__(
        self,
        extractor: str | nn.Module = "inception-v3-compat",
        metrics: list[str] = ["fid"],  # noqa: B006  never changed; the command line shows it
        count: int = 10_000,
        every: int = 0,
        every_epochs: int = 0,
        at_end: bool = True,
        reference: str = "train",
        floor: bool = True,
        weights: Weights = "ema",
        repeats: int = 1,
        per_class: int = 0,
        batch_size: int = 256,
        streaming: bool | None = None,
        extractor_weights: str | None = None,
        extractor_hash: str | None = None,
    ) -> None:
        super().__init__(every, every_epochs, at_end, weights, count, batch_size)
        at_least(1, f"{self.option}.", repeats=repeats)
        expect(per_class >= 0 and per_class != 1, f"{self.option}.per_class", per_class, "0, or at least 2 images,")
        self.streaming = count > EXACT if streaming is None else streaming
        self.metrics = [m for m in METRICS if m in metrics]
        with under(f"{self.option}."):
            check_metrics(metrics, self.streaming, None)
        self.extractor, self.extractor_weights, self.extractor_hash = extractor, extractor_weights, extractor_hash
        self.reference, self.floor, self.repeats, self.per_class = reference, floor, repeats, per_class
        self._extractor: FeatureExtractor | None = None
        self._real: Reals | Reference | None = None

    def announced(self, data: Any) -> list[str]:
        """See `Evaluator`."""
        suffix = self.suffix + ("_raw" if self.weights == "raw" else "")
        with under(f"{self.option}."):
            extractor = extractor_named(self.extractor, self.extractor_weights)
        return names_of(self.metrics, extractor, self.count, suffix, self.repeats, self.per_class)

    # ---- before the first step

    def prepare(self, trainer: Trainer, module: LightningModule) -> None:
        """Load the extractor, and check it and the options against model and data."""
        with under(f"{self.option}."):
            distributed.from_first(self._load)  # one process downloads
            distributed.together(self._load)
        assert self._extractor is not None
        self.title = f"{self._extractor.name}-{thousands(self.count)}{self.suffix.replace('_', '-')}"
        self.title += "-raw" if self.weights == "raw" else ""
        self._real = None
        data = datasets.data_of(trainer)
        hint = f"; --{self.option} false leaves this evaluation out"
        shape = data.facts().get("shape")
        if shape is not None:
            if tuple(shape) == (2, 1, 1):
                raise UserError(
                    f"{self.option}: {datasets.kind_of(data)} holds points, no pictures; Modes is for those{hint}"
                )
            with under(f"{self.option}.", hint):
                check_shape(self._extractor, shape)
        if self.per_class and getattr(module, "num_classes", None) is None:
            raise UserError(f"{self.option}.per_class: the model is unconditional, it draws no class on request")
        if self.reference not in SPLITS:
            with under(f"{self.option}."):
                self._real = published_statistics(Path(self.reference))
                check_metrics(self.metrics, self.streaming, self._real)
            if self.per_class:
                raise UserError(f"{self.option}.per_class: {self.reference} holds statistics of all classes together")
        elif not datasets.has_images(data):
            raise UserError(f"{self.option}.reference: the data module has no splits; name an .npz with mu and sigma")
        else:
            self._check_splits(data, hint)
        if shape is not None:
            self._try_out(torch.zeros(2, *shape, dtype=torch.uint8))

    def _check_splits(self, data: ImageSets, hint: str) -> None:
        real = data.split(cast(Split, self.reference))
        if not len(real):
            raise UserError(f"{self.option}.reference: the data set has no {self.reference} split{hint}")
        if self.per_class and (real.labels is None or int(torch.bincount(real.labels).min()) < 2):
            raise UserError(f"{self.option}.per_class: two real images of each class are expected, with labels")
        if names := needing(self.metrics, "held_out"):
            others: tuple[Split, ...] = ("val", "test") if self.reference == "train" else ("train",)
            if not any(len(data.split(name)) for name in others):
                raise UserError(f"{self.option}.metrics: {names[0]} needs a train split and a held-out one{hint}")

    def _try_out(self, images: Tensor) -> None:
        """Find out before the first step whether the extractor gives what the metrics need."""
        assert self._extractor is not None
        known = getattr(self._extractor, "dim", None)  # a block of Inception takes a minute on a CPU
        made = None if known else extract(self._extractor, images)
        if made is not None:
            with under(f"{self.option}."):
                check_logits(self.metrics, made)
        given = known if made is None else made.features.shape[1]
        if isinstance(self._real, Reference) and len(self._real.gaussian.mean) != given:
            found = f"statistics of {len(self._real.gaussian.mean)} features"
            raise UserError(f"{self.option}.reference: {self.reference} holds {found}, the extractor gives {given}")

    def _load(self) -> None:
        if self._extractor is None:
            self._extractor = load_extractor(self.extractor, self.extractor_weights, self.extractor_hash)

    # ---- the evaluation

    def measure(self, trainer: Trainer, module: LightningModule, drawing: Drawing) -> Result:
        """Draw and extract on all ranks, compare on rank 0."""
        assert self._extractor is not None
        if self._real is None:
            data = datasets.images_of(trainer)
            self._real = Reals(data.split, cast(Split, self.reference), data.name, self._extractor, module.device)
        scorer = Scorer(
            self._extractor, self._real, self.metrics, self.suffix, self.floor, f"{self.option}: ", self.floor_draws
        )
        kept = {"features_kept": "sums (streaming)" if self.streaming else "all (exact)"}
        return scorer.drawn(drawing, self.count, self.repeats, self.streaming, self.per_class, kept)
