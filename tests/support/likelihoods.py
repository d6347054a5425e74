"""Denoisers of known data for likelihoods."""

import torch
from torch import nn

from lit_gen.models.diffusion.denoiser import Denoiser
from support.draws import normal
from support.exact_diffusion import ExactNetwork, Gaussian

MEAN = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64).view(3, 1, 1)
COVARIANCE = torch.tensor([[0.5, 0.2, -0.1], [0.2, 0.4, 0.1], [-0.1, 0.1, 0.3]], dtype=torch.float64)


def gaussian(path, parametrization, mean=MEAN, covariance=COVARIANCE, classes=()):
    """The exact field, and the denoiser of it; ``classes`` are means."""
    field = Gaussian(path, mean, covariance)
    fields = [Gaussian(path, one, covariance) for one in classes]
    return field, Denoiser(ExactNetwork(parametrization, field, fields), path, parametrization)


def drawn(count, seed=5, mean=MEAN):
    """From the Gaussian, (count, 3, 1, 1)."""
    return mean + (normal(count, 3, seed=seed) @ torch.linalg.cholesky(COVARIANCE).T).view(count, 3, 1, 1)


class Wavy(nn.Module):
    """A network that is far from linear, so that its Jacobian depends on where it is, and counts its calls."""

    num_classes = None

    def __init__(self, shape, size=0.5):
        super().__init__()
        self.shape, self.size, self.rows = shape, size, 0
        draw = torch.Generator().manual_seed(3)
        numbers = shape[0] * shape[1] * shape[2]
        self.inner = nn.Parameter(torch.randn(numbers, numbers, generator=draw, dtype=torch.float64))

    def forward(self, x, level):
        self.rows += len(x)
        h = x.flatten(1).double() @ self.inner
        return (self.size * torch.sin(h + level.double()[:, None]) @ self.inner).view(x.shape).to(x.dtype)
