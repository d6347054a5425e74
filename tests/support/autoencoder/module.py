"""The module and its networks."""

import torch
from torch import nn
from torch.nn import functional as F

from lit_gen.training.automatic import Automatic
from lit_gen.training.monitor import Monitor


class Shrink(nn.Module):
    """A network that cannot be made without what the data know."""

    def __init__(self, length: int, code: int = 2):
        super().__init__()
        self.length, self.code = length, code
        self.layer = nn.Linear(length, code)

    def forward(self, x):
        return self.layer(x)


class Expand(nn.Module):
    """Another, of the same length unless the config says otherwise."""

    def __init__(self, code: int = 2, length: int | None = None):
        super().__init__()
        self.length, self.code = length, code
        self.layer = nn.Linear(code, length)

    def forward(self, z):
        return self.layer(z)


class Autoencoder(Automatic):
    """Signals to codes and back; its networks have names that no other family uses."""

    def __init__(self, narrow: nn.Module, parts: list[nn.Module], seed: int = 0):
        super().__init__()
        self.keep_arguments()
        self.monitor = Monitor(["loss"])
        self.narrow, self.parts, self.schedule, self.seed = narrow, nn.ModuleList(parts), None, seed

    def configure_optimizers(self):
        return self.create_optimizer(torch.optim.Adam, self.parameters())

    def _error(self, signals):
        z = self.narrow(signals)
        return torch.stack([F.mse_loss(part(z), signals) for part in self.parts]).mean()

    def loss_of(self, batch, draws):
        loss = self._error(batch[0])
        self.record_terms({"loss": loss})
        return loss

    def validation_step(self, batch, batch_idx):
        self.log_scalars({"val/error": float(self._error(batch[0]))})
