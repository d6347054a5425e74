"""The state behind each metric: rows with indices, put in order when the number is computed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from lit_gen.core.errors import UserError


class Rows(Metric):
    """Base: named lists of rows, each list with the indices of its rows."""

    full_state_update = False
    is_differentiable = False

    def __init__(self, *names: str, **options: Any) -> None:
        super().__init__(**options)
        for name in names:
            self.add_state(name, [], dist_reduce_fx="cat")
            self.add_state(f"{name}_indices", [], dist_reduce_fx="cat")

    def keep(self, name: str, rows: Tensor, indices: Tensor | None) -> None:
        """Keep ``rows`` (b, ...); a row without an index gets -1."""
        if indices is None:
            indices = torch.full((len(rows),), -1)
        elif indices.shape != rows.shape[:1]:
            raise UserError(f"indices: shape {tuple(indices.shape)} was found, {tuple(rows.shape[:1])} is expected")
        # processes exchange what lies on the metric's device; Apple's GPUs have no float64
        where = rows.device if self.device.type == "mps" else self.device
        getattr(self, name).append(rows.to(where))
        getattr(self, f"{name}_indices").append(indices.to(where, torch.int64))

    def rows(self, name: str) -> Tensor:
        """All rows (n, ...) on the CPU, in the order of their indices, each index once."""
        parts: list[Tensor] | Tensor = getattr(self, name)
        if not len(parts):
            raise UserError(f"{type(self).__name__}: no {name} rows were found; update comes before compute")
        rows, indices = (_joined(getattr(self, n)) for n in (name, f"{name}_indices"))
        if bool((indices < 0).any()):
            if bool((indices >= 0).any()):
                raise UserError("indices: some updates had them and some had not, all or none are expected")
            return rows
        order = indices.argsort(stable=True)
        indices = indices[order]
        first = torch.ones(len(indices), dtype=torch.bool)
        first[1:] = indices[1:] != indices[:-1]
        return rows[order[first]]


def _joined(parts: Sequence[Tensor] | Tensor) -> Tensor:
    """A state before or after torchmetrics has concatenated it."""
    return (parts if isinstance(parts, Tensor) else torch.cat(list(parts))).cpu()


def scalar(value: float) -> Tensor:
    """float64 () on the CPU, so that no digit is lost."""
    return torch.from_numpy(np.array(value, dtype=np.float64))
