"""Pairs in closed form: a digit smaller by dropped pixels and darker, and the digit; some with a hole, or in colour."""

import torch

from lit_gen.core.images import to_float
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.mnist import MNIST
from lit_gen.protocols.images import ImagePair


class Batches:
    """A loader: a list would be one of loaders."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


class PairedDigits(MNIST):
    """The embedded digits; options for what pictures of them must cope with.

    Args:
        factor: every how many pixels of a row and a column the source has.
        holes: whether the middle of a source is hidden.
        channels: of the target; the source has one.
        held_out: of the splits that have pairs.
    """

    def __init__(self, factor=1, holes=False, channels=1, held_out=("val", "test"), batch_size=16, seed=0):
        super().__init__(embedded=True, batch_size=batch_size, seed=seed)
        self.factor, self.holes, self.channels, self.held_out = factor, holes, channels, held_out
        self.asked = []

    def pair(self, split, indices):
        target = to_float(self.split(split).images[indices])
        source = target[:, :, :: self.factor, :: self.factor] * 0.4 - 0.6
        mask = None
        if self.holes:
            mask = torch.zeros(len(source), 1, *source.shape[2:])
            mask[:, :, 10:18, 10:18] = 1
        return ImagePair(source, target.repeat(1, self.channels, 1, 1), None, indices, mask)

    def split(self, split):
        found = super().split(split)
        return found if split in ("train", *self.held_out) else ImageSet(found.images[:0])

    def pairs(self, split):
        for k, indices in enumerate(torch.arange(len(self.split(split))).split(64)):
            self.asked.append((split, k))
            yield self.pair(split, indices)

    def predict_dataloader(self):
        return Batches([self.pair("test", torch.arange(3)), self.pair("test", torch.arange(3, 5))])
