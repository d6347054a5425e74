"""From features to named numbers: the metrics of one comparison, and what each may be called."""

import importlib.metadata
import math
import re
import warnings
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch

from lit_gen import __version__
from lit_gen.errors import UserError, nearest, note
from lit_gen.metrics import kernel, manifold, score
from lit_gen.metrics.extract import Extracted
from lit_gen.metrics.features import INCEPTION, PUBLISHED
from lit_gen.metrics.frechet import Gaussian, frechet_distance
from lit_gen.metrics.reference import Reference
from lit_gen.protocols import FeatureExtractor
from lit_gen.randomness import BLOCK

Metric = Literal["fid", "kid", "is", "prc", "dc", "memorization"]
METRICS: tuple[Metric, ...] = get_args(Metric)
PUBLISHED_NAMES = {"fd": "fid", "kd": "kid", "cs": "is"}
"""What Frechet distance, kernel distance and classifier score are called with the published Inception weights."""


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
        values["cs"], values["cs_std"] = score.inception_score(generated.logits)[:2]
    if reference.extracted is None:
        return values
    real = reference.extracted.features
    if "kid" in metrics:
        values["kd"], values["kd_std"] = kernel.kernel_distance(generated.features, real)[:2]
    if "prc" in metrics:
        values["precision"], values["recall"] = manifold.precision_recall(generated.features, real)
    if "dc" in metrics:
        values["density"], values["coverage"] = manifold.density_coverage(generated.features, real)
    if "memorization" in metrics and held_out is not None:
        train, other = held_out
        values["memorization"] = manifold.memorization_ratio(generated.features, train.features, other.features)
    return values


def named(values: dict[str, float], count: int, extractor: FeatureExtractor, suffix: str = "") -> dict[str, float]:
    """The values under their public names: ``fid5k``, ``fd5k_lenet-mnist``, ``kd5k_lenet-mnist_std``.

    The number of generated images is part of the name, and so is the extractor; only with the published Inception
    weights may a number be called fid, kid or is.

    Args:
        values: of `compare`.
        count: how many generated images they are of.
        extractor: of the features.
        suffix: put at the end, as ``_floor``.
    """
    return {public_name(key, count, extractor) + suffix: value for key, value in values.items()}


def summary(sets: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean over sets of images, and of distances the minimum, each called so: papers differ in which they print."""
    values: dict[str, float] = {}
    for name in sets[0]:
        drawn = [s[name] for s in sets]
        values[f"{name}_mean{len(sets)}"] = math.fsum(drawn) / len(drawn)
        if name.startswith(("fid", "fd", "kid", "kd")) and not re.search(r"_std(_raw)?$", name):
            values[f"{name}_min{len(sets)}"] = min(drawn)
    return values


def public_name(key: str, count: int, extractor: FeatureExtractor) -> str:
    """See `named`."""
    short, _, std = key.partition("_")
    if (extractor.name, extractor.weights) == (INCEPTION, PUBLISHED) and short in PUBLISHED_NAMES:
        name = f"{PUBLISHED_NAMES[short]}{thousands(count)}"
    else:
        name = f"{short}{thousands(count)}_{extractor.name}"
    return f"{name}_{std}" if std else name


def thousands(count: int) -> str:
    """5000 as 5k, 1500 as 1500."""
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)


def protocol(extractor: FeatureExtractor, reference: Reference, metrics: Sequence[str], count: int) -> dict[str, Any]:
    """How the numbers came about, for ``eval/*.json``: what another person needs in order to get them again."""
    real = None if reference.extracted is None else len(reference.extracted)
    details: dict[str, Any] = {
        "kid": {"subsets": kernel.SUBSETS, "subset_size": min(kernel.SUBSET_SIZE, count, real or count)},
        "is": {"splits": score.SPLITS},
        "prc": {"neighbors": manifold.PRECISION_NEIGHBORS},
        "dc": {"neighbors": manifold.COVERAGE_NEIGHBORS},
    }
    return {
        "metrics": {name: details.get(name, {}) for name in metrics},
        "count": count,
        "extractor": {
            "name": extractor.name,
            "weights_sha256": extractor.weights,
            "preprocessing": extractor.preprocessing,
            "features": len(reference.gaussian.mean),
        },
        "reference": reference.record,
        "quantization": "round((x + 1) * 127.5) to uint8",
        "block": BLOCK,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of the packages that numbers depend on."""
    fidelity = importlib.metadata.version("torch-fidelity")
    return {"lit-gen": __version__, "torch": str(torch.__version__), "torch-fidelity": fidelity}
