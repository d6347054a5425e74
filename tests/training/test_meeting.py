"""What a run says is not as it were on one device."""

import pytest
import torch
from support import lm
from support.gan import build
from support.vae import SHAPE
from torch import nn

from lit_gen.core.batches import Batches, divide
from lit_gen.models.adversarial import losses, regularizers
from lit_gen.models.adversarial.losses import AdversarialLoss
from lit_gen.models.gan import dcgan, mlp
from lit_gen.models.gan.module import GAN
from lit_gen.models.likelihoods.bernoulli import Bernoulli
from lit_gen.models.likelihoods.gaussian import Gaussian
from lit_gen.models.vae import mlp as perceptrons
from lit_gen.models.vae.bottleneck import GaussianBottleneck
from lit_gen.models.vae.module import VAE
from lit_gen.models.vae.objectives import ELBO
from lit_gen.training.schedules import Linear

WHOLE, RANKS, MICRO, BOTH = Batches(16), Batches(16, 2), Batches(16, 1, 2), Batches(16, 2, 2)


def own(real, fake):
    """A loss with the mean of a part of the batch inside."""
    apart = (real.mean() - fake.mean()).square()
    return AdversarialLoss(-apart, apart)


def convolutional(**options):
    shape = (1, 28, 28)
    return dcgan.Generator(shape, 4, 4), dcgan.Discriminator(shape, width=4, **options)


def autoencoder(likelihood=None, **options):
    networks = perceptrons.Encoder(SHAPE, 8), perceptrons.Decoder(SHAPE, 8), GaussianBottleneck(2)
    return VAE(*networks, likelihood or Bernoulli(), **options)


MODELS = {
    "perceptrons": lambda: build(),
    "batch norm": lambda: GAN(*convolutional()),
    "batch norm by rank": lambda: GAN(*convolutional(), sync_batch_norm=False),
    "minibatch deviation": lambda: GAN(
        mlp.Generator((1, 28, 28), 3, 8), convolutional(batch_norm=False, minibatch_std=True)[1]
    ),
    "dropout": lambda: GAN(mlp.Generator((2, 1, 1), 3, 8), mlp.Discriminator((2, 1, 1), 8, dropout=0.1)),
    "spectral norm": lambda: GAN(mlp.Generator((2, 1, 1), 3, 8), mlp.Discriminator((2, 1, 1), 8, spectral_norm=True)),
    "relativistic average": lambda: build(losses.relativistic_average),
    "own means": lambda: build(own),
    "LeCam": lambda: build(regularizers=[regularizers.LeCam()]),
    "free bits": lambda: autoencoder(objective=ELBO(free_bits=0.1)),
    "capacity": lambda: autoencoder(objective=ELBO(capacity=Linear(0, 1, 5))),
    "optimal sigma": lambda: autoencoder(Gaussian()),
    "text": lambda: lm.build(lm.corpus(), dropout=0.1),
}  # fmt: skip
NORM, SPECTRAL = "batch norm per ", "spectral norm's power iterations per micro-batch"
TOLD = {
    "perceptrons": ("", "", ""),
    "batch norm": ("", NORM + "micro-batch", NORM + "micro-batch"),
    "batch norm by rank": (NORM + "rank", NORM + "micro-batch", NORM + "rank and micro-batch"),
    "minibatch deviation": ("", "", ""),
    "dropout": ("dropout per rank", "dropout per micro-batch", "dropout per rank and micro-batch"),
    "spectral norm": ("", SPECTRAL, SPECTRAL),
    "relativistic average": ("", "means of the loss per micro-batch", "means of the loss per micro-batch"),
    "own means": tuple(f"means of the loss per {part}" for part in ("rank", "micro-batch", "rank and micro-batch")),
    "LeCam": ("", "LeCam's anchors per micro-batch", "LeCam's anchors per micro-batch"),
    "free bits": ("", "the mean rate per micro-batch", "the mean rate per micro-batch"),
    "capacity": ("", "the mean rate per micro-batch", "the mean rate per micro-batch"),
    "optimal sigma": ("", "the optimal sigma per micro-batch", "the optimal sigma per micro-batch"),
    "text": ("dropout per rank", "dropout per micro-batch", "dropout per rank and micro-batch"),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_meets_is_named(name):
    torch.manual_seed(0)
    model = MODELS[name]()
    assert model.meetings(WHOLE) == []
    found = tuple(", ".join(model.meetings(batches)) for batches in (RANKS, MICRO, BOTH))
    assert found == TOLD[name]


def test_groups_of_minibatch_deviation_that_a_part_cuts():
    model = MODELS["minibatch deviation"]()
    assert model.meetings(divide(24, 4)) == ["minibatch deviation"]  # six rows: groups of three
    assert model.meetings(divide(24, 2)) == []


def test_batch_norm_is_synchronized_with_several_ranks_unless_it_is_said():
    for given, expected in ((None, (False, True)), (True, (True, True)), (False, (False, False))):
        model = GAN(*convolutional(), sync_batch_norm=given)
        assert tuple(model.synchronizes(world) for world in (1, 2)) == expected
        assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules())  # until a fit begins
