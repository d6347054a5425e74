"""From features to numbers: the metrics of one comparison."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, get_args

from lit_gen.core.blame import named, shown
from lit_gen.core.errors import UserError, nearest, note
from lit_gen.evaluation.features import Extracted
from lit_gen.evaluation.reference import Reference
from lit_gen.metrics import inception_score, kernel, neighbors
from lit_gen.metrics.frechet import Gaussian, frechet_distance
from lit_gen.metrics.pair import Pair

Needs = Literal["gaussian", "features", "pair", "logits", "held_out"]


@dataclass(frozen=True)
class Metric:
    """A metric of features: an entry of `METRICS` is enough to add one.

    Attributes:
        name: what ``metrics: [...]`` calls it.
        keys: the names of its numbers, without an underscore except in the ``_std`` of a spread.
        needs: what `compute` is called with. ``gaussian``: the `Gaussian` of the generated and that of the real
            features, the only thing that streaming mode and published statistics have; ``features``: those of generated
            (n, d) and of real images (m, d); ``pair``: a `Pair` of these, whose products of features are computed once
            for all metrics that use them; ``logits``: those of generated images (n, K); ``held_out``: features of
            generated (n, d), training (m, d) and held-out images (l, d).
        compute: a function of `lit_gen.metrics`. It returns a number or a tuple that begins with those of `keys`,
            None for a missing one.
        settings: its constants for the record, from the number of images of the smaller side.
        published: what the first key is called with the published Inception weights; None for the same.
        distance: whether the minimum over several sets of images is reported too.

    Raises:
        ValueError: for keys that are no names, or another need.
    """

    name: str
    keys: tuple[str, ...]
    needs: Needs
    compute: Callable[..., float | tuple[float | None, ...]]
    settings: Callable[[int], dict[str, Any]] = lambda images: {}
    published: str | None = None
    distance: bool = False

    def __post_init__(self) -> None:
        good = isinstance(self.keys, tuple) and self.keys and all(isinstance(key, str) for key in self.keys)
        if not good:
            raise ValueError(f"keys: {self.keys!r} was found, a tuple of names such as ('fd',) is expected")
        if self.needs not in get_args(Needs):
            raise ValueError(f"needs: {self.needs!r} was found, one of {', '.join(get_args(Needs))} is expected")


def _frechet(generated: Gaussian, real: Gaussian) -> float:
    """The Fréchet distance, whose warning of few samples is for the user."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        distance = frechet_distance(generated, real)
    for warning in caught:
        note(str(warning.message))
    return distance


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("fid", ("fd",), "gaussian", _frechet, published="fid", distance=True),
        Metric(
            "kid",
            ("kd", "kd_std"),
            "pair",
            kernel.pair_kernel_distance,
            lambda images: {"subsets": kernel.SUBSETS, "subset_size": min(kernel.SUBSET_SIZE, images)},
            published="kid",
            distance=True,
        ),
        Metric(
            "is",
            ("cs", "cs_std"),
            "logits",
            inception_score.inception_score,
            lambda images: {"splits": inception_score.SPLITS},
            published="is",
        ),
        Metric(
            "prc",
            ("precision", "recall"),
            "pair",
            neighbors.pair_precision_recall,
            lambda images: {"neighbors": neighbors.PRECISION_NEIGHBORS},
        ),
        Metric(
            "dc",
            ("density", "coverage"),
            "features",
            neighbors.density_coverage,
            lambda images: {"neighbors": neighbors.COVERAGE_NEIGHBORS},
        ),
        Metric("memorization", ("memorization",), "held_out", neighbors.memorization_ratio),
    )
}
"""Every metric by its name. Your own file may add one: ``METRICS["name"] = Metric("name", ...)``."""


def needing(metrics: Sequence[str], *needs: Needs) -> list[str]:
    """Those of the metrics, by name, that need one of ``needs``."""
    return [name for name in metrics if METRICS[name].needs in needs]


