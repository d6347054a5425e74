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
        return Chunk(self, width, lengths)


class Chunk:
    """The new tokens of one forward pass: where they are, and what they leave in a cache.

    Args:
        cache: the cache to extend.
        width: T, new tokens of each row, padding included.
        lengths: int64 (B,), how many of them are real; None: all are.

    Attributes:
        positions: int64 (B or 1, T), each token's index in its row; that of padding may be clamped to the last
            position.
        seen: S, the number of slots that the longest row fills after this pass: attention needs no others.
        everything: every query sees all of these, as the newest token does if all rows are as long.
    """

    def __init__(self, cache: KeyValueCache, width: int, lengths: Tensor | None) -> None:
        size = cache.keys.shape[-2]
        before = cache.lengths.tolist()
        real = [width] * len(before) if lengths is None else lengths.tolist()
        self.seen = max(map(sum, zip(before, real, strict=True)))
        if self.seen > size or max(real) > width:
            raise ValueError(
                f"cache: rows of {before} tokens cannot take {real} more out of {width}; "
                f"at most block_size {size} are expected"
            )
        self._cache, where, even = cache, cache.lengths.device, lengths is None and min(before) == max(before)
        self._keys, self._values = (
            cache.keys[:, :, :, : self.seen].unbind(),
            cache.values[:, :, :, : self.seen].unbind(),
        )
        if even:
            self.positions = torch.arange(before[0], self.seen, device=where)[None]  # (1, T)
            new = slice(before[0], self.seen)
            self._new_keys, self._new_values = cache.keys[:, :, :, new].unbind(), cache.values[:, :, :, new].unbind()
        else:
            steps = torch.arange(width, device=where)
            self.positions = (cache.lengths[:, None] + steps).clamp(max=size - 1)  # (B, T)
            # where the real tokens are, (N,) each: padding may lie beyond the last slot, so only they are written
            counts = torch.full_like(cache.lengths, width) if lengths is None else lengths
            self._rows, self._columns = (steps < counts[:, None]).nonzero(as_tuple=True)
            self._places = self.positions[self._rows, self._columns]
        self._even, self.everything = even, even and width == 1
        self._grown = cache.lengths + (width if lengths is None else lengths)  # (B,)

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write one layer's new keys and values (B, n_kv_head, T, head_dim); return all so far, with S for T."""
        keys, values = self._keys[layer], self._values[layer]
        if self._even:
            self._new_keys[layer].copy_(k.detach())
            self._new_values[layer].copy_(v.detach())
        else:
            for store, new in ((keys, k), (values, v)):
                real = new.detach().transpose(1, 2)[self._rows, self._columns]  # (N, n_kv_head, head_dim)
                store[self._rows, :, self._places] = real.to(store.dtype)
        return (keys, values) if keys.dtype == k.dtype else (keys.type_as(k), values.type_as(v))

    def finish(self) -> None:
        """Let the rows grow by their real tokens."""
        self._cache.lengths = self._grown
