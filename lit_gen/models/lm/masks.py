"""What a token may see: those before it, within its own document."""

import math

import torch
from torch import Tensor

from lit_gen.models.lm.cache import Chunk
from lit_gen.models.lm.layers import alibi_slopes


def visible(positions: Tensor, chunk: Chunk | None, alibi_heads: int | None) -> Tensor | None:
    """What tokens at ``positions`` (B or 1, T) may see of S keys, as attention takes it.

    Args:
        positions: int64.
        chunk: what came before; None: the keys are the tokens themselves.
        alibi_heads: heads of an ALiBi bias; None without one.

    Returns:
        A boolean mask (B or 1, 1, T, S), or the bias (B or 1, n_head, T, S). None: plainly causal, or with a chunk all
        of them. A mask that hides nothing would cost time and change nothing.
    """
    if alibi_heads is None and (chunk is None or chunk.everything):
        return None
    keys = torch.arange(positions.shape[1] if chunk is None else chunk.seen, device=positions.device)
    distance = positions[:, None, :, None] - keys  # (B or 1, 1, T, S)
    if alibi_heads is None:
        return distance >= 0
    bias = -alibi_slopes(alibi_heads, positions.device)[:, None, None] * distance  # (B or 1, n_head, T, S)
    return bias.masked_fill(distance < 0, -math.inf)


def within_documents(documents: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Positions and mask of rows that hold several documents.

    Args:
        documents: int64 (B, T); equal numbers side by side are one document.
        mask: what whole rows may see, as of `visible`.

    Returns:
        Positions int64 (B, T), 0 at the beginning of each document, and a mask (B, 1 or n_head, T, T) that hides other
        documents too.
    """
    places = torch.arange(documents.shape[1], device=documents.device)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    first = torch.where(begins, places, 0).cummax(dim=1).values  # (B, T), where each token's document begins
    same = first[:, None, :, None] == first[:, None, None, :]  # (B, 1, T, T)
    if mask is None:
        return places - first, same & (places[:, None] >= places)
    return places - first, mask.masked_fill(~same, -math.inf)  # ALiBi's
