"""Denoisers that are exact, of distributions simple enough: the fields that a perfect network would give.

Data are (B, C, H, W); all have the methods of `lit_gen.protocols.diffusion.Field`.
"""

import math

import torch
from torch import nn

from lit_gen.models.diffusion.paths import DDPM, EDM, Linear, VariancePreserving, column

PATHS = {
    "linear": Linear(),
    "edm": EDM(),
    "vp": VariancePreserving(),
    "ddpm": DDPM(1000),
    "cosine": DDPM(1000, "cosine"),
}


def between(path, count=5, first=0.02, last=0.98):
    """Times (count,) within a path, float64."""
    shares = torch.linspace(first, last, count, dtype=torch.float64)
    return (path.start + (path.end - path.start) * shares).round() if isinstance(path, DDPM) else path.at_share(shares)


class Exact:
    """Base: the velocity of an exact E[x_0 | x_t]; one call for each row."""

    def __init__(self, path):
        self.path = path

    def velocity(self, x, t):
        alpha, sigma, alpha_rate, sigma_rate = (
            column(f(t), x) for f in (self.path.alpha, self.path.sigma, self.path.alpha_rate, self.path.sigma_rate)
        )
        data = self.denoised(x, t)
        return alpha_rate * data + sigma_rate * (x - alpha * data) / sigma

    def calls(self, t):
        return torch.ones_like(t, dtype=torch.int64)


class Gaussian(Exact):
    """Data from N(mean, covariance): a (C, H, W) mean; a covariance of (D, D), or (D,) where it is diagonal."""

    def __init__(self, path, mean, covariance):
        super().__init__(path)
        covariance = covariance if covariance.ndim == 2 else torch.diag(covariance)
        self.mean, self.shape, self.covariance = mean.flatten().double(), tuple(mean.shape), covariance.double()
        self.variances, self.axes = torch.linalg.eigh(self.covariance)  # (D,), and the columns of (D, D)

    def _moved(self, x, around, factor, onto):
        """Onto * mean + factor (B, D) along the axes * (x - around * mean), with around and onto (B,)."""
        mean = self.mean.view(self.shape).to(x.dtype)
        away = (x - column(around, x) * mean).flatten(1).double() @ self.axes
        return column(onto, x) * mean + ((away * factor) @ self.axes.T).view(x.shape).to(x.dtype)

    def _marginal(self, t):
        """Alpha, sigma (B, 1), and the variances (B, D) of x_t, float64."""
        alpha, sigma = self.path.alpha(t).double()[:, None], self.path.sigma(t).double()[:, None]
        return alpha, sigma, alpha**2 * self.variances + sigma**2

    def denoised(self, x, t):
        alpha, _, variances = self._marginal(t)
        return self._moved(x, self.path.alpha(t), alpha * self.variances / variances, torch.ones_like(t))

    def velocity(self, x, t):
        alpha, sigma, variances = self._marginal(t)
        alpha_rate, sigma_rate = self.path.alpha_rate(t).double()[:, None], self.path.sigma_rate(t).double()[:, None]
        rate = alpha * alpha_rate * self.variances + sigma * sigma_rate  # half of the variances'
        return self._moved(x, self.path.alpha(t), rate / variances, self.path.alpha_rate(t))

    def solution(self, x, now, then):
        """The probability-flow ODE's x at time ``then`` (a number) from x at time ``now``: in closed form, any path."""
        now, then = (torch.full((len(x),), float(t), dtype=torch.float64) for t in (now, then))
        growth = (self._marginal(then)[2] / self._marginal(now)[2]).sqrt()
        return self._moved(x, self.path.alpha(now), growth, self.path.alpha(then))

    def log_prob(self, x, t=None):
        """Of x_t at times (B,), by default of data: nats (B,)."""
        t = torch.zeros(len(x), dtype=torch.float64) if t is None else t
        alpha, _, variances = self._marginal(t)
        away = (x.flatten(1).double() - alpha * self.mean) @ self.axes
        return -0.5 * (away**2 / variances + variances.log() + math.log(2 * math.pi)).sum(1)


class Finite(Exact):
    """Data on finitely many points (N, C, H, W), with weights (N,) or equal ones: a mean with softmax weights."""

    def __init__(self, path, points, weights=None):
        super().__init__(path)
        self.points, self.shape = points, tuple(points.shape[1:])
        self.weights = torch.ones(len(points), dtype=points.dtype) if weights is None else weights

    def denoised(self, x, t):
        alpha, sigma = self.path.alpha(t)[:, None], self.path.sigma(t)[:, None]
        points, rows = self.points.flatten(1).to(x.dtype), x.flatten(1)
        squares = (rows[:, None] - alpha[..., None] * points).square().sum(2)
        shares = (self.weights.to(x.dtype).log() - squares / (2 * sigma**2)).softmax(1)
        return (shares @ points).view(x.shape)


class TwoPoints(Exact):
    """Data on a point (C, H, W) and its negative, in equal shares: a hyperbolic tangent."""

    def __init__(self, path, point):
        super().__init__(path)
        self.point, self.shape = point, tuple(point.shape)

    def denoised(self, x, t):
        inner = (x * self.point).flatten(1).sum(1) * self.path.alpha(t) / self.path.sigma(t).square()
        return column(inner.tanh(), x) * self.point.to(x.dtype)


class ExactNetwork(nn.Module):
    """A network whose F is exact: `lit_gen.protocols.diffusion.DenoisingNetwork` around fields, one for each class.

    Args:
        parametrization: what F means.
        field: of an unconditional network, and of a conditional one without a label.
        classes: the fields of its classes.
    """

    def __init__(self, parametrization, field, classes=()):
        super().__init__()
        self.parametrization, self.path, self.shape = parametrization, field.path, field.shape
        self.fields, self.num_classes = [*classes, field], len(classes) or None

    def forward(self, x, level, labels=None):
        path = self.path
        t = (4 * level).exp() if isinstance(path, EDM) else level * path.end
        x = x / column(self.parametrization.scale(path, t), x)
        found = torch.stack([field.denoised(x, t) for field in self.fields])
        data = found[-1] if labels is None else found[labels, torch.arange(len(x))]
        noise = (x - column(path.alpha(t), x) * data) / column(path.sigma(t), x)
        of_data, of_noise = self.parametrization.target(path, t)
        return column(of_data, x) * data + column(of_noise, x) * noise


def floor(parametrization, path, variances, t):
    """The least E[(F - target)^2] per dimension at times (B,), (B,), of Gaussian data with variances (D,).

    The target is a x_0 + b e, and x_t = alpha x_0 + sigma e. Along an axis of variance v what x_t leaves open of the
    target has the variance v (a sigma - b alpha)^2 / (alpha^2 v + sigma^2).
    """
    a, b = parametrization.target(path, t)
    alpha, sigma = path.alpha(t), path.sigma(t)
    v = variances[None]
    open_ = v * ((a * sigma - b * alpha) ** 2)[:, None] / ((alpha**2)[:, None] * v + (sigma**2)[:, None])
    return open_.mean(1)
