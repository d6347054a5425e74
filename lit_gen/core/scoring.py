"""The density of any data, in whole blocks of 64 rows, so that equal data have bit-equal nats."""

from typing import Any

import torch
from torch import Tensor

from lit_gen.core.blame import shown
from lit_gen.core.errors import UserError
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
        data: uint8 images (n, C, H, W), float32 ones in [-1, 1], or points (n, D, 1, 1) of either type.
        labels: int64 (n,) of a conditional model.
        weights: the moving average, or the raw weights.

    Returns:
        float32 (n,) on the CPU.

    Raises:
        UserError: for data that the density is not of, or labels that it has no class for.
    """
    module: Any = model
    if not isinstance(data, Tensor) or data.ndim != 4 or data.dtype not in (torch.uint8, torch.float32):
        raise UserError(
            f"data: {shown(data)} was found, uint8 or float32 (n, C, H, W) is expected; points are (n, D, 1, 1)"
        )
    if labels is not None:
        if not isinstance(labels, Tensor) or labels.shape != (len(data),) or labels.dtype != torch.int64:
            raise UserError(f"labels: {shown(labels)} was found, int64 ({len(data)},) is expected")
        check_labels(labels, getattr(model, "num_classes", None))
    points = getattr(model, "levels", None) is None
    found = []
    with exact_math(module.device):
        for first in range(0, len(data), BLOCK):
            rows = torch.arange(first, first + BLOCK)
            place = rows.clamp(max=len(data) - 1)  # the last block is filled with its last row
            images = data[place].to(module.device)
            images = images.float() if points else to_float(images)
            given = None if labels is None else labels[place].to(module.device)
            nats = model.log_prob(images, rows, given, weights)
            found.append(nats[: len(data) - first].float().cpu())
    return torch.cat(found) if found else torch.zeros(0)
