"""Structural similarity of images: one formula, for the metric and for the loss."""

import math

from torch import Tensor

RADIUS, SIGMA = 5, 1.5
K1, K2 = 0.01, 0.03
SIDE = 2 * RADIUS + 1
"""Pixels of a side of the window."""


def structural_similarity(a: Tensor, b: Tensor, data_range: float) -> Tensor:
    """SSIM of each pair of images; Wang et al., 2004, https://doi.org/10.1109/TIP.2003.819861.

        (2 m_a m_b + C1) (2 s_ab + C2) / ((m_a^2 + m_b^2 + C1) (s_a^2 + s_b^2 + C2))

    with the means m, variances s^2 and covariance s_ab in a Gaussian window of 11 x 11 pixels, sigma = 1.5, C1 = (0.01
    L)^2 and C2 = (0.03 L)^2; the mean over all windows within the image, and over channels.

    Args:
        a: (B, C, H, W), at least 11 x 11 pixels.
        b: the same shape.
        data_range: L, the distance between the smallest and the largest value that a pixel can have.

    Returns:
        (B,), at most 1, in the type of ``a``.
    """
    mean_a, mean_b = _windowed(a), _windowed(b)
    variance_a, variance_b = _windowed(a * a) - mean_a**2, _windowed(b * b) - mean_b**2
    covariance = _windowed(a * b) - mean_a * mean_b
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return (luminance * structure).flatten(1).mean(1)


def _windowed(values: Tensor) -> Tensor:
    """Means in the window around each pixel whose window is within the image.

    By sums: a convolution on a GPU may round its factors to 10 bits, and variances are small differences.
    """
    weights = [math.exp(-(offset**2) / (2 * SIGMA**2)) for offset in range(-RADIUS, RADIUS + 1)]
    shares = [weight / sum(weights) for weight in weights]
    for dim in (2, 3):
        size = values.shape[dim] - 2 * RADIUS
        values = sum((w * values.narrow(dim, k, size) for k, w in enumerate(shares)), values.new_zeros(()))
    return values
