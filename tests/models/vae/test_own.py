"""Parts of one's own in a whole run: written to their contract, and nothing else touched."""

import functools

import pytest
import torch
from support.bottlenecks import Planar
from support.fitting import fit, rows
from support.vae import SHAPE, digits

from lit_gen.callbacks.evaluators.likelihood import ImportanceNLL
from lit_gen.models.likelihoods.bernoulli import Bernoulli
from lit_gen.models.vae import mlp
from lit_gen.models.vae.bottleneck import Bottleneck, GaussianBottleneck
from lit_gen.models.vae.module import VAE
from lit_gen.models.vae.objectives import ELBO, IWAE
from lit_gen.protocols.latents import Code


class Laplace(Bottleneck):
    """Unit Laplace distributions around the features and around 0."""

    def __init__(self, latent_dim):
        super().__init__(latent_dim, latent_dim)

    def forward(self, features, noise):
        z = features + self.sample(noise)
        return Code(z, -self.log_ratio(features, z), {"mean": features})

    def sample(self, noise):
        uniform = torch.special.ndtr(noise).clamp(1e-6, 1 - 1e-6) - 0.5
        return -uniform.sign() * torch.log1p(-2 * uniform.abs())

    def log_ratio(self, features, z, fixed=False):
        features = features.detach() if fixed else features
        return ((z - features).abs() - z.abs()).sum(1)


PLANAR = functools.partial(GaussianBottleneck, posterior=Planar())
CASES = [(Laplace, ELBO()), (Laplace, IWAE(3)), (Laplace, IWAE(3, dreg=True)), (PLANAR, ELBO()), (PLANAR, IWAE(3))]


@pytest.mark.parametrize(("make", "objective"), CASES)
def test_a_bottleneck_of_ones_own_is_trained_and_weighed(tmp_path, make, objective):
    torch.manual_seed(0)
    networks = mlp.Encoder(SHAPE, width=16), mlp.Decoder(SHAPE, width=16)
    optimizer = functools.partial(torch.optim.Adam, lr=3e-3)
    model = VAE(*networks, make(3), Bernoulli(), objective, optimizer=optimizer)
    fit(model, digits(), 10, tmp_path, [ImportanceNLL(4, count=64, every=1)])
    nll = [row["val/nll_iw4_count64"] for row in rows(tmp_path) if "val/nll_iw4_count64" in row]
    assert len(nll) == 10
    assert nll[-1] < 0.9 * nll[0]
