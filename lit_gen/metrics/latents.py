"""What a model's latents carry: active units, KL by dimension, mutual information with the image.

All are computed from the posteriors q(z|x_n) of N images, in float64 and in the order of the rows.
"""

import math

import torch
from torch import Tensor

from lit_gen.core.errors import UserError

__all__ = ["THRESHOLD", "active_units", "kl_by_dimension", "mutual_information", "unit_variances"]

THRESHOLD = 0.01  # of Burda et al.

PAIRS = 2**22  # densities in memory at a time, 34 MB


def unit_variances(means: Tensor) -> Tensor:
    """Var_x(E_q[z_j | x]): how much the posterior's mean of each unit moves with the image.

    The unbiased variance (n - 1), as in https://github.com/jxhe/vae-lagging-encoder.

    Args:
        means: (N, d), E_q[z | x_n].

    Returns:
        float64 (d,).

    Raises:
        UserError: for fewer than two images, or numbers that are not finite.
    """
    return _checked("means", means, 2).var(dim=0, correction=1)


def active_units(means: Tensor, threshold: float = THRESHOLD) -> int:
    """How many units have Var_x(E_q[z_j | x]) > threshold; Burda et al., 2016, https://arxiv.org/abs/1509.00519.

    Args:
        means: (N, d), E_q[z | x_n].
        threshold: in the latents' units squared, above 0.

    Raises:
        UserError: see `unit_variances`.
    """
    return int((unit_variances(means) > threshold).sum())


def kl_by_dimension(kl: Tensor) -> Tensor:
    """Mean over the images of KL(q(z_j|x) || p(z_j)), nats, (N, d) to float64 (d,); its sum is the rate.

    Raises:
        UserError: for no images, or numbers that are not finite.
    """
    return _checked("kl", kl, 1).mean(dim=0)


def mutual_information(z: Tensor, means: Tensor, log_variances: Tensor) -> float:
    """I(x; z) in nats under q(z|x) and the N equally likely images.

    Hoffman and Johnson, 2016, http://approximateinference.org/accepted/HoffmanJohnson2016.pdf: the rate falls into
    I(x; z) + KL(q(z) || p(z)), with the aggregated posterior q(z) = 1/N sum_n q(z|x_n), so that

        I(x; z) = E_x KL(q(z|x) || p(z)) - KL(q(z) || p(z)) = E[log q(z|x) - log q(z)]

    which is estimated with one z of each image. `calc_mi` of https://github.com/jxhe/vae-lagging-encoder has the same
    expectation, but takes E[log q(z|x)] in closed form; with the same z in both terms their errors cancel, and a
    collapsed posterior has 0. At most log N for any latents; may fall below 0 by chance.

    Squares are expanded into matrix products: exact to about 1e-16 z^2 / sigma^2 nats.

    Args:
        z: (N, d), a sample of each posterior.
        means: (N, d).
        log_variances: (N, d), of diagonal Gaussians.

    Raises:
        UserError: for shapes that differ, no images, or numbers that are not finite.
    """
    if not z.shape == means.shape == log_variances.shape:
        found = ", ".join(str(tuple(x.shape)) for x in (z, means, log_variances))
        raise UserError(f"z, means and log_variances: shapes {found} were found, one (N, d) is expected")
    z, means = _checked("z", z, 1), _checked("means", means, 1)
    log_variances = _checked("log_variances", log_variances, 1)
    n = len(z)
    precisions = torch.exp(-log_variances)
    own = -0.5 * ((z - means).square() * precisions + log_variances).sum(1)  # log q(z_i|x_i) + d/2 log 2 pi
    constant = (means.square() * precisions + log_variances).sum(1)  # (N,)
    linear = (means * precisions).T  # (d, N)
    gains = []
    for rows, mine in zip(z.split(max(1, PAIRS // n)), own.split(max(1, PAIRS // n)), strict=True):
        each = -0.5 * (rows.square() @ precisions.T - 2 * rows @ linear + constant)  # (b, N), log q(z_i|x_n) likewise
        gains.append(mine - torch.logsumexp(each, 1) + math.log(n))  # log q(z_i|x_i) - log q(z_i)
    return math.fsum(torch.cat(gains).tolist()) / n


def _checked(name: str, numbers: Tensor, least: int) -> Tensor:
    """``numbers`` (N, d) in float64 on the CPU."""
    if numbers.ndim != 2 or len(numbers) < least:
        found = tuple(numbers.shape)
        raise UserError(f"{name}: shape {found} was found, (N, d) with N of at least {least} is expected")
    bad = int((~torch.isfinite(numbers)).any(dim=1).sum())
    if bad:
        raise UserError(f"{name}: those of {bad} of {len(numbers)} images are NaN or infinite")
    return numbers.cpu().double()
