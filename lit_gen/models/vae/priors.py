"""Learned priors p(z): a normalizing flow, and a mixture of posteriors."""

import math
from typing import get_args

import torch
from torch import Tensor, nn

from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least
from lit_gen.models.likelihoods.numerics import wide
from lit_gen.models.vae.latents import LatentDistribution, Posterior, Prior, StandardNormal, draw
from lit_gen.models.vae.transforms import Bijection, Kind, check_kind, check_layers

__all__ = ["FlowPrior", "VampPrior"]


class FlowPrior(Prior):
    """N(0, I) through an invertible network, at first the identity: z to noise for the density, noise to z for samples.

    Its density is exact, its rate log q(z|x) - log p(z) an estimate of one sample.

    Args:
        transform: "realnvp", "maf" or "nsf"; see `lit_gen.models.vae.transforms.Bijection`. Draws of the last
            two take latent_dim passes.
        layers: how many.
        width: units of each hidden layer.
        depth: number of hidden layers of each network.
        bins: of each spline of "nsf", at least 2.

    Raises:
        UserError: for an option out of range; `build` raises one without zuko.
    """

    bijection: Bijection

    def __init__(
        self, transform: Kind = "realnvp", layers: int = 4, width: int = 64, depth: int = 1, bins: int = 8
    ) -> None:
        super().__init__()
        check_kind("model.bottleneck.prior.", get_args(Kind), transform)
        check_layers("model.bottleneck.prior.", layers, width, depth, bins)
        self.transform, self.layers, self.width, self.depth, self.bins = transform, layers, width, depth, bins

    def build(self, latent_dim: int) -> None:
        """See `Prior`."""
        sizes = (self.layers, self.width, self.depth, self.bins)
        self.bijection = Bijection(self.transform, "model.bottleneck.prior: FlowPrior", latent_dim, 0, *sizes)

    def log_prob(self, z: Tensor) -> Tensor:
        """See `Prior`."""
        noise, log_det = self.bijection(z)
        nats: Tensor = StandardNormal().log_prob(noise) + log_det
        return nats

    def sample(self, noise: Tensor) -> Tensor:
        """See `Prior`."""
        return self.bijection.inverse(noise)


class VampPrior(Prior):
    """The mixture of the posteriors of K learned pseudo-inputs u_k: p(z) = 1/K sum_k q(z|u_k).

    Tomczak and Welling, 2018, https://arxiv.org/abs/1705.07120. The pseudo-inputs are images that pass through the
    encoder itself, tanh of the parameters; points are the parameters. So the encoder is trained through the prior too.

    Args:
        shape: of a pseudo-input, (C, H, W); taken from the data set by the command line.
        components: K.
        scale: standard deviation of the parameters before training, around 0.

    Raises:
        UserError: for an option out of range; `attach` raises one for a conditional encoder, and for a posterior that
            can score only its own draws.
    """

    def __init__(self, shape: tuple[int, int, int], components: int = 50, scale: float = 0.5) -> None:
        super().__init__()
        at_least(1, "model.bottleneck.prior.", components=components)
        self.shape, self.components, self.scale = tuple(shape), components, scale
        self.inputs = nn.Parameter(torch.empty(components, *self.shape))
        nn.init.normal_(self.inputs, std=scale)
        self._of: tuple[nn.Module, Posterior] | None = None  # in a tuple, so that they are no submodules

    def attach(self, encoder: nn.Module, posterior: Posterior) -> None:
        """See `Prior`."""
        if getattr(encoder, "num_classes", None) is not None:
            raise UserError(
                f"model.bottleneck.prior: VampPrior was found beside an encoder with labels, {type(encoder).__name__}, "
                f"which its pseudo-inputs do not have; one with conditioning none is expected"
            )
        self._of = encoder, posterior

    def pseudo_inputs(self) -> Tensor:
        """(K, C, H, W)."""
        return self.inputs if self.shape[1:] == (1, 1) else torch.tanh(self.inputs)

    def log_prob(self, z: Tensor) -> Tensor:
        """See `Prior`."""
        features = self._features().repeat(len(z), 1)
        component = self._posterior(features)
        if not hasattr(component, "log_prob"):
            raise UserError(
                "model.bottleneck.prior: VampPrior was found beside a posterior that can score only its own draws; "
                "DiagonalGaussian, IAFPosterior or SplinePosterior is expected"
            )
        nats = component.log_prob(z.repeat_interleave(self.components, 0)).unflatten(0, (-1, self.components))
        return torch.logsumexp(nats, 1) - math.log(self.components)

    def sample(self, noise: Tensor) -> Tensor:
        """See `Prior`; the first number's quantile chooses the component.

        Given the choice, where in its share of [0, 1) the quantile lies is uniform again: that makes the number.
        """
        quantile = torch.special.ndtr(noise[:, 0]) * self.components
        chosen = quantile.floor().clamp(0, self.components - 1)
        left = (quantile - chosen).clamp(2.0**-24, 1 - 2.0**-24)
        noise = torch.cat([torch.special.ndtri(left)[:, None], noise[:, 1:]], 1)
        return draw(self._posterior(self._features()[chosen.long()]), noise)[0]

    def _features(self) -> Tensor:
        """Of the pseudo-inputs, (K, F)."""
        if self._of is None:
            raise UserError(
                "model.bottleneck.prior: VampPrior has no encoder; lit_gen.models.vae.layers.connect does it"
            )
        return wide(self._of[0](self.pseudo_inputs()))

    def _posterior(self, features: Tensor) -> LatentDistribution:
        assert self._of is not None
        found: LatentDistribution = self._of[1](features)
        return found
