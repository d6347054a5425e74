"""The density of any data, in whole blocks of 64 rows, so that equal data have bit-equal nats."""

from typing import Any

import torch
from torch import Tensor

from lit_gen.core.images import to_float
from lit_gen.core.modes import exact_math
from lit_gen.core.randomness import BLOCK
from lit_gen.core.sampling import check_labels
from lit_gen.protocols.flows import DensityModel
from lit_gen.protocols.images import Weights


def scored(model: DensityModel, data: Tensor, labels: Tensor | None = None, weights: Weights = "ema") -> Tensor:
    """Nats of each row; row i has the noise of index i.

    Args:
        model: a module with a density.
        data: uint8 images (n, C, H, W), float ones in [-1, 1], or points.
        labels: int64 (n,) of a conditional model.
        weights: the moving average, or the raw weights.

    Returns:
        float32 (n,) on the CPU.

    Raises:
        UserError: for data that the density is not of, or labels that it has no class for.
    """
    module: Any = model
    if labels is not None:
        check_labels(labels, getattr(model, "num_classes", None))
    found = []
    with exact_math(module.device):
        for first in range(0, len(data), BLOCK):
            rows = torch.arange(first, first + BLOCK)
            place = rows.clamp(max=len(data) - 1)  # the last block is filled with its last row
            images = to_float(data[place].to(module.device))
            given = None if labels is None else labels[place].to(module.device)
            nats = model.log_prob(images, rows, given, weights)
            found.append(nats[: len(data) - first].float().cpu())
    return torch.cat(found) if found else torch.zeros(0)
