"""Names of numbers: the public name of each, and the names that an evaluation will log."""

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lit_gen.core.cache import hash_of_file
from lit_gen.evaluation.comparison import METRICS
from lit_gen.evaluation.extractors.base import INCEPTION, PUBLISHED
from lit_gen.evaluation.extractors.lenet import SHIPPED
from lit_gen.evaluation.extractors.load import load_extractor
from lit_gen.protocols.images import FeatureExtractor, Weights


@dataclasses.dataclass
class Named:
    """The part of a feature extractor that names need."""

    name: str
    weights: str = ""


def extractor_named(extractor: str | nn.Module, weights: str | None = None) -> Named:
    """Name and weights' hash of an extractor, without its network if that would have to be downloaded.

    Raises:
        UserError: for an extractor that does not exist.
    """
    if isinstance(extractor, str) and extractor in SHIPPED:
        return Named(extractor)
    if extractor == INCEPTION:
        digest = PUBLISHED if weights is None or not Path(weights).is_file() else hash_of_file(Path(weights))
        return Named(INCEPTION if digest == PUBLISHED else f"inception-v3-{digest[:8]}", digest)
    made = load_extractor(extractor)  # a user's file or module, which may have its own name
    return Named(made.name, made.weights)


def names_of(
    metrics: Sequence[str], extractor: Named, count: int, suffix: str = "", repeats: int = 1, per_class: int = 0
) -> list[str]:
    """The public names of an evaluation's numbers.

    Args:
        metrics: what is computed.
        extractor: of the features.
        count: generated images.
        suffix: put at the end of each name.
        repeats: number of sets of images; with several, their mean and minimum are reported.
        per_class: images of each class that are compared as well; 0 for none.
    """
    named_by: Any = extractor  # only name and weights are used
    one_set = named(dict.fromkeys([key for m in metrics for key in METRICS[m].keys], 0.0), count, named_by, suffix)
    found = list(one_set if repeats == 1 else summary([one_set] * repeats))
    if per_class:
        found.append(f"intra_{public_name('fd', per_class, named_by)}{suffix}")
    return found


def named(values: dict[str, float], count: int, extractor: FeatureExtractor, suffix: str = "") -> dict[str, float]:
    """The values under their public names: ``fid5k``, ``fd5k_lenet-mnist``, ``kd5k_lenet-mnist_std``.

    The number of generated images is part of the name, and so is the extractor; only with the published Inception
    weights may a number be called fid, kid or is.

    Args:
        values: of `compare`.
        count: number of generated images.
        extractor: of the features.
        suffix: put at the end, as ``_floor``.
    """
    return {public_name(key, count, extractor) + suffix: value for key, value in values.items()}


def summary(sets: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean over sets of images and, for distances, the minimum, by these names: papers print one or the other."""
    distances = [name for m in METRICS.values() if m.distance for name in (m.keys[0], m.published) if name]
    values: dict[str, float] = {}
    for name in sets[0]:
        drawn = [s[name] for s in sets]
        values[f"{name}_mean{len(sets)}"] = math.fsum(drawn) / len(drawn)
        if re.match(rf"({'|'.join(distances)})\d", name) and not re.search(r"_std(_raw)?$", name):
            values[f"{name}_min{len(sets)}"] = min(drawn)
    return values


def public_name(key: str, count: int, extractor: FeatureExtractor) -> str:
    """See `named`."""
    short, _, std = key.partition("_")
    published = {m.keys[0]: m.published for m in METRICS.values() if m.published}
    if (extractor.name, extractor.weights) == (INCEPTION, PUBLISHED) and short in published:
        name = f"{published[short]}{thousands(count)}"
    else:
        name = f"{short}{thousands(count)}_{extractor.name}"
    return f"{name}_{std}" if std else name


def thousands(count: int) -> str:
    """5000 as 5k, 1500 as 1500."""
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)


def weights_used(model: object, weights: Weights) -> str:
    """The weights that a number is of, in words: a run may keep no moving average."""
    missing = weights == "ema" and not getattr(model, "averaged", True)
    return "raw (the run keeps no average)" if missing else weights


def suffix_of(weights: Weights) -> str:
    """What a number's name ends with: nothing, or ``_raw`` for raw weights."""
    return "_raw" if weights == "raw" else ""
