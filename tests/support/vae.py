"""A small VAE of digits, and the digits that tests of VAEs take."""

import functools

import torch

from lit_gen.data.images.mnist import MNIST
from lit_gen.models.likelihoods.bernoulli import Bernoulli
from lit_gen.models.vae import mlp
from lit_gen.models.vae.bottleneck import GaussianBottleneck
from lit_gen.models.vae.module import VAE

SHAPE = (1, 28, 28)


def digits(**options):
    return MNIST(embedded=True, **{"batch_size": 16, "binarize": "threshold", **options})


def build():
    torch.manual_seed(0)
    networks = [network(SHAPE, width=8) for network in (mlp.Encoder, mlp.Decoder)]
    adam = functools.partial(torch.optim.Adam, lr=1e-3)
    return VAE(*networks, GaussianBottleneck(3), Bernoulli(), optimizer=adam)
