"""Outputs against their targets: PSNR and SSIM by convention, Frechet distance and label accuracy, and a baseline's."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_gen.core.errors import UserError, nearest
from lit_gen.core.images import level_of, quantize
from lit_gen.core.randomness import BLOCK
from lit_gen.evaluation.features import Extracted, extract
from lit_gen.evaluation.images import Scorer
from lit_gen.evaluation.names import named
from lit_gen.evaluation.reference import chosen
from lit_gen.metrics.paired import Convention, psnr, ssim
from lit_gen.protocols.images import FeatureExtractor

PIXELS = ("psnr", "psnr_y", "psnr_crop4", "psnr_y_crop4", "psnr_holes", "ssim", "ssim_y", "ssim_y_crop4")
"""Examples of metrics of pixels; ``crop`` may have any number."""
FEATURES = ("fd", "accuracy")
_FORM = re.compile(r"(psnr|ssim)(_rgb)?(_y)?(?:_crop(\d+))?(_holes)?")


class Levels(NamedTuple):
    """Pairs as files would hold them: levels from 0 to ``peak``, on the CPU."""

    made: Tensor
    """(n, C, H, W)."""
    target: Tensor
    """(n, C, H, W)."""
    baseline: Tensor | None
    """(n, C, H, W), what a method without training makes of the sources; None if there is none."""
    mask: Tensor | None
    """bool (n, 1, H, W), where the holes were; None without masks."""


class PixelMetric(NamedTuple):
    """PSNR or SSIM in one convention."""

    kind: str
    convention: Convention
    holes: bool

    def name(self, channels: int) -> str:
        """The public name: ``psnr_rgb``, ``psnr_y_crop4``, of grey images ``psnr``; ``psnr_holes``."""
        return self.convention.name(self.kind, channels) + ("_holes" if self.holes else "")

    def __call__(self, made: Tensor, target: Tensor, mask: Tensor | None, peak: int) -> Tensor:
        """Of each image, float64 (n,)."""
        if self.kind == "ssim":
            return ssim(made, target, peak, self.convention)
        return psnr(made, target, peak, self.convention, mask if self.holes else None)


def pixel_metric(metric: str) -> PixelMetric | None:
    """What a name asks for; None for a metric of features.

    Raises:
        UserError: for a name that says nothing.
    """
    if metric in FEATURES:
        return None
    found = _FORM.fullmatch(metric)
    if found is None or (found[2] and found[3]) or (found[1] == "ssim" and found[5]):
        known = (*PIXELS, *FEATURES)
        raise UserError(
            f"metrics: {metric!r} was found, one such as {', '.join(known)} is expected{nearest(metric, known)}"
        )
    return PixelMetric(found[1], Convention(bool(found[3]), int(found[4] or 0)), bool(found[5]))


def as_levels(images: Tensor, levels: int) -> Tensor:
    """Images in [-1, 1] as a file holds them: uint8, or int32 of more than 256 levels."""
    return quantize(images) if levels <= 256 else level_of(images.detach().float(), levels).to(torch.int32)


def baseline_name(source_shape: Sequence[int], shape: Sequence[int]) -> str | None:
    """What `baseline` is called; None for other channels than the source's.

    Args:
        source_shape: (C, h, w) of a source.
        shape: (C, H, W) of a target.
    """
    if source_shape[0] not in (1, shape[0]):
        return None
    return "identity" if tuple(source_shape[1:]) == tuple(shape[1:]) else "bicubic"


def baseline(source: Tensor, shape: Sequence[int]) -> Tensor:
    """What a method without training makes of sources: the identity, or bicubic enlargement as PIL's.

    Args:
        source: (B, C, h, w) in [-1, 1].
        shape: (C, H, W) of a target.
    """
    images = source.expand(-1, shape[0], -1, -1)
    if images.shape[2:] == torch.Size(shape[1:]):
        return images
    return F.interpolate(images, list(shape[1:]), mode="bicubic", antialias=True)  # Keys' kernel with a = -1/2


def pixel_values(
    metrics: Sequence[PixelMetric], images: Tensor, pairs: Levels, peak: int
) -> tuple[dict[str, float], dict[str, int]]:
    """Means over images of the metrics of pixels, and how many images each leaves out.

    An image that equals its target has an infinite PSNR, and one without holes none in them: neither is in the mean.

    Args:
        metrics: which.
        images: (n, C, H, W), those made, or the baseline's.
        pairs: their targets and masks.
        peak: the largest level.
    """
    values, left_out = dict[str, float](), dict[str, int]()
    for metric in metrics:
        found = []
        for first in range(0, len(images), BLOCK):
            rows = slice(first, first + BLOCK)
            mask = None if pairs.mask is None else pairs.mask[rows]
            found += metric(images[rows], pairs.target[rows], mask, peak).tolist()
        counted, name = [x for x in found if math.isfinite(x)], metric.name(images.shape[1])
        values[name] = math.fsum(counted or found) / len(counted or found)  # all equal: infinite; all without: NaN
        if len(counted) < len(found):
            left_out[name] = len(found) - len(counted)
    return values, left_out


def accuracy(extracted: Extracted, labels: Tensor) -> float:
    """The share of images that the classifier gives their label."""
    assert extracted.logits is not None
    return int((extracted.logits.argmax(1) == labels).sum()) / len(labels)


class FeatureScores(NamedTuple):
    """Metrics of features: Frechet distance to the training targets, and label accuracy."""

    metrics: Sequence[str]
    """Some of `FEATURES`."""
    extractor: FeatureExtractor
    scorer: Scorer
    fd_count: int
    """Images of the Frechet distance, spread over all, as sets are often sorted by class."""
    labels: Tensor | None
    """int64 (n,) of the pairs."""

    def values(self, images: Tensor, where: torch.device) -> tuple[dict[str, float], dict[str, Any]]:
        """The numbers of images, uint8 (n, C, H, W), by their public names, and the record of the distance."""
        values, record = dict[str, float](), dict[str, Any]()
        if "fd" in self.metrics:
            result = self.scorer.given(chosen(images, self.fd_count), where)
            values, record = result.values, result.protocol
        if "accuracy" in self.metrics:
            assert self.labels is not None
            values[f"accuracy_{self.extractor.name}"] = accuracy(extract(self.extractor, images, where), self.labels)
        return values, record


def announced(metrics: Sequence[str], channels: int, extractor: Any, count: int, suffix: str) -> list[str]:
    """The public names of the numbers.

    Args:
        metrics: what is computed.
        channels: of a target.
        extractor: has a name; None without metrics of features.
        count: images of the Frechet distance.
        suffix: put at the end of each name.
    """
    found = [m.name(channels) for m in map(pixel_metric, metrics) if m is not None]
    if "fd" in metrics:
        found += named({"fd": 0.0}, count, extractor)
    if "accuracy" in metrics:
        found.append(f"accuracy_{extractor.name}")
    return [f"{name}{suffix}" for name in found]
