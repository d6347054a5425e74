"""Mode coverage during training: how many modes of the data the samples hit, and how evenly."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from lit_gen.callbacks.evaluators.images import ImageEvaluator
from lit_gen.core import data as datasets
from lit_gen.core import distributed
from lit_gen.core.errors import UserError, under
from lit_gen.core.images import quantize
from lit_gen.core.modes import place
from lit_gen.evaluation.extractors.lenet import SHIPPED
from lit_gen.evaluation.extractors.load import load_extractor
from lit_gen.evaluation.generated import Drawing
from lit_gen.evaluation.names import extractor_named, suffix_of, thousands
from lit_gen.evaluation.result import Result, versions
from lit_gen.metrics.modes import class_coverage, mixture_coverage, stacked_classes
from lit_gen.protocols.data import Mixture
from lit_gen.protocols.images import FeatureExtractor, Weights


class Modes(ImageEvaluator):
    """Modes found, of a two-dimensional mixture or of stacked MNIST, as PacGAN counts them.

    For a mixture ``val/modes2500``, ``val/high_quality2500`` (the share of samples within 3 sigma of a mode) and
    ``val/reverse_kl2500``; for stacked MNIST ``val/modes26k_lenet-mnist`` of 1,000 and ``val/kl26k_lenet-mnist``. See
    `lit_gen.metrics.modes`. The floors are the numbers of the same count of real held-out samples.

    Args:
        count: generated samples.
        every: steps between two evaluations; 0 for none by steps.
        every_epochs: epochs between two evaluations; 0 for none by epochs.
        at_end: evaluate after the last step too.
        weights: the moving average, or the raw weights.
        classifier: recognizes the digits of stacked MNIST.
        batch_size: samples drawn at once, a multiple of 64; it changes memory and speed, but no bit of a result.

    Raises:
        UserError: for an option out of range.
    """

    def __init__(
        self,
        count: int = 2500,
        every: int = 0,
        every_epochs: int = 0,
        at_end: bool = True,
        weights: Weights = "ema",
        classifier: str = "lenet-mnist",
        batch_size: int = 256,
    ) -> None:
        super().__init__(every, every_epochs, at_end, weights, count, batch_size)
        self.classifier = classifier
        self._extractor: FeatureExtractor | None = None
        self._suffix = ""
        self._floors: dict[str, float] | None = None

    def announced(self, data: Any) -> list[str]:
        """See `Evaluator`."""
        n, suffix = thousands(self.count), suffix_of(self.weights)
        if isinstance(data, Mixture):
            return [f"{key}{n}{suffix}" for key in ("modes", "high_quality", "reverse_kl")]
        with under(f"{self.option}.classifier: "):
            name = extractor_named(self.classifier).name
        return [f"{key}{n}_{name}{suffix}" for key in ("modes", "kl")]

    def prepare(self, trainer: Trainer, module: LightningModule) -> None:
        """Load the classifier if one is needed.

        Raises:
            UserError: for data without modes that can be counted.
        """
        self._suffix = suffix_of(self.weights)
        self.title = f"modes-{thousands(self.count)}" + self._suffix.replace("_", "-")
        self._floors = None
        data = datasets.data_of(trainer)
        if isinstance(data, Mixture):
            return
        facts = data.facts()
        if (facts.get("shape"), facts.get("num_classes")) != ((3, 28, 28), 1000):
            kind = datasets.kind_of(data)
            raise UserError(f"{self.option}: {kind} has no modes to count; Toy2D or StackedMNIST is expected")
        with under(f"{self.option}.classifier: "):
            distributed.from_first(self._load)  # one process downloads
            distributed.together(self._load)

    def _load(self) -> None:
        if self._extractor is None:
            self._extractor = load_extractor(self.classifier)

    def measure(self, trainer: Trainer, module: LightningModule, drawing: Drawing) -> Result:
        """Draw on all ranks, count on rank 0."""
        data = datasets.images_of(trainer)
        place(self._extractor, module.device)
        samples = drawing.gathered(self._rows, 0, self.count)
        real = data.split("val").images[: self.count]
        values = distributed.from_first(lambda: self._coverage(data, samples, self._suffix))
        if self._floors is None:
            self._floors = distributed.from_first(
                lambda: self._coverage(data, self._rows(real.to(module.device)).cpu())
            )
        record: dict[str, Any] = {
            "metrics": {"modes": {}},
            "count": self.count,
            "real_count": len(real),
            **drawing.record,
            "reference": data.protocol,
            "versions": versions(),
        }
        if self._extractor is not None:
            record["classifier"] = {"name": self._extractor.name, "weights_sha256": self._extractor.weights}
            if self._extractor.name in SHIPPED:
                record["classifier"]["accuracy"] = SHIPPED[self._extractor.name].accuracy
        return Result(values, self._floors, record)

    def _rows(self, images: Tensor) -> Tensor:
        """Points as they are; the class of stacked digits, -1 for images that are not finite."""
        if self._extractor is None:
            return images
        if images.dtype == torch.uint8:
            return stacked_classes(images, self._extractor)
        return stacked_classes(quantize(images), self._extractor).where(images.flatten(1).isfinite().all(1), -1)

    def _coverage(self, data: Any, samples: Tensor | None, suffix: str = "") -> dict[str, float]:
        assert samples is not None
        if self._extractor is not None and (bad := int((samples < 0).sum())):
            raise UserError(f"{self.option}: {bad} of {len(samples)} generated images are NaN or infinite")
        n = thousands(len(samples))
        if isinstance(data, Mixture):
            modes, high_quality, reverse_kl = mixture_coverage(samples, data.centres, data.sigma)
            values = {f"modes{n}": float(modes), f"high_quality{n}": high_quality, f"reverse_kl{n}": reverse_kl}
        else:
            assert self._extractor is not None
            found, name = class_coverage(samples, data.facts()["num_classes"]), self._extractor.name
            values = {f"modes{n}_{name}": float(found.modes), f"kl{n}_{name}": found.kl}
        return {f"{key}{suffix}": value for key, value in values.items()}
