"""Rows in whole blocks of equal shape, in which networks are evaluated."""

import torch
from torch import Tensor

from lit_gen.core.randomness import BLOCK


def padded(rows: Tensor, first: int) -> Tensor:
    """A block (64, ...) of rows from ``first`` on, the last one filled up with zeros."""
    block = rows[first : first + BLOCK]
    missing = BLOCK - len(block)
    return torch.cat([block, block.new_zeros(missing, *block.shape[1:])]) if missing else block


def occurrences(indices: Tensor) -> Tensor:
    """How often each entry stood before it in ``indices`` (n,)."""
    if bool((indices[1:] > indices[:-1]).all()):
        return torch.zeros_like(indices)
    order = torch.argsort(indices, stable=True)
    ordered = indices[order]
    start = torch.searchsorted(ordered, ordered)  # first place of equal entries
    return torch.empty_like(indices).scatter_(0, order, torch.arange(len(indices)) - start)
