"""The bottleneck between encoder and decoder. Only it knows posterior, prior and rate.

`latents.py` has the simplest posterior and prior, and the bases of both; `posteriors.py` and `priors.py` have others.

The contract, for other bottlenecks (a flow posterior, a learned prior, a codebook). A `Bottleneck` is an `nn.Module`:

- ``latent_dim``: numbers of one image's z, which the decoder reads; ``features``: numbers that it wants of the encoder.
- ``forward(features, noise) -> Code(z, nats, info)``: z is a function of both arguments, ``noise`` (B, latent_dim)
  being standard normal; a bottleneck that needs uniform noise applies the distribution function, others may ignore it.
  ``nats`` (B,) is the rate: KL(q(z|x) || p(z)) in closed form or its estimate log q(z|x) - log p(z), and for a codebook
  what it costs to send the codes. ``info`` may hold, under these names: ``kl`` (B, latent_dim), the rate by dimension
  (free bits and the diagnostics need it); ``mean`` and ``log_variance`` (B, latent_dim) of q; ``penalty`` (B,), which
  objectives add to the loss and never to a bound: a codebook's commitment loss; ``log_ratio`` (B,), log p(z) - log
  q(z|x) of this z, from a bottleneck that cannot compute it for others, such as a flow without an inverse. Other names
  are free.
- ``sample(noise) -> z``: from the prior, of noise as above.
- ``log_ratio(features, z, fixed=False) -> (B,)``: log p(z) - log q(z|x), for importance weights; not called if
  ``info`` has it, except with ``fixed=True``. `IWAE` with ``dreg`` needs that: the same number, with no gradient to the
  parameters of q except through z. A bottleneck without such a number raises a `UserError`, as the base does.
- ``attach(encoder)``: it may ask the encoder too, as a prior does that is a mixture of posteriors.
- a codebook updates itself in `forward`, in training mode; its statistics and parameters are buffers and
  parameters, and so are in the checkpoint.

Latents of feature maps are flattened to (B, latent_dim); the decoder knows their shape. All of it runs in float32.
"""

import torch
from torch import Tensor, nn

from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least
from lit_gen.models.likelihoods.numerics import wide
from lit_gen.models.vae.latents import DiagonalGaussian, LatentDistribution, Posterior, Prior, StandardNormal, draw
from lit_gen.protocols.latents import Code

__all__ = ["Bottleneck", "Code", "GaussianBottleneck"]


class Bottleneck(nn.Module):
    """Base of the bottlenecks; see the contract above.

    Args:
        latent_dim: numbers of one image's z.
        features: numbers of one image that the encoder must give.

    Raises:
        UserError: if either is below 1.
    """

    def __init__(self, latent_dim: int, features: int) -> None:
        super().__init__()
        at_least(1, "model.bottleneck.", latent_dim=latent_dim, features=features)
        self.latent_dim, self.features = latent_dim, features

    def attach(self, encoder: nn.Module) -> None:
        """Get to know the encoder, for a prior that is made of q(z|x); `lit_gen.models.vae.layers.connect` calls it."""

    def forward(self, features: Tensor, noise: Tensor) -> Code:
        """Features (B, F) and noise (B, latent_dim) to z, its rate and further facts."""
        raise NotImplementedError

    def sample(self, noise: Tensor) -> Tensor:
        """Noise (B, latent_dim) to z (B, latent_dim) of the prior."""
        raise NotImplementedError

    def log_ratio(self, features: Tensor, z: Tensor, fixed: bool = False) -> Tensor:
        """(B,), log p(z) - log q(z|x).

        Args:
            features: (B, F).
            z: (B, latent_dim).
            fixed: hold q constant: gradients reach the encoder only through z.

        Raises:
            UserError: if q has no density, or cannot be held constant.
        """
        raise UserError(
            f"model.bottleneck: {type(self).__name__} has no density q(z|x), so that there are no importance weights; "
            f"GaussianBottleneck has one"
        )

    def expect_features(self, features: Tensor) -> None:
        """Raise UserError unless ``features`` are (B, F)."""
        if features.ndim != 2 or features.shape[1] != self.features:
            raise UserError(
                f"model.encoder: an output of shape {tuple(features.shape)} was found, (B, {self.features}) is "
                f"expected: {self.features} features for latent_dim {self.latent_dim} of {type(self).__name__}"
            )


class GaussianBottleneck(Bottleneck):
    """A sample of q(z|x), at the rate KL(q || p); Kingma and Welling, 2014, https://arxiv.org/abs/1312.6114.

    The rate is in closed form if the prior knows it, else its one-sample estimate log q(z|x) - log p(z).

    Args:
        latent_dim: numbers of one image's z.
        posterior: q; a `DiagonalGaussian` by default.
        prior: p; a `StandardNormal` by default.

    Raises:
        UserError: for a ``latent_dim`` below 1.
    """

    def __init__(self, latent_dim: int, posterior: Posterior | None = None, prior: Prior | None = None) -> None:
        posterior = DiagonalGaussian() if posterior is None else posterior
        prior = StandardNormal() if prior is None else prior
        at_least(1, "model.bottleneck.", latent_dim=latent_dim)
        posterior.build(latent_dim)
        prior.build(latent_dim)
        super().__init__(latent_dim, posterior.features(latent_dim))
        self.posterior, self.prior = posterior, prior

    def attach(self, encoder: nn.Module) -> None:
        """See `Bottleneck`."""
        self.prior.attach(encoder, self.posterior)

    def forward(self, features: Tensor, noise: Tensor) -> Code:
        """See `Bottleneck`."""
        self.expect_features(features)
        with torch.autocast(features.device.type, enabled=False):
            posterior: LatentDistribution = self.posterior(wide(features))
            z, log_q = draw(posterior, noise)
            kl = self.prior.kl(posterior)
            if kl is not None:
                nats = kl.sum(1)
            else:
                nats = (posterior.log_prob(z) if log_q is None else log_q) - self.prior.log_prob(z)
        known = {"kl": kl, "mean": posterior.mean, "log_variance": posterior.log_variance}
        known["log_ratio"] = -nats if kl is None else None
        return Code(z, nats, {name: value for name, value in known.items() if value is not None})

    def sample(self, noise: Tensor) -> Tensor:
        """See `Bottleneck`."""
        with torch.autocast(noise.device.type, enabled=False):
            z: Tensor = self.prior.sample(wide(noise))
        return z

    def log_ratio(self, features: Tensor, z: Tensor, fixed: bool = False) -> Tensor:
        """See `Bottleneck`."""
        self.expect_features(features)
        if fixed and any(p.requires_grad for p in self.posterior.parameters()):
            raise UserError(
                f"model.objective.dreg: posterior {type(self.posterior).__name__} has parameters of its own, which "
                f"this estimator cannot hold constant; false is expected"
            )
        with torch.autocast(features.device.type, enabled=False):
            posterior: LatentDistribution = self.posterior(wide(features.detach() if fixed else features))
            if not hasattr(posterior, "log_prob"):
                raise UserError(
                    f"model.objective.dreg: posterior {type(self.posterior).__name__} can score only its own draws, "
                    f"while this estimator holds q constant; false is expected"
                )
            ratio: Tensor = self.prior.log_prob(wide(z)) - posterior.log_prob(wide(z))
        return ratio
