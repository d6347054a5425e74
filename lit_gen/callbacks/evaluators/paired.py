"""How close outputs are to their targets, over held-out pairs: exact at any world size."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn

from lit_gen.callbacks.evaluators.base import Evaluator
from lit_gen.core import data as datasets
from lit_gen.core import distributed
from lit_gen.core.errors import UserError, note, under
from lit_gen.core.options import at_least
from lit_gen.core.randomness import BLOCK
from lit_gen.evaluation import pairs
from lit_gen.evaluation.extractors.base import check_shape
from lit_gen.evaluation.extractors.load import load_extractor
from lit_gen.evaluation.images import Scorer
from lit_gen.evaluation.names import extractor_named, suffix_of, weights_used
from lit_gen.evaluation.pairs import FeatureScores, Levels
from lit_gen.evaluation.real import Reals
from lit_gen.evaluation.result import Result, versions
from lit_gen.protocols.data import PairSets, Split
from lit_gen.protocols.images import FeatureExtractor, ImagePair, ImageTranslator, Weights


class PairedMetrics(Evaluator):
    """PSNR, SSIM, Frechet distance and label accuracy of outputs for held-out pairs.

    Outputs are rounded to the levels of the targets before they are compared. In the same table stand a baseline's
    numbers, the identity's or bicubic enlargement's, and of the metrics of features those of the targets themselves.

    Args:
        metrics: of pixels ``psnr`` and ``ssim``, means over all pairs, of all channels; ``_y``: of luma, ``_crop4``:
            without 4 pixels at each border, ``_holes`` (of PSNR): only where the source had holes. Of features ``fd``,
            to the training targets, and ``accuracy``, the share of outputs that the extractor gives the pair's label.
        extractor: for metrics of features, see `lit_gen.callbacks.evaluators.fid.FID`.
        fd_count: outputs of ``fd``, spread over all pairs.
        every: steps between two evaluations; 0 for none by steps.
        every_epochs: epochs between two evaluations; 0 for none by epochs.
        at_end: evaluate after the last step too.
        baseline: also measure what a method without training makes of the sources.
        floor: also measure the targets themselves, by the metrics of features.
        weights: the moving average, or the raw weights.
        extractor_weights: file with the weights of ``inception-v3-compat``; null downloads them.
        extractor_hash: SHA-256 that the extractor's weights must have, or its first digits; null for any.

    Raises:
        UserError: for an unknown metric, or metrics of features without an extractor.
    """

    def __init__(
        self,
        metrics: list[str] = ["psnr", "ssim"],  # noqa: B006  never changed; the command line shows it
        extractor: str | nn.Module | None = None,
        fd_count: int = 1000,
        every: int = 0,
        every_epochs: int = 0,
        at_end: bool = True,
        baseline: bool = True,
        floor: bool = True,
        weights: Weights = "ema",
        extractor_weights: str | None = None,
        extractor_hash: str | None = None,
    ) -> None:
        super().__init__(every, every_epochs, at_end)
        at_least(2, f"{self.option}.", fd_count=fd_count)
        with under(f"{self.option}."):
            self.of_pixels = [found for found in map(pairs.pixel_metric, metrics) if found is not None]
        self.of_features = [metric for metric in pairs.FEATURES if metric in metrics]
        if not metrics:
            raise UserError(f"{self.option}.metrics: no metric was found, such as psnr is expected")
        if self.of_features and extractor is None:
            found = f"{self.of_features[0]} needs an extractor"
            raise UserError(f"{self.option}.metrics: {found}; set {self.option}.extractor, or other metrics")
        self.metrics, self.extractor, self.fd_count = metrics, extractor, fd_count
        self.baseline, self.floor, self.weights = baseline, floor, weights
        self.extractor_weights, self.extractor_hash = extractor_weights, extractor_hash
        self._extractor: FeatureExtractor | None = None
        self._fixed: dict[Split, tuple[dict[str, float], dict[str, float]]] = {}  # of the baseline, and floors

    def announced(self, data: Any) -> list[str]:
        """See `Evaluator`."""
        with under(f"{self.option}."):
            extractor = extractor_named(self.extractor, self.extractor_weights) if self.extractor else None
        channels = (data.facts().get("shape") or (3,))[0]
        return pairs.announced(self.metrics, channels, extractor, self.fd_count, suffix_of(self.weights))

    # ---- before the first step

    def prepare(self, trainer: Trainer, module: LightningModule) -> None:
        """Check options, model and data."""
        self.title = f"pairs{'-raw' if self.weights == 'raw' else ''}"
        self._fixed = {}
        if not isinstance(module, ImageTranslator):
            raise UserError(f"{self.option}: {type(module).__name__} does not change images; FID is for what it draws")
        data, hint = datasets.data_of(trainer), f"; --{self.option} false leaves this evaluation out"
        if not datasets.has_pairs(data):
            raise UserError(f"{self.option}: {datasets.kind_of(data)} has no pairs of images{hint}")
        shape, split = data.facts()["shape"], _split_of(trainer)
        count = len(data.split(split))
        if not count:
            raise UserError(f"{self.option}: the data set has no {split} split{hint}")
        self._try_out(data, shape, split)
        if not self.of_features:
            return
        with under(f"{self.option}."):
            distributed.from_first(self._load)  # one process downloads
            distributed.together(self._load)
        assert self._extractor is not None
        with under(f"{self.option}.", hint):
            check_shape(self._extractor, shape)
        if data.facts()["levels"] > 256:
            raise UserError(f"{self.option}.metrics: {self.of_features[0]} is of 8 bits, the data have more{hint}")
        if "accuracy" in self.of_features and data.split(split).labels is None:
            raise UserError(f"{self.option}.metrics: accuracy was found, but the data set has no labels{hint}")
        if "fd" in self.of_features and (count < self.fd_count or not len(data.split("train"))):
            found = f"{self.fd_count} was found, but the {split} split has {count} pairs"
            raise UserError(f"{self.option}.fd_count: {found}; at most {count} is expected{hint}")

    def _try_out(self, data: PairSets, shape: tuple[int, int, int], split: Split) -> None:
        """Find out before the first step whether the metrics take such images."""
        black = torch.zeros(1, *shape, dtype=torch.uint8)
        masked = data.facts()["source_channels"] > data.facts()["source_shape"][0]
        if any(metric.holes for metric in self.of_pixels) and not masked:
            raise UserError(f"{self.option}.metrics: psnr_holes was found, but the data have no holes")
        mask = torch.ones(1, 1, *shape[1:], dtype=torch.bool)
        with under(f"{self.option}.metrics: "):
            pairs.pixel_values(self.of_pixels, black, Levels(black, black, None, mask), 255)

    def _load(self) -> None:
        if self._extractor is None:
            assert self.extractor is not None
            self._extractor = load_extractor(self.extractor, self.extractor_weights, self.extractor_hash)

    # ---- the evaluation

    def evaluate(self, trainer: Trainer, module: LightningModule, split: Split) -> Result:
        """Translate on all ranks, compare on rank 0."""
        data = datasets.data_of(trainer)
        assert datasets.has_pairs(data)
        assert isinstance(module, ImageTranslator)
        levels = data.facts()["levels"]
        found, name, bad = self._gathered(data, split, module, levels)
        labels = data.split(split).labels

        def result() -> Result:
            assert found is not None
            return self._result(data, split, found, name, labels, bad, module.device)

        made = distributed.from_first(result)
        made.protocol["weights"] = weights_used(module, self.weights)
        return made

    def _gathered(
        self, data: PairSets, split: Split, module: Any, levels: int
    ) -> tuple[Levels | None, str | None, list[int]]:
        """All pairs on rank 0, with their outputs; the baseline's name, and pairs whose output is not finite."""
        facts, count, world = data.facts(), len(data.split(split)), distributed.world_size()
        shape, bad = facts["shape"], list[int]()
        name = pairs.baseline_name(facts["source_shape"], shape) if self.baseline else None
        masked = facts["source_channels"] > facts["source_shape"][0]

        def block(pair: ImagePair) -> Tensor:
            output = module.translate(pair.source, mask=pair.mask, weights=self.weights)
            bad.extend(pair.indices[~output.flatten(1).isfinite().all(1).cpu()].tolist())
            parts = [output, pair.target]
            parts += [] if name is None else [pairs.baseline(pair.source, shape)]
            parts += [pair.mask * 2 - 1] if masked and pair.mask is not None else []
            rows = torch.cat([pairs.as_levels(part, levels) for part in parts], 1)
            distributed.look()
            return torch.cat([rows, rows.new_zeros(BLOCK - len(rows), *rows.shape[1:])])

        def mine() -> Tensor:
            blocks = [block(pair) for pair in data.pairs(split) if len(pair.target)]
            empty = torch.zeros(BLOCK, shape[0] * (2 + (name is not None)) + masked, *shape[1:])
            each = -(-count // (BLOCK * world))  # on every rank the same number
            return torch.stack(blocks + [pairs.as_levels(empty, levels).to(module.device)] * (each - len(blocks)))

        whole = distributed.gather_blocks(distributed.together(mine), module.device)
        bad = distributed.gather(bad)
        if whole is None:
            return None, name, bad
        made, target, *rest = whole.flatten(0, 1)[:count].split(shape[0], 1)
        mask = whole.flatten(0, 1)[:count, -1:] > 0 if masked else None
        return Levels(made, target, None if name is None else rest[0], mask), name, bad

    def _result(
        self,
        data: PairSets,
        split: Split,
        found: Levels,
        name: str | None,
        labels: Tensor | None,
        bad: list[int],
        where: torch.device,
    ) -> Result:
        """Numbers, floors and protocol; on rank 0."""
        peak = max(255, data.facts()["levels"] - 1)
        of_features = self._scores(data, split, where, labels)

        def numbers(images: Tensor, pixels: bool = True) -> tuple[dict[str, float], dict[str, Any]]:
            values, left_out = pairs.pixel_values(self.of_pixels if pixels else [], images, found, peak)
            more, record = of_features.values(images, where) if of_features else ({}, {})
            return values | more, {"fd": record, "left_out": left_out}

        values, record = numbers(found.made)
        for metric, count in record["left_out"].items():
            note(f"{self.option}: {metric} is without {count} of {len(found.made)} pairs: equal ones, or without holes")
        if bad:
            note(f"{self.option}: {len(bad)} outputs are not finite, such as that of pair {bad[0]}")
            values = dict.fromkeys(values, float("nan"))
        if split not in self._fixed:
            other, of_other = ({}, {}) if found.baseline is None else numbers(found.baseline)
            for metric, count in of_other.get("left_out", {}).items():
                note(f"{self.option}: {metric} of the {name} is without {count} of {len(found.made)} pairs")
            self._fixed[split] = other, numbers(found.target, pixels=False)[0] if self.floor else {}
        other, floors = self._fixed[split]
        suffix = suffix_of(self.weights)
        protocol = {
            "pairs": len(found.made),
            "split": split,
            "data": {**data.protocol, "name": data.name},
            "peak": peak,
            "beside": {} if name is None else {name: {f"{key}{suffix}": value for key, value in other.items()}},
            **record,
            "versions": versions(),
        }
        return Result({f"{key}{suffix}": value for key, value in values.items()}, floors, protocol, "targets")

    def _scores(self, data: PairSets, split: Split, where: torch.device, labels: Tensor | None) -> FeatureScores | None:
        if self._extractor is None or not self.of_features:
            return None
        reals = Reals(data.split, "train", data.name, self._extractor, where)
        scorer = Scorer(self._extractor, reals, ["fid"], floor=False, prefix=f"{self.option}: ")
        return FeatureScores(self.of_features, self._extractor, scorer, self.fd_count, labels)


def _split_of(trainer: Trainer) -> Split:
    return "test" if trainer.state.fn == "test" else "val"
