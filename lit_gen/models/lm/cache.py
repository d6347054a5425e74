"""The keys and values that a transformer keeps while it reads or writes a text, for rows of unequal length.

Prompts are padded on the right. A row's new keys go to the slots from its length on; those of padding are never
written. A query sees only the slots up to its own position, so keys that an earlier text left in a row are never seen.
A forward pass is: `KeyValueCache.begin` (where do the new tokens go), `Chunk.extend` in every layer,
`Chunk.finish` (the rows grow).
"""

from typing import Self

import torch
from torch import Tensor


class KeyValueCache:
    """Keys and values of all layers, and the length of each row; a `lit_gen.protocols.text.Cache`.

    For inference, under ``torch.no_grad()``: it is written in place.

    Args:
        keys: float (n_layer, B, n_kv_head, block_size, head_dim).
        values: likewise.
        lengths: int64 (B,), tokens so far of each row.
    """

    def __init__(self, keys: Tensor, values: Tensor, lengths: Tensor) -> None:
        self.keys, self.values, self.lengths = keys, values, lengths

    def take(self, rows: Tensor) -> Self:
        """A copy of the given rows, int64 (k,), which may repeat."""
        return type(self)(self.keys[:, rows], self.values[:, rows], self.lengths[rows])

    def put(self, rows: Tensor, other: Self) -> None:
        """Replace rows, int64 (k,), by those of a cache of k rows."""
        self.keys[:, rows], self.values[:, rows], self.lengths[rows] = other.keys, other.values, other.lengths

    def begin(self, width: int, lengths: Tensor | None) -> "Chunk":
        """Make room for ``width`` tokens of each row, of which the first ``lengths`` (B,) are real; None: all are.

        Raises:
            ValueError: if a row would grow longer than the cache, or has more real tokens than there are.
        """
        return Chunk(self, width, torch.full_like(self.lengths, width) if lengths is None else lengths)


class Chunk:
    """The new tokens of one forward pass: where they are, and what they leave in a cache.

    Args:
        cache: the cache to extend.
        width: T, new tokens of each row, padding included.
        lengths: int64 (B,), how many of them are real.

    Attributes:
        positions: int64 (B, T), each token's index in its row; that of padding may be clamped to the last position.
        seen: S, the number of slots that the longest row fills after this pass: attention needs no others.
    """

    def __init__(self, cache: KeyValueCache, width: int, lengths: Tensor) -> None:
        size = cache.keys.shape[-2]
        grown = cache.lengths + lengths  # (B,)
        self.seen = int(grown.max())
        if self.seen > size or int(lengths.max()) > width:
            raise ValueError(
                f"cache: rows of {cache.lengths.tolist()} tokens cannot take {lengths.tolist()} more out of {width}; "
                f"at most block_size {size} are expected"
            )
        steps = torch.arange(width, device=lengths.device)
        self.positions = (cache.lengths[:, None] + steps).clamp(max=size - 1)  # (B, T)
        # where the real tokens are, (N,) each: padding may lie beyond the last slot, so only they are written
        self._rows, self._columns = (steps < lengths[:, None]).nonzero(as_tuple=True)
        self._slots = self.positions[self._rows, self._columns]
        self._cache, self._grown = cache, grown

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write one layer's new keys and values (B, n_kv_head, T, head_dim); return all so far, with S for T."""
        for store, new in ((self._cache.keys, k), (self._cache.values, v)):
            real = new.detach().transpose(1, 2)[self._rows, self._columns]  # (N, n_kv_head, head_dim)
            store[layer][self._rows, :, self._slots] = real.to(store.dtype)
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        return keys[:, :, : self.seen].type_as(k), values[:, :, : self.seen].type_as(v)

    def finish(self) -> None:
        """Let the rows grow by their real tokens."""
        self._cache.lengths = self._grown
