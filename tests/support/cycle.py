"""A family outside the package: two generators, from latents to images and back, and two discriminators.

Each makes what the other's discriminator cannot tell from its data, and both together are near the identity (Zhu et
al., 2017, https://arxiv.org/abs/1703.10593, with N(0, I) as one of the two domains).
"""

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn

from lit_gen.core.batches import split
from lit_gen.core.sampling import Sampler, one_pass
from lit_gen.models.adversarial.game import Fakes, Game
from lit_gen.models.adversarial.losses import least_squares
from lit_gen.protocols.training import Terms
from lit_gen.training.alternating import Alternating, Player
from lit_gen.training.ema import EMA
from lit_gen.training.monitor import Monitor
from support.gan import ADAM


class Cycle(Alternating, Sampler):
    """``generator``: latents (B, latent_dim) to images; ``inverse``: images to points (B, latent_dim, 1, 1)."""

    def __init__(
        self, generator: nn.Module, inverse: nn.Module, discriminator: nn.Module, code_discriminator: nn.Module,
        weight: float = 10.0, optimizer: OptimizerCallable = ADAM, ema: EMA | None = EMA(), seed: int = 0,
    ):  # fmt: skip
        super().__init__()
        self.keep_arguments()
        self.generator, self.inverse, self.weight, self.seed = generator, inverse, weight, seed
        self.discriminator, self.code_discriminator, self.optimizer = discriminator, code_discriminator, optimizer
        self.games = Game(discriminator, least_squares), Game(code_discriminator, least_squares, prefix="code_")
        self.monitor = Monitor([n for game in self.games for side in game.names.values() for n in side] + ["cycle"])
        self.keep_average(ema, "generator", "inverse")

    def drawer(self, weights="ema"):
        return one_pass(self.weighted("generator", weights))

    def players(self):
        networks = {"generators": (self.generator, self.inverse)}
        networks["discriminators"] = (self.discriminator, self.code_discriminator)
        parameters = {name: [p for n in some for p in n.parameters()] for name, some in networks.items()}
        return {name: Player(p, self.optimizer, counts=name == "generators") for name, p in parameters.items()}

    def training_step(self, batch, batch_idx):
        step, parts = self.start_step(), split(batch, batch.micro_batches)
        draws = [self.draws(step, i, len(parts)) for i in range(len(parts))]

        def ends(i):
            real = parts[i].images
            z = draws[i].rows("latents", real.device).normal(len(real), self.generator.latent_dim)
            return z, z[:, :, None, None], real

        def play(side, i, codes, real, images, found):
            pairs = ((real, images), (codes, found))
            played = [g.terms(side, x, None, Fakes(y), draws[i]) for g, (x, y) in zip(self.games, pairs, strict=True)]
            return sum(terms.total for terms in played), played[0].values | played[1].values

        def discriminators(i):
            z, codes, real = ends(i)
            with torch.no_grad():
                images, found = self.generator(z), self.inverse(real)
            return Terms(*play("discriminator", i, codes, real, images, found), {}, {})

        def generators(i):
            z, codes, real = ends(i)
            images, found = self.generator(z), self.inverse(real)
            total, values = play("generator", i, codes, real, images, found)
            there, back = self.inverse(images) - codes, self.generator(found.flatten(1)) - real
            cycle = there.abs().mean() + back.abs().mean()
            return Terms(total + self.weight * cycle, values | {"cycle": cycle.detach()}, {}, {})

        self.update("discriminators", discriminators, step, step + 1, len(parts))
        self.update("generators", generators, step, step + 1, len(parts))
        self.end_step(step + 1)
