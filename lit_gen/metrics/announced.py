"""What the numbers of a comparison will be called, told from options alone: nothing is downloaded or computed."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lit_gen.metrics.features import INCEPTION, PUBLISHED, hash_of_file, load_extractor
from lit_gen.metrics.lenet import SHIPPED
from lit_gen.metrics.scores import Metric, named, public_name, summary

KEYS: dict[Metric, tuple[str, ...]] = {
    "fid": ("fd",),
    "kid": ("kd", "kd_std"),
    "is": ("cs", "cs_std"),
    "prc": ("precision", "recall"),
    "dc": ("density", "coverage"),
    "memorization": ("memorization",),
}
"""The keys under which `lit_gen.metrics.scores.compare` gives each metric."""


@dataclasses.dataclass
class Named:
    """As much of a feature extractor as names need."""

    name: str
    weights: str = ""


def extractor_named(extractor: str | nn.Module, weights: str | None = None) -> Named:
    """Name and weights' hash of an extractor, without its network where that would have to be downloaded.

    Raises:
        UserError: for an extractor that does not exist.
    """
    if isinstance(extractor, str) and extractor in SHIPPED:
        return Named(extractor)
    if extractor == INCEPTION:
        digest = PUBLISHED if weights is None or not Path(weights).is_file() else hash_of_file(Path(weights))
        return Named(INCEPTION if digest == PUBLISHED else f"inception-v3-{digest[:8]}", digest)
    made = load_extractor(extractor)  # a person's own file or module: it may have a name of its own
    return Named(made.name, made.weights)


def names_of(
    metrics: Sequence[Metric], extractor: Named, count: int, suffix: str = "", repeats: int = 1, per_class: int = 0
) -> list[str]:
    """The public names of an evaluation's numbers.

    Args:
        metrics: what is computed.
        extractor: of the features.
        count: generated images.
        suffix: put at the end of each name.
        repeats: sets of images, whose mean and minimum are reported where there are several.
        per_class: images of each class that are compared as well; 0 for none.
    """
    named_by: Any = extractor  # nothing but name and weights is asked for
    one_set = named(dict.fromkeys([key for m in metrics for key in KEYS[m]], 0.0), count, named_by, suffix)
    found = list(one_set if repeats == 1 else summary([one_set] * repeats))
    if per_class:
        found.append(f"intra_{public_name('fd', per_class, named_by)}{suffix}")
    return found
