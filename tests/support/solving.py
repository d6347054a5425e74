"""Exact fields, starts and draws that tests of solvers share."""

import math

import torch

from lit_gen.core.randomness import BLOCK, BlockDraws
from support.draws import normal
from support.exact_diffusion import PATHS, Gaussian

SHAPE = (1, 2, 2)
VARIANCES = torch.tensor([0.04, 0.3, 1.0, 2.0], dtype=torch.float64)


def gaussian(path):
    """The exact field of Gaussian data (1, 2, 2), on a path or one of `PATHS`."""
    return Gaussian(PATHS.get(path, path) if isinstance(path, str) else path, normal(*SHAPE, seed=3), VARIANCES)


def start(path, time, rows=3):
    """Noise (rows, 1, 2, 2) of a path at a time."""
    return normal(rows, *SHAPE, seed=1) * float(path.sigma(torch.tensor([float(time)], dtype=torch.float64)))


def slope(solver, path, span, spacing="path"):
    """The order of convergence: from 64 to 256 steps, against the exact solution."""
    field, x = gaussian(path), start(PATHS[path], span[0])
    exact = field.solution(x, *span)
    few, many = (float((solver(n, spacing)(field, x, span).x - exact).abs().max()) for n in (64, 256))
    return math.log(few / many) / math.log(4)


def block_draws(block=0, seed=0):
    """The draws of a block of 64 samples, on the CPU."""
    return BlockDraws(seed, block, torch.device("cpu"))


class Unknown:
    """The field of a network that is not exact, of a block: it bends, and its rows are of any size."""

    def __init__(self, path):
        self.path, self.asked = path, []

    def denoised(self, x, t):
        self.asked.append(t)
        return torch.tanh(x + 0.3 * x.flip(-1)) * (1 + 0.1 * torch.cos(t)).view(-1, 1, 1, 1)

    def velocity(self, x, t):
        alpha, sigma, alpha_rate, sigma_rate = (
            f(t).to(x.dtype).view(-1, 1, 1, 1)
            for f in (self.path.alpha, self.path.sigma, self.path.alpha_rate, self.path.sigma_rate)
        )
        data = self.denoised(x, t)
        return alpha_rate * data + sigma_rate * (x - alpha * data) / sigma

    def calls(self, t):
        return torch.ones_like(t, dtype=torch.int64)


class Guided(Unknown):
    """Twice as many calls in the first half of the path."""

    def calls(self, t):
        return 1 + (t > self.path.end / 2).long()


def block(path, time, seed=5):
    """A block (64, 1, 2, 2) in float32 at a time."""
    return (normal(BLOCK, *SHAPE, seed=seed) * float(path.sigma(torch.tensor([float(time)])))).float()
