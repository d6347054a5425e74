"""A "model" outside the package that iterates: ten steps of Langevin dynamics on the score of a Gaussian."""

import torch
from torch import nn

from lit_gen.core.sampling import Sampler
from lit_gen.protocols.images import Drawer
from lit_gen.protocols.training import Exported
from lit_gen.training.automatic import Automatic
from lit_gen.training.monitor import Monitor


class Score(nn.Module):
    """The score of N(mean, sigma^2): (mean - x) / sigma^2; the mean image is learned."""

    def __init__(self, shape: tuple[int, int, int], sigma: float = 0.2):
        super().__init__()
        self.shape, self.sigma, self.mean = shape, sigma, nn.Parameter(torch.zeros(shape))

    def forward(self, x):
        return (self.mean - x) / self.sigma**2


class Langevin(Automatic, Sampler):
    """x <- x + size * score(x) + sqrt(2 size) * noise; Welling and Teh, 2011."""

    def __init__(self, score: Score, seed: int = 0):
        super().__init__()
        self.keep_arguments()
        self.score, self.seed, self.schedule, self.monitor = score, seed, None, Monitor(["loss"])

    def drawer(self, weights="ema", steps: int = 10, size: float = 0.004):
        def draw(noise, condition, draws):
            x = noise.view(-1, *self.score.shape)
            for step in range(steps):
                z = draws.normal("langevin", step, *self.score.shape)
                x = x + size * self.score(x) + (2 * size) ** 0.5 * z
            return x.clamp(-1, 1)

        return Drawer(draw, self.score.mean.numel(), settings={"steps": steps, "size": size})

    def exported(self, weights="ema"):
        return Exported("score", self.score)

    def configure_optimizers(self):
        return self.create_optimizer(torch.optim.SGD, [{"params": self.score.parameters(), "lr": 0.1}])

    def loss_of(self, batch, draws):
        loss = (self.score.mean - batch.images).square().mean()
        self.record_terms({"loss": loss})
        return loss
