"""A family outside the package: a VAE whose reconstructions must also convince a discriminator.

Larsen et al., 2016, https://arxiv.org/abs/1512.09300, without their features of the discriminator.
"""

import inspect

from lightning.pytorch.cli import OptimizerCallable
from torch import nn

from lit_gen.core.randomness import Draws
from lit_gen.core.sampling import Sampler
from lit_gen.models.adversarial.game import Fakes, Game
from lit_gen.models.adversarial.losses import hinge
from lit_gen.models.likelihoods.base import Likelihood
from lit_gen.models.vae.bottleneck import Bottleneck
from lit_gen.models.vae.layers import connect
from lit_gen.models.vae.objectives import ELBO
from lit_gen.protocols.images import Drawer
from lit_gen.protocols.training import Terms
from lit_gen.training.alternating import Alternating, Player
from lit_gen.training.monitor import Monitor
from support.gan import ADAM


class AdversarialVAE(Alternating, Sampler):
    """-ELBO + weight * the generator's hinge loss on the means of p(x|z), z of q(z|x)."""

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, bottleneck: Bottleneck, likelihood: Likelihood,
        discriminator: nn.Module, weight: float = 1.0, optimizer: OptimizerCallable = ADAM, seed: int = 0,
    ):  # fmt: skip
        super().__init__()
        self.keep_arguments(inspect.currentframe())
        connect(encoder, decoder, bottleneck, likelihood)
        self.encoder, self.decoder, self.bottleneck, self.likelihood = encoder, decoder, bottleneck, likelihood
        self.discriminator, self.weight, self.optimizer, self.seed = discriminator, weight, optimizer, seed
        self.game = Game(discriminator, hinge)
        self.monitor = Monitor(["elbo", *self.game.names["generator"], *self.game.names["discriminator"]])

    def drawer(self, weights="ema"):
        return Drawer(lambda z, *_: self.decode(self.bottleneck.sample(z)).mean, self.bottleneck.latent_dim)

    def encode_features(self, x, labels):
        return self.encoder(x)

    def decode(self, z, labels=None):
        return self.likelihood(self.decoder(z))

    def players(self):
        vae = [p for part in (self.encoder, self.decoder, self.bottleneck) for p in part.parameters()]
        judge = list(self.discriminator.parameters())
        return {"vae": Player(vae, self.optimizer, counts=True), "discriminator": Player(judge, self.optimizer)}

    def on_fit_start(self):
        self.describe()

    def training_step(self, batch, batch_idx):
        step, x = self.trainer.global_step, batch.images
        draws = Draws(self.seed, step, self.global_rank, self.trainer.world_size)
        noise = draws.rows("posterior", x.device).normal(len(x), 1, self.bottleneck.latent_dim)

        def play(side):
            copies = self.decode(self.bottleneck(self.encoder(x), noise[:, 0]).z).mean
            return self.game.terms(side, x, None, Fakes(copies), draws)

        def vae(_):
            bound, played = ELBO()(self, x, None, noise, step).loss, play("generator")
            return Terms(bound + self.weight * played.total, played.values | {"elbo": -bound.detach()}, {}, {})

        self.update("discriminator", lambda _: play("discriminator"), step, step + 1)
        self.update("vae", vae, step, step + 1)
        self.end_step(step + 1)
