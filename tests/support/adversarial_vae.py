"""A family outside the package: a VAE whose reconstructions must also convince a discriminator.

Larsen et al., 2016, https://arxiv.org/abs/1512.09300, without their features of the discriminator.
"""

from lightning.pytorch.cli import OptimizerCallable
from torch import nn

from lit_gen.core.randomness import Draws
from lit_gen.core.sampling import Sampler, one_pass
from lit_gen.models.adversarial.game import Fakes, Game
from lit_gen.models.adversarial.losses import hinge
from lit_gen.models.likelihoods.base import Likelihood
from lit_gen.models.vae.bottleneck import Bottleneck
from lit_gen.models.vae.layers import connect
from lit_gen.models.vae.objectives import ELBO
from lit_gen.models.vae.parts import PARTS, Parts
from lit_gen.protocols.training import Terms
from lit_gen.training.alternating import Alternating, Player
from lit_gen.training.ema import EMA
from lit_gen.training.monitor import Monitor
from support.gan import ADAM


class AdversarialVAE(Alternating, Sampler):
    """-ELBO + weight * the generator's hinge loss on the means of p(x|z), z of q(z|x)."""

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, bottleneck: Bottleneck, likelihood: Likelihood,
        discriminator: nn.Module, weight: float = 1.0, optimizer: OptimizerCallable = ADAM, ema: EMA | None = None,
        seed: int = 0,
    ):  # fmt: skip
        super().__init__()
        self.keep_arguments()
        connect(encoder, decoder, bottleneck, likelihood)
        self.encoder, self.decoder, self.bottleneck, self.likelihood = encoder, decoder, bottleneck, likelihood
        self.discriminator, self.weight, self.optimizer, self.seed = discriminator, weight, optimizer, seed
        self.game = Game(discriminator, hinge)
        self.monitor = Monitor(["elbo", *self.game.names["generator"], *self.game.names["discriminator"]])
        self.keep_average(ema, *PARTS)

    def parts(self, weights):
        return Parts(*(self.weighted(name, weights) for name in PARTS))

    def drawer(self, weights="ema"):
        return one_pass(self.parts(weights))

    def players(self):
        vae, judge = (list(network.parameters()) for network in (self.parts("raw"), self.discriminator))
        return {"vae": Player(vae, self.optimizer, counts=True), "discriminator": Player(judge, self.optimizer)}

    def training_step(self, batch, batch_idx):
        step, x, parts = self.start_step(), batch.images, self.parts("raw")
        draws = Draws(self.seed, step, self.global_rank, self.trainer.world_size)
        noise = draws.rows("posterior", x.device).normal(len(x), 1, parts.latent_dim)

        def play(side):
            return self.game.terms(side, x, None, Fakes(parts.decode(parts.encode(x, noise[:, 0]).z).mean), draws)

        def vae(_):
            bound, played = ELBO()(parts, x, None, noise, step).loss, play("generator")
            return Terms(bound + self.weight * played.total, played.values | {"elbo": -bound.detach()}, {}, {})

        self.update("discriminator", lambda _: play("discriminator"), step, step + 1)
        self.update("vae", vae, step, step + 1)
        self.end_step(step + 1)
