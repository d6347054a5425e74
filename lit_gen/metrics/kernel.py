"""The kernel distance between two sets of features, KID if the features are Inception's."""

from typing import NamedTuple

from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.metrics.frechet import check_sets

__all__ = ["Kernel", "kernel_distance"]

SUBSETS, SUBSET_SIZE = 100, 1000  # as in torch-fidelity


class Kernel(NamedTuple):
    """The squared maximum mean discrepancy over random subsets."""

    mean: float
    """Mean over subsets: unbiased, so about 0 and possibly negative for samples of one law."""
    std: float | None
    """Standard deviation over subsets (n in the denominator), a spread of subsets, not the error of `mean`; None if
    a subset is the whole of both sides, so that there is only one."""
    subset_size: int
    """Samples of each side in a subset, as it was used."""


def kernel_distance(generated: Tensor, real: Tensor, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE) -> Kernel:
    """Unbiased estimate of E k(x, x') + E k(y, y') - 2 E k(x, y) with k(x, y) = (x . y / d + 1)^3.

    Bińkowski et al., 2018, https://arxiv.org/abs/1801.01401. Computed by torch-fidelity, its random subsets included,
    and equal to what that tool prints for the same features. These subsets depend on the order of the rows.

    Args:
        generated: (n, d) features, n >= 2.
        real: (m, d) features, m >= 2.
        subsets: how many random subsets, drawn without replacement from each side.
        subset_size: their size; if one side has fewer samples, that number is taken.

    Returns:
        Mean and spread over the subsets.

    Raises:
        UserError: for fewer than 1 subset or 2 samples in it, and as `check_sets`.
    """
    from torch_fidelity.metric_kid import kid_features_to_metric  # seconds: only where it is needed

    if subsets < 1 or subset_size < 2:
        raise UserError(f"found {subsets} subsets of {subset_size} samples, expected at least 1 subset of 2 samples")
    check_sets(2, generated=generated, real=real)
    size = min(subset_size, len(generated), len(real))
    found = kid_features_to_metric(
        generated, real, kid_subsets=subsets, kid_subset_size=size, rng_seed=2020, verbose=False
    )
    spread = None if len(generated) == len(real) == size else found["kernel_inception_distance_std"]
    return Kernel(found["kernel_inception_distance_mean"], spread, size)
