"""The score of a classifier's predictions on generated images, IS if the classifier is Inception."""

from typing import NamedTuple

import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.metrics.frechet import check_features

__all__ = ["Score", "inception_score"]

SPLITS = 10  # the paper's
LEAST = -600.0  # exp of it is a normal float64; a lower log-probability makes torch-fidelity compute 0 * infinity


class Score(NamedTuple):
    """The score over splits of the samples."""

    mean: float
    """Between 1, the same prediction for every image, and K, sure predictions of K classes equally often."""
    std: float
    """Standard deviation over splits (splits in the denominator)."""


def inception_score(logits: Tensor, splits: int = SPLITS) -> Score:
    """exp(E_x KL(p(y|x) || p(y))), for each of ``splits`` random parts of the samples.

    Salimans et al., 2016, section 4, https://arxiv.org/abs/1606.03498. Computed by torch-fidelity, its shuffling
    included, and equal to what that tool prints for the same logits. The parts depend on the order of the rows.

    Args:
        logits: (n, K), one unnormalized log-probability per class; n >= ``splits``.
        splits: the number of parts.

    Raises:
        UserError: for fewer samples than splits, and as `check_features`.
    """
    from torch_fidelity.metric_isc import isc_features_to_metric  # seconds: only where it is needed

    check_features(logits, "class")
    if not 1 <= splits <= len(logits):
        raise UserError(f"found {splits} splits of {len(logits)} samples, expected 1 or more, each of a sample or more")
    logits = logits.cpu()
    logits = torch.maximum(logits, logits.amax(1, keepdim=True) + LEAST)  # changes no bit of usual logits
    found = isc_features_to_metric(logits, splits, shuffle=True, rng_seed=2020)
    return Score(found["inception_score_mean"], found["inception_score_std"])
