"""The four parts of a VAE with one set of weights, as one model: q(z|x), p(z) and p(x|z)."""

from torch import Tensor, nn

from lit_gen.core.blame import named, shown
from lit_gen.core.errors import UserError
from lit_gen.models.likelihoods.base import Likelihood
from lit_gen.models.likelihoods.distributions import Distribution
from lit_gen.models.vae.bottleneck import Bottleneck
from lit_gen.protocols.latents import Code

PARTS = ("encoder", "decoder", "bottleneck", "likelihood")


class Parts(nn.Module):
    """Encoder, decoder, bottleneck and likelihood, trained or averaged: an `lit_gen.models.vae.objectives.View`.

    Called with standard normal noise, it draws: the means of p(x|z), z of the prior.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, bottleneck: Bottleneck, likelihood: Likelihood) -> None:
        super().__init__()
        self.encoder, self.decoder, self.bottleneck, self.likelihood = encoder, decoder, bottleneck, likelihood

    @property
    def latent_dim(self) -> int:
        """Numbers of one image's z."""
        return self.bottleneck.latent_dim

    @property
    def num_classes(self) -> int | None:
        """Classes of a conditional model; None for an unconditional one."""
        return getattr(self.decoder, "num_classes", None) or getattr(self.encoder, "num_classes", None)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Noise (B, latent_dim) and labels (B,) to images (B, C, H, W)."""
        return self.decode(self.prior(noise), labels).mean

    def encode_features(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Images (B, C, H, W) and labels (B,) to the encoder's features (B, F)."""
        return _call("encoder", self.encoder, x, labels)

    def encode(self, images: Tensor, noise: Tensor, labels: Tensor | None = None) -> Code:
        """Images (B, C, H, W) and standard normal noise (B, latent_dim) to a sample of q(z|x)."""
        code: object = self.bottleneck(self.encode_features(images, labels), noise)
        if not isinstance(code, Code):
            raise UserError(f"model.bottleneck: {named(self.bottleneck)} returned {shown(code)}, a Code is expected")
        return code

    def prior(self, noise: Tensor) -> Tensor:
        """Standard normal noise (B, latent_dim) to z of p(z)."""
        return self.bottleneck.sample(noise)

    def decode(self, z: Tensor, labels: Tensor | None = None) -> Distribution:
        """Latents (B, latent_dim) and labels (B,) to p(x|z)."""
        distribution: Distribution = self.likelihood(_call("decoder", self.decoder, z, labels))
        if not hasattr(distribution, "log_prob"):
            found = f"{named(self.likelihood)} returned {shown(distribution)}"
            raise UserError(f"model.likelihood: {found}, mean, log_prob and sample of a Distribution are expected")
        return distribution


def _call(side: str, network: nn.Module, x: Tensor, labels: Tensor | None) -> Tensor:
    """A network without ``num_classes`` does not get the labels; each gets its own precision."""
    dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), x.dtype)
    x = x.to(dtype)
    found = network(x) if getattr(network, "num_classes", None) is None else network(x, labels)
    if not isinstance(found, Tensor) or len(found) != len(x):
        expected = f"{'features' if side == 'encoder' else 'outputs'} ({len(x)}, ...) are expected"
        raise UserError(f"model.{side}: {named(network)} returned {shown(found)}, {expected}")
    return found
