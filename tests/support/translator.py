"""A "model" outside the package that changes images: one weight, in closed form."""

import torch
from torch import nn

from lit_gen.training.automatic import Automatic
from lit_gen.training.monitor import Monitor


class Scale(nn.Module):
    """The images times one learned number."""

    def __init__(self, gain: float = -1.0):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x):
        return self.gain * x


class Translator(Automatic):
    """The negative of an image, enlarged by copies of pixels; holes become white."""

    averaged = False

    def __init__(
        self,
        scale: Scale,
        source_shape: tuple[int, int, int] | None = (1, 28, 28),
        levels: int = 256,
        masked: bool = False,
        factor: int = 1,
        target_channels: int | None = None,
        smallest: int = 1,
        seed: int = 0,
    ):
        super().__init__()
        self.keep_arguments()
        self.scale, self.source_shape, self.levels, self.masked = scale, source_shape, levels, masked
        self.factor, self.target_channels, self.smallest = factor, target_channels, smallest
        self.seed, self.schedule, self.monitor, self.calls = seed, None, Monitor(["loss"]), []

    def translate(self, images, *, mask=None, weights="ema", tile=None, border=None):
        self.calls.append((tuple(images.shape), weights, tile, border, self.training, torch.is_grad_enabled()))
        if min(images.shape[2:]) < self.smallest:
            from lit_gen.core.errors import UserError

            raise UserError(f"images of at least {self.smallest} pixels are expected")
        made = self.scale(images)
        made = made if mask is None else torch.where(mask > 0, 1.0, made)
        if self.target_channels is not None:
            made = made[:, :1].expand(-1, self.target_channels, -1, -1)
        return made.repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)

    def configure_optimizers(self):
        return self.create_optimizer(torch.optim.SGD, [{"params": self.scale.parameters(), "lr": 0.0}])

    def loss_of(self, batch, draws):
        images = batch.source if hasattr(batch, "source") else batch.images
        loss = self.scale(images).square().mean()
        self.record_terms({"loss": loss})
        return loss

    def predict_step(self, batch, index):
        return self.translate(batch.source, mask=batch.mask)
