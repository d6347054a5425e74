"""Small diffusion models, and what tests of them share."""

import functools

import torch

from lit_gen.models.diffusion.mlp import MLP
from lit_gen.models.diffusion.module import Diffusion
from lit_gen.models.diffusion.parametrizations import Velocity
from lit_gen.models.diffusion.paths import Linear
from lit_gen.models.diffusion.solvers.ode import Euler

SHAPE = (1, 8, 8)


def network(shape=SHAPE, num_classes=None, width=16, depth=1):
    """With weights far from those that it begins with, whose output is 0."""
    torch.manual_seed(0)
    conditioning = "none" if num_classes is None else "embedding"
    made = MLP(shape, num_classes, conditioning=conditioning, width=width, depth=depth)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return made


def build(net=None, **options):
    """Flow matching on 8x8 digits, with Euler's solver in 4 steps."""
    parts = {"path": Linear(), "parametrization": Velocity(), "solver": Euler(4)}
    adam = functools.partial(torch.optim.Adam, lr=1e-3)
    return Diffusion(network() if net is None else net, **{**parts, "optimizer": adam, **options})
