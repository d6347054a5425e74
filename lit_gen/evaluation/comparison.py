"""From features to numbers: the metrics of one comparison."""

import warnings
from collections.abc import Sequence
from typing import Literal, get_args

from lit_gen.core.errors import UserError, nearest, note
from lit_gen.evaluation.features import Extracted
from lit_gen.evaluation.reference import Reference
from lit_gen.metrics import inception_score, kernel, neighbors
from lit_gen.metrics.frechet import Gaussian, frechet_distance

Metric = Literal["fid", "kid", "is", "prc", "dc", "memorization"]
METRICS: tuple[Metric, ...] = get_args(Metric)


def check_metrics(metrics: Sequence[str], streaming: bool, reference: Reference | None) -> None:
    """Refuse metrics that cannot be had.

    Raises:
        UserError: for an unknown name, none at all, or features that are missing.
    """
    for name in metrics:
        if name not in METRICS:
            raise UserError(f"metrics: {name!r} is none{nearest(name, METRICS)} (expected {', '.join(METRICS)})")
    if not metrics:
        raise UserError(f"metrics: none was given, some of {', '.join(METRICS)} are expected")
    others = [name for name in metrics if name != "fid"]
    if streaming and others:
        raise UserError(f"metrics: {', '.join(others)} need all features at once; streaming mode has fid alone")
    needing = [name for name in others if name != "is"]
    if needing and reference is not None and reference.extracted is None:
        needed = f"metrics: {', '.join(needing)} need the features of real images"
        raise UserError(f"{needed}, but the reference holds mu and sigma alone")


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
        ``fd``; ``kd``, ``kd_std``; ``cs``, ``cs_std``; ``precision``, ``recall``; ``density``, ``coverage``;
        ``memorization``.
    """
    values: dict[str, float] = {}
    if "fid" in metrics:
        gaussian = generated if isinstance(generated, Gaussian) else generated.gaussian
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            values["fd"] = frechet_distance(gaussian, reference.gaussian)
        for warning in caught:
            note(str(warning.message))
    if isinstance(generated, Gaussian):
        return values
    if "is" in metrics:
        if generated.logits is None:
            raise UserError("metrics: is needs a classifier, but the extractor gives no logits")
        values["cs"], values["cs_std"] = inception_score.inception_score(generated.logits)[:2]
    if reference.extracted is None:
        return values
    real = reference.extracted.features
    if "kid" in metrics:
        values["kd"], values["kd_std"] = kernel.kernel_distance(generated.features, real)[:2]
    if "prc" in metrics:
        values["precision"], values["recall"] = neighbors.precision_recall(generated.features, real)
    if "dc" in metrics:
        values["density"], values["coverage"] = neighbors.density_coverage(generated.features, real)
    if "memorization" in metrics and held_out is not None:
        train, other = held_out
        values["memorization"] = neighbors.memorization_ratio(generated.features, train.features, other.features)
    return values
