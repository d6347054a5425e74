"""Signals instead of images: what the package has never heard of, its data module answers for."""

import torch
from torch.utils.data import DataLoader, TensorDataset

from lit_gen.data.module import DataModule


class Waves(DataModule):
    """Sines of random phase."""

    def __init__(self, length: int = 16, batch_size: int = 8, root: str | None = None, seed: int = 0):
        super().__init__(root, seed)
        self.length, self.batch_size = length, batch_size

    def facts(self):
        return {"length": self.length}

    def per_step(self):
        return self.batch_size, "signals"

    def train_dataloader(self):
        phase = torch.rand(64, 1, generator=torch.Generator().manual_seed(self.seed)) * 6.28
        signals = torch.sin(phase + torch.arange(self.length) / 2)
        return DataLoader(TensorDataset(signals), self.batch_size)

    def val_dataloader(self):
        return self.train_dataloader()
