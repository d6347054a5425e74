"""Mode coverage, as PacGAN counts it: modes found, samples near a mode, divergence of the shares of the modes.

Lin et al., 2018, https://arxiv.org/abs/1712.04086, sections 4.1 (mixtures of Gaussians) and 4.2 (stacked MNIST), and
its code, https://github.com/fjxmlzn/PacGAN; the measures on mixtures are those of VEEGAN (Srivastava et al., 2017,
https://arxiv.org/abs/1705.07761). Divergences are in nats, of generated from real shares:

    KL(p || q) = sum over modes with p > 0 of p log(p / q),    p: generated, q: real

A mode that no sample has (p = 0) adds nothing; a mode that real data never has (q = 0) but a sample has makes it
infinite, as it should be. This is the "reverse" order, which weighs by the generated shares.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.core.options import above
from lit_gen.core.randomness import BLOCK
from lit_gen.protocols.images import Features

__all__ = ["ClassCoverage", "MixtureCoverage", "class_coverage", "mixture_coverage", "stacked_classes"]

DEVIATIONS = 3.0  # how far from its mode, in standard deviations, a sample is still a good one


class MixtureCoverage(NamedTuple):
    """How a mixture of Gaussians is covered."""

    modes: int
    """Modes with at least one high-quality sample."""
    high_quality: float
    """Share of the samples that lie closer than 3 sigma to a mode, in [0, 1]."""
    reverse_kl: float
    """KL(generated || real) over the modes in nats, of all samples, each counted at its nearest mode; at least 0."""


class ClassCoverage(NamedTuple):
    """How the classes of a data set are covered."""

    modes: int
    """Classes that at least one sample has."""
    kl: float
    """KL(generated || real) over the classes in nats, at least 0."""


def mixture_coverage(points: Tensor, centers: Tensor, sigma: float, reference: Tensor | None = None) -> MixtureCoverage:
    """Modes, high-quality share and reverse KL of samples from a mixture of round Gaussians.

    A sample has high quality if its Euclidean distance to the nearest center is less than 3 sigma, in both coordinates
    together, as in PacGAN's code: a perfect sampler has 1 - exp(-9/2) = 98.9 % (it would be 99.5 % by "3 sigma per
    coordinate"). It counts only for its nearest mode.

    The reverse KL is the one that section 4 of the paper describes: all samples, good or not, each at its nearest mode.
    The published code (`MetricLogger`) logs another number under the same heading: the Jensen-Shannon divergence from
    uniform, of the high-quality samples only. Of n samples of a perfect sampler, the reverse KL is (k - 1) / (2 n) in
    expectation, for large n.

    Args:
        points: (n, 2) or (n, 2, 1, 1), samples in the units of ``centers``.
        centers: (k, 2), the modes.
        sigma: standard deviation of each mode in each coordinate.
        reference: (k,), shares or counts of the modes in real data; None for equal ones.

    Raises:
        UserError: for no samples, shapes other than these, numbers that are not finite, or a sigma not above 0.
    """
    if tuple(points.shape[1:]) not in ((2,), (2, 1, 1)):
        raise UserError(f"points: shape {tuple(points.shape)} was found, (n, 2) or (n, 2, 1, 1) is expected")
    if centers.ndim != 2 or centers.shape[1] != 2 or not len(centers):
        raise UserError(f"centers: shape {tuple(centers.shape)} was found, (k, 2) with k of at least 1 is expected")
    above(0, finite=True, sigma=sigma)
    _at_least_one("points", points)
    _finite("points", points)
    _finite("centers", centers)
    # Differences, not the matrix product that cdist takes for many centers: it cancels, and may round by a row's place.
    points, centers = points.flatten(1).cpu().double(), centers.cpu().double()
    distances = torch.cdist(points, centers, compute_mode="donot_use_mm_for_euclid_dist")
    distance, mode = distances.min(dim=1)
    good = distance < DEVIATIONS * sigma
    counts = torch.bincount(mode, minlength=len(centers))
    return MixtureCoverage(
        modes=len(mode[good].unique()),
        high_quality=int(good.sum()) / len(points),
        reverse_kl=_divergence(counts, reference),
    )


def class_coverage(classes: Tensor, count: int, reference: Tensor | None = None) -> ClassCoverage:
    """Classes found among the samples, and the KL divergence of their shares from those of real data.

    For stacked MNIST, ``classes`` are those of `stacked_classes` and ``count`` is 1000; PacGAN takes 26,000 samples and
    equal real shares. KL then has a floor: n samples of a perfect sampler have (count - 1) / (2 n) in expectation, for
    large n; 0.019 nats at 26,000.

    Args:
        classes: int64 (n,), the class of each sample, in [0, count).
        count: number of classes.
        reference: (count,), shares or counts of the classes in real data; None for equal ones. If a class is 0 there
            and a sample has it, KL is infinite.

    Raises:
        UserError: for no samples, shapes other than these, a class out of range, or a reference that is not shares.
    """
    if classes.ndim != 1 or classes.is_floating_point() or classes.dtype == torch.bool:
        raise UserError(f"classes: {classes.dtype} {tuple(classes.shape)} was found, whole numbers (n,) are expected")
    _at_least_one("classes", classes)
    least, greatest = int(classes.min()), int(classes.max())
    if least < 0 or greatest >= count:
        raise UserError(f"classes: {least} to {greatest} were found, 0 to {count - 1} are expected")
    counts = torch.bincount(classes.cpu(), minlength=count)
    return ClassCoverage(modes=int((counts > 0).sum()), kl=_divergence(counts, reference))


def stacked_classes(images: Tensor, classify: Callable[[Tensor], Features]) -> Tensor:
    """The class of each stacked MNIST image, 100 R + 10 G + B, by a classifier of digits on each channel.

    The classifier is called with `lit_gen.core.randomness.BLOCK` digits at a time, one channel of that number of
    images, the last ones padded with black: a network's output is bit-equal only for equal batch shapes. So the class
    of an image never depends on the number of images.

    Args:
        images: uint8 (n, 3, 28, 28).
        classify: uint8 (B, 1, 28, 28) to `lit_gen.protocols.images.Features` with logits (B, 10).

    Returns:
        int64 (n,) in [0, 1000), on the device of the logits.

    Raises:
        UserError: for no images, a shape or type other than that, or a ``classify`` that does not give ten logits.
    """
    if images.dtype != torch.uint8 or tuple(images.shape[1:]) != (3, 28, 28):
        raise UserError(f"images: {images.dtype} {tuple(images.shape)} was found, uint8 (n, 3, 28, 28) is expected")
    _at_least_one("images", images)
    classes = []
    for block in images.split(BLOCK):
        padded = F.pad(block, (0, 0) * 3 + (0, BLOCK - len(block)))
        red, green, blue = (_digits(padded[:, c : c + 1], classify)[: len(block)] for c in range(3))
        classes.append(100 * red + 10 * green + blue)
    return torch.cat(classes)


def _digits(images: Tensor, classify: Callable[[Tensor], Features]) -> Tensor:
    """The most likely digit of each image (B, 1, 28, 28), int64 (B,)."""
    logits = classify(images.contiguous()).logits
    if logits is None or tuple(logits.shape) != (len(images), 10):
        found = "no logits" if logits is None else f"logits of shape {tuple(logits.shape)}"
        raise UserError(f"classify: {found} were found, ({len(images)}, 10) is expected of a classifier of digits")
    return logits.argmax(dim=1)


def _divergence(counts: Tensor, reference: Tensor | None) -> float:
    """KL(generated || real) in nats of counts (k,) from the reference's shares (k,), equal ones if it is None."""
    if reference is None:
        reference = torch.ones(len(counts))
    if tuple(reference.shape) != tuple(counts.shape):
        raise UserError(f"reference: shape {tuple(reference.shape)} was found, ({len(counts)},) is expected")
    _finite("reference", reference)
    if (reference < 0).any() or not (reference > 0).any():
        raise UserError("reference: shares of at least 0 are expected, and one above 0")
    p, q = counts.cpu().double(), reference.cpu().double()
    p, q = p / p.sum(), q / q.sum()
    found = p > 0
    return max(0.0, float((p[found] * (p[found].log() - q[found].log())).sum()))  # rounding may give -1e-17


def _at_least_one(name: str, samples: Tensor) -> None:
    if not len(samples):
        raise UserError(f"{name}: no samples were found, at least 1 is expected")


def _finite(name: str, numbers: Tensor) -> None:
    if not bool(torch.isfinite(numbers).all()):
        raise UserError(f"{name}: NaN or infinity was found, finite numbers are expected")