def check_metrics(metrics: Sequence[str], streaming: bool, reference: Reference | None) -> None:
    """Refuse metrics that cannot be computed.

    Raises:
        UserError: for an unknown name, an empty list, or features that are missing.
    """
    for name in metrics:
        if name not in METRICS:
            raise UserError(
                f"metrics: {name!r} is not a metric{nearest(name, METRICS)} (expected {', '.join(METRICS)})"
            )
    if not metrics:
        raise UserError(f"metrics: none was given, some of {', '.join(METRICS)} are expected")
    others = needing(metrics, "features", "pair", "logits", "held_out")
    if streaming and others:
        sums = ", ".join(needing(list(METRICS), "gaussian"))
        raise UserError(f"metrics: {', '.join(others)} need all features at once; streaming mode has only {sums}")
    lacking = needing(metrics, "features", "pair", "held_out")
    if lacking and reference is not None and reference.extracted is None:
        needed = f"metrics: {', '.join(lacking)} need the features of real images"
        raise UserError(f"{needed}, but the reference holds only mu and sigma")


def check_logits(metrics: Sequence[str], extracted: Extracted) -> None:
    """Refuse metrics of logits for an extractor that is not a classifier.

    Raises:
        UserError: for the first such metric.
    """
    if extracted.logits is None and (names := needing(metrics, "logits")):
        raise UserError(f"metrics: {names[0]} needs a classifier, but the extractor gives no logits")


def compare(
    generated: Extracted | Gaussian,
    reference: Reference,
    metrics: Sequence[str],
    held_out: tuple[Extracted, Extracted] | None = None,
) -> dict[str, float]:
    """Every metric of one set of images.

    Args:
        generated: features of the images, or in streaming mode their mean and covariance.
        reference: the real side.
        metrics: some of `METRICS`.
        held_out: features of training and of held-out images, for ``memorization``.

    Returns:
        The numbers by their keys, in the order of `METRICS`; without metrics whose features are missing.

    Raises:
        UserError: for features that a metric cannot take.
    """
    if isinstance(generated, Extracted):
        check_logits(metrics, generated)
    values: dict[str, float] = {}
    pair = None
    if isinstance(generated, Extracted) and reference.extracted is not None:
        pair = Pair(generated.features, reference.extracted.features)
    for metric in METRICS.values():
        inputs = _inputs(metric.needs, generated, reference, pair, held_out) if metric.name in metrics else None
        if inputs is not None:
            found = zip(metric.keys, _numbers(metric, inputs), strict=False)  # it may go on: the size of a subset
            values |= {key: number for key, number in found if number is not None}
    return values


def _numbers(metric: Metric, inputs: tuple[Any, ...]) -> tuple[float | None, ...]:
    """What a metric computes, a number for each of its keys and possibly more."""
    found: object = metric.compute(*inputs)
    numbers = found if isinstance(found, tuple) else (found,)
    if len(numbers) < len(metric.keys) or not all(n is None or isinstance(n, Real) for n in numbers):
        seen = f"({', '.join(map(shown, found))})" if isinstance(found, tuple) else shown(found)
        expected = f"numbers for {', '.join(metric.keys)} are expected"
        raise UserError(f"metrics: {metric.name}: {named(metric.compute)} returned {seen}, {expected}")
    return numbers


def _inputs(
    needs: Needs,
    generated: Extracted | Gaussian,
    reference: Reference,
    pair: Pair | None,
    held_out: tuple[Extracted, Extracted] | None,
) -> tuple[Any, ...] | None:
    """The input of a metric; None if it is missing."""
    if needs == "gaussian":
        return generated if isinstance(generated, Gaussian) else generated.gaussian, reference.gaussian
    if isinstance(generated, Gaussian):
        return None
    if needs == "logits":
        return (generated.logits,)
    if needs == "held_out":
        return None if held_out is None else (generated.features, held_out[0].features, held_out[1].features)
    if pair is None or needs == "pair":
        return None if pair is None else (pair,)
    return pair.generated_features, pair.real_features
