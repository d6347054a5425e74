"""Bits per dimension: the one place that converts nats to them.

A level of an image with L levels is an interval of the density's axis. Its width is 1 where levels are 0, ..., L - 1
and the density is over [0, L), and 2 / L where the density is over [-1, 1]. The probability of a level is about the
density times that width, so that -log2 of the width is added for each dimension; nothing for a probability mass.
"""

import math


def bits_per_dim(nats: float, dimensions: int, width: float = 1.0) -> float:
    """Bits per dimension: nats / (D ln 2) - log2(width).

    Args:
        nats: a negative log-likelihood of all dimensions, of a density or a mass.
        dimensions: D = C * H * W.
        width: of a level, in the units of the density; 1 for a mass.
    """
    return nats / (dimensions * math.log(2)) + offset(width)


def offset(width: float) -> float:
    """Bits that levels of this width add to each dimension."""
    return -math.log2(width)
