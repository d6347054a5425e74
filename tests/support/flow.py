"""Small flows, and what tests of flows share."""

import functools

import torch
from torch import nn

from lit_gen.models.flow.dequantization import Uniform
from lit_gen.models.flow.module import Flow
from lit_gen.models.flow.support import Logit
from lit_gen.models.flow.vectors import RealNVP

CLASSES = 3
SHAPE = (1, 8, 8)


def scattered(module, size=0.2):
    """``module`` with parameters that are far from those that it begins with."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return module


def jacobian(function, x):
    """(D, D), of a function of one row."""
    found = torch.autograd.functional.jacobian(function, x)
    return found.reshape(x.numel(), x.numel())


def build(transform=None, images=True, **options):
    torch.manual_seed(0)
    transform = RealNVP(SHAPE, transforms=2, hidden_features=(16,)) if transform is None else transform
    given = {"dequantization": Uniform(17), "support": Logit(17)} if images else {}
    adam = functools.partial(torch.optim.Adam, lr=1e-3)
    return Flow(transform, **{**given, "optimizer": adam, **options})


class Normalized(nn.Module):
    """An affine map of each number, whose scale and shift the first batch decides: all ranks, all micro-batches."""

    def __init__(self, shape):
        super().__init__()
        self.shape = tuple(shape)
        self.shift, self.log_scale = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(shape))

    def initialize(self, x):
        sums = torch.stack([x.sum(0), x.square().sum(0), torch.full(self.shape, float(len(x)))])
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        mean = sums[0] / sums[2]
        self.shift.copy_(mean)
        self.log_scale.copy_((sums[1] / sums[2] - mean**2).sqrt().log())

    def forward(self, x):
        z = (x - self.shift) * (-self.log_scale).exp()
        return z.flatten(1), -self.log_scale.sum().expand(len(x))

    def inverse(self, z):
        return z.unflatten(1, self.shape) * self.log_scale.exp() + self.shift
