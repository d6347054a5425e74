"""A model with latents in closed form: both directions are linear, q(z|x) is a Gaussian, and nothing is trained."""

import torch
from lightning import LightningModule, Trainer
from torch import nn

from lit_gen.core import randomness
from lit_gen.core.sampling import labels_of, record_of
from lit_gen.data.images import mnist
from lit_gen.data.images.mnist import MNIST
from lit_gen.protocols.latents import Code


def digits(**options):
    return MNIST(embedded=True, batch_size=16, **options)


class Around:
    def __init__(self, mean):
        self.mean = mean

    def log_prob(self, x):
        return -(x - self.mean).square().flatten(1).sum(1)


class Linear(LightningModule):
    """Principal components of the digits, z of about unit variance; dropout only shows in which mode it is called."""

    seed, averaged = 3, False

    def __init__(self, latent_dim=4, num_classes=None, sigma=0.1):
        super().__init__()
        self.latent_dim, self.num_classes, self.sigma = latent_dim, num_classes, sigma
        x = mnist.embedded_digits().images.flatten(1).float() / 127.5 - 1
        self.center = nn.Buffer(x.mean(0))
        _, values, vectors = torch.linalg.svd(x[::5] - self.center, full_matrices=False)
        self.axes = nn.Buffer(vectors[:latent_dim])  # (d, 784)
        self.scale = nn.Buffer(values[:latent_dim] / 1000**0.5)
        self.weight, self.dropout = nn.Parameter(torch.zeros(())), nn.Dropout(0.9)
        self.calls = []

    def encode(self, images, noise, labels=None, weights="ema"):
        assert not self.training
        assert not torch.is_grad_enabled()
        self.calls.append(("encode", len(images), labels))
        mean = (self.dropout(images.flatten(1)) - self.center) @ self.axes.T / self.scale
        z, log_variance = mean + self.sigma * noise, torch.full_like(mean, 2 * torch.tensor(self.sigma).log())
        kl = 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance)
        return Code(z, kl.sum(1), {"mean": mean, "log_variance": log_variance, "kl": kl})

    def prior(self, noise, weights="ema"):
        return noise

    def decode(self, z, labels=None, weights="ema"):
        self.calls.append(("decode", len(z), labels))
        images = self.center + (z * self.scale) @ self.axes
        if self.num_classes is not None:
            images = images + labels[:, None] / 10
        return Around(images.view(-1, 1, 28, 28))

    def log_weights(self, images, noise, labels=None, weights="ema"):
        raise NotImplementedError

    def bits_per_dim(self, nats, dimensions):
        raise NotImplementedError

    def drawing_record(self):
        return record_of(self.seed, None)

    def sample(self, indices, *, labels=None, weights="ema"):
        z = randomness.latents(self.seed, indices, self.latent_dim)
        if self.num_classes is not None and labels is None:
            labels = labels_of(self.seed, indices, torch.ones(self.num_classes))
        parts = [self.decode(part, None if labels is None else labels[:1].expand(len(part))) for part in z.split(64)]
        return torch.cat([part.mean for part in parts])

    def training_step(self, batch, index):
        assert self.training
        return self.weight * torch.rand(()) * 0

    def validation_step(self, batch, index):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(model, folder, callbacks, steps=4, data=None, **options):
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        limit_val_batches=0,
        logger=options.pop("logger", False),
        callbacks=callbacks,
        default_root_dir=folder,
        **quiet,
        **options,
    )
    trainer.fit(model, datamodule=data or digits())
    return trainer


class Plain(LightningModule):
    num_classes, averaged = None, False

    def drawing_record(self):
        return {}

    def sample(self, indices, *, labels=None, weights="ema"):
        return torch.zeros(len(indices), 1, 28, 28)

    def training_step(self, batch, index):
        pass

    def validation_step(self, batch, index):
        pass

    def configure_optimizers(self):
        pass
