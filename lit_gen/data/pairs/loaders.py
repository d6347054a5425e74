"""Pairs from batches: the loaders of images give order, rows and position; a function makes pairs of a batch."""

from collections.abc import Callable, Iterator

import torch

from lit_gen.data.images.loaders import EvalLoader, TrainLoader
from lit_gen.protocols.images import ImageBatch, ImagePair


class TrainPairs:
    """Shuffled pairs, one batch for each step; its state is the position of its loader.

    Args:
        loader: of the batches.
        pair: from a batch and its epoch to pairs.
    """

    def __init__(self, loader: TrainLoader, pair: Callable[[ImageBatch, int], ImagePair]) -> None:
        self.loader, self._pair = loader, pair

    def __len__(self) -> int:
        return len(self.loader)

    def state_dict(self) -> dict[str, int]:
        """See `TrainLoader`."""
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """See `TrainLoader`."""
        self.loader.load_state_dict(state)

    def __iter__(self) -> Iterator[ImagePair]:
        """The remaining batches of the epoch."""
        epoch = self.loader.step // self.loader.steps
        for batch in self.loader:
            yield self._pair(batch, epoch)


class EvalPairs:
    """Every pair exactly once over all ranks, in the blocks of `EvalLoader`.

    Pairs are made on the host, where noise is the same for every device, then put on the device.

    Args:
        loader: of the blocks, on the host.
        pair: from a block to pairs.
        device: where pairs are put.
    """

    def __init__(
        self, loader: EvalLoader, pair: Callable[[ImageBatch], ImagePair], device: torch.device | None = None
    ) -> None:
        self.loader, self._pair, self.device = loader, pair, device or torch.device("cpu")

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[ImagePair]:
        for batch in self.loader:
            pair = self._pair(batch)
            labels, mask = (x if x is None else x.to(self.device) for x in (pair.labels, pair.mask))
            source, target = pair.source.to(self.device), pair.target.to(self.device)
            yield pair._replace(source=source, target=target, labels=labels, mask=mask)
