"""A model whose log p(x) and true posterior are known: x = W z + mean + sigma noise, W with orthogonal columns."""

import numpy as np
import torch
from lightning import LightningModule
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from lit_gen.core.errors import UserError
from lit_gen.data.images.tensors import TensorSet
from lit_gen.protocols.latents import Code

SIDE, DIM = 5, 3


class Pixels(Normal):
    def log_prob(self, x):
        return super().log_prob(x).flatten(1).sum(1)


class LinearGaussian(LightningModule):
    """Posterior N(m, v) is q where ``shift`` is 0 and ``scale`` is 1; else q is N(m + shift, scale v)."""

    def __init__(
        self, shift=0.0, scale=1.0, num_classes=None, gains=(1.5, 0.8, 0.3), info=("kl", "mean", "log_variance")
    ):
        super().__init__()
        self.latent_dim, self.num_classes, self.seed = DIM, num_classes, 5
        self.shift, self.scale, self.info, self.bad, self.shapes = shift, scale, info, None, []
        generator = torch.Generator().manual_seed(1)
        basis = torch.linalg.qr(torch.randn(SIDE**2, DIM, generator=generator).double()).Q
        self.register_buffer("w", basis * torch.tensor(gains).double())
        self.register_buffer("means", 0.3 * torch.randn(num_classes or 1, SIDE**2, generator=generator).double())
        self.sigma = 0.4
        self.unused = nn.Parameter(torch.zeros(()))

    def training_step(self, batch):
        return self.unused**2

    def validation_step(self, batch):
        pass

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def mean_of(self, x, labels):
        assert (labels is None) == (self.num_classes is None)
        return self.means[torch.zeros(len(x), dtype=torch.int64) if labels is None else labels]

    def posterior(self, x, labels):
        variance = 1 / (1 + self.w.square().sum(0) / self.sigma**2)
        mean = (x.flatten(1).double() - self.mean_of(x, labels)) @ self.w / self.sigma**2 * variance
        return mean + self.shift, (variance * self.scale).expand_as(mean)

    def encode(self, images, noise, labels=None, weights="ema"):
        assert not self.training
        self.shapes.append(tuple(images.shape))
        mean, variance = self.posterior(images, labels)
        z = mean + variance.sqrt() * noise
        kl = 0.5 * (variance + mean**2 - 1 - variance.log())
        known = {"kl": kl, "mean": mean, "log_variance": variance.log()}
        return Code(z, kl.sum(1), {name: known[name] for name in self.info})

    def prior(self, noise, weights="ema"):
        return noise

    def decode(self, z, labels=None, weights="ema"):
        return Pixels((z @ self.w.T + self.mean_of(z, labels)).unflatten(1, (1, SIDE, SIDE)), self.sigma)

    def log_weights(self, images, noise, labels=None, weights="ema"):
        assert not self.training
        if self.bad == "no density":
            raise UserError("model.bottleneck: no density")
        self.shapes.append((*images.shape, *noise.shape))
        k = noise.shape[1]
        mean, variance = (p[:, None] for p in self.posterior(images, labels))
        z = mean + variance.sqrt() * noise
        log_q = Normal(mean, variance.sqrt()).log_prob(z).sum(2)
        log_p = Normal(0.0, 1.0).log_prob(z).sum(2)
        x = images.double().repeat_interleave(k, 0)
        labels = None if labels is None else labels.repeat_interleave(k)
        weights = log_p - log_q + self.decode(z.flatten(0, 1), labels).log_prob(x).unflatten(0, (-1, k))
        if self.bad is not None:
            weights[self.bad] = torch.nan
        return weights

    def bits_per_dim(self, nats, dimensions):
        return nats / dimensions + 100

    def log_likelihood(self, x, labels=None):
        """The truth, (B,)."""
        covariance = self.w @ self.w.T + self.sigma**2 * torch.eye(SIDE**2).double()
        return MultivariateNormal(self.mean_of(x, labels), covariance).log_prob(x.flatten(1).double())


def images(folder, val=130, test=0, labels=False, **options):
    """Images with ``val`` held out: not whole blocks."""
    generator = np.random.default_rng(3)
    arrays = {"images": generator.integers(0, 256, (val + test + 20, SIDE, SIDE), dtype=np.uint8)}
    if labels:
        arrays["labels"] = np.arange(len(arrays["images"])) % 2
    path = folder / "images.npz"
    np.savez(path, **arrays)
    return TensorSet(str(path), val_size=val, test_size=test, batch_size=4, **options)
