"""Priors, posteriors and bottlenecks of one's own, written to the contract."""

import math

import torch
from torch import nn

from lit_gen.models.vae.bottleneck import Bottleneck, Code
from lit_gen.models.vae.latents import DiagonalGaussian, Normal, Posterior, Prior


def shaken(module, by=0.3, seed=5):
    """A module with every parameter moved, so that flows are past their beginning as the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return module


class WidePrior(Prior):
    """N(shift, scale^2), learned; its KL in closed form is not given."""

    def __init__(self, latent_dim):
        super().__init__()
        self.latent_dim = latent_dim
        self.shift, self.log_scale = nn.Parameter(torch.zeros(latent_dim)), nn.Parameter(torch.full((latent_dim,), 0.5))

    def log_prob(self, z):
        # arguments that are checked are read, for which a GPU would be waited for
        return torch.distributions.Normal(self.shift, self.log_scale.exp(), validate_args=False).log_prob(z).sum(1)

    def sample(self, noise):
        return self.shift + self.log_scale.exp() * noise


class Affine(Posterior):
    """A flow of one learned layer: z = g * z0, which adds its log-determinant."""

    def __init__(self):
        super().__init__()
        self.log_gain = nn.Parameter(torch.tensor(0.2))

    def features(self, latent_dim):
        return 2 * latent_dim

    def forward(self, features):
        base = DiagonalGaussian()(features)
        log_gain = self.log_gain

        class Flow:
            mean = log_variance = None

            def sample(self, noise):
                return base.sample(noise) * log_gain.exp()

            def log_prob(self, z):
                return base.log_prob(z * (-log_gain).exp()) - z.shape[1] * log_gain

        return Flow()


class Planar(Posterior):
    """A flow without an inverse: z = z0 + u tanh(w z0 + b), u, w and b from the encoder (Rezende and Mohamed, 2015)."""

    def features(self, latent_dim):
        return 4 * latent_dim + 1

    def forward(self, features):
        mean, log_variance, u, w = features[:, :-1].chunk(4, 1)
        base, b = Normal(mean, log_variance), features[:, -1]
        u = 0.2 * torch.tanh(u)  # |u w| below 1: z0 to z stays one to one
        w = torch.tanh(w)

        class Flow:
            mean = log_variance = None

            def draw(self, noise):
                z0 = base.sample(noise)
                bent = torch.tanh((w * z0).sum(1) + b)
                stretch = torch.log1p((1 - bent**2) * (u * w).sum(1))
                return z0 + u * bent[:, None], base.log_prob(z0) - stretch

        return Flow()


class Codebook(Bottleneck):
    """The nearest of four codes, straight through, at a flat rate of log 4 nats."""

    def __init__(self, latent_dim):
        super().__init__(latent_dim, latent_dim)
        self.codes = nn.Parameter(torch.linspace(-1, 1, 4)[:, None].repeat(1, latent_dim))

    def forward(self, features, noise):
        self.expect_features(features)
        code = self.codes[torch.cdist(features, self.codes).argmin(1)]
        penalty = (features - code.detach()).square().sum(1) + (features.detach() - code).square().sum(1)
        return Code(features + (code - features).detach(), features.new_full((len(features),), math.log(4)),
                     {"penalty": penalty})  # fmt: skip

    def sample(self, noise):
        uniform = torch.special.ndtr(noise[:, 0])
        return self.codes[(4 * uniform).long().clamp(max=3)]
