"""Where paths end: standard normal numbers, which all randomness of a model is, to x at the end of a path.

Only flow matching knows other ends than N(0, I): Tong et al., 2024, https://arxiv.org/abs/2302.00482. Then the noise e
of a path is what the source gives, and the velocity remains true, but the score is no longer -E[e | x_t] / sigma.
"""

import math

import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.core.options import above, at_least
from lit_gen.models.diffusion.base import Path

__all__ = ["Gaussians", "Normal", "Source"]


class Source:
    """Base: a distribution as a map of standard normal noise."""

    def latent_dim(self, shape: tuple[int, int, int]) -> int:
        """How many normal numbers a row of shape (C, H, W) is made of.

        Raises:
            UserError: for a shape that the source has no rows of.
        """
        raise NotImplementedError

    def __call__(self, noise: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """Noise (B, latent_dim) from N(0, I) to rows (B, C, H, W) of the source, one by one."""
        raise NotImplementedError

    def log_prob(self, x: Tensor) -> Tensor:
        """Nats (B,) of rows (B, C, H, W), summed over dimensions."""
        raise NotImplementedError

    def check(self, path: Path) -> None:
        """Refuse a path that does not end at the source.

        Raises:
            UserError: naming both.
        """


class Normal(Source):
    """N(0, I). Every path ends there, by good approximation and but for its scale, sigma(end)."""

    def latent_dim(self, shape: tuple[int, int, int]) -> int:
        """C H W."""
        return math.prod(shape)

    def __call__(self, noise: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """The noise itself."""
        return noise.view(-1, *shape)

    def log_prob(self, x: Tensor) -> Tensor:
        """See `Source`."""
        rows = x.flatten(1)
        return -0.5 * rows.square().sum(1) - 0.5 * rows.shape[1] * math.log(2 * math.pi)


class Gaussians(Source):
    """Equal shares of Gaussians on a circle in the plane, the first at (radius, 0).

    The defaults are those of torchcfm, ``sample_8gaussians`` of https://github.com/atong01/conditional-flow-matching,
    and so of the data set ``Toy2D`` of kind ``8gaussians``: its ``var=0.1`` is the square of the variance.

    Args:
        modes: how many.
        radius: of the circle.
        sigma: standard deviation of each.

    Raises:
        UserError: for no mode, or a radius or deviation that is not above 0.
    """

    def __init__(self, modes: int = 8, radius: float = 5.0, sigma: float = 0.1**0.25) -> None:
        at_least(1, "model.source.", modes=modes)
        above(0, "model.source.", finite=True, radius=radius, sigma=sigma)
        self.modes, self.radius, self.sigma = modes, radius, sigma

    def latent_dim(self, shape: tuple[int, int, int]) -> int:
        """3: two for the place within a mode, and the last one, by its quantile, for the mode."""
        if math.prod(shape) != 2:
            raise UserError(f"model.source: Gaussians is of points in the plane, the data have the shape {shape}")
        return 3

    def __call__(self, noise: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """See `Source`."""
        quantile = 0.5 + 0.5 * torch.erf(noise[:, 2] / math.sqrt(2))
        mode = (quantile * self.modes).floor().clamp(max=self.modes - 1)
        return (self._centers(mode) + self.sigma * noise[:, :2]).view(-1, *shape)

    def log_prob(self, x: Tensor) -> Tensor:
        """See `Source`."""
        centers = self._centers(torch.arange(self.modes, device=x.device, dtype=x.dtype))
        squares = (x.flatten(1)[:, None] - centers).square().sum(2) / self.sigma**2
        of_one = math.log(2 * math.pi * self.sigma**2 * self.modes)
        return torch.logsumexp(-0.5 * squares, dim=1) - of_one

    def check(self, path: Path) -> None:
        """Refuse a path whose end is not the noise alone, at unit scale.

        Raises:
            UserError: naming both.
        """
        end = torch.tensor([path.end])
        alpha, sigma = float(path.alpha(end)), float(path.sigma(end))
        if alpha != 0 or sigma != 1:
            ends = f"the path {type(path).__name__} ends at {alpha:.3g} x_0 + {sigma:.3g} e"
            raise UserError(f"model.source: Gaussians was found, but {ends}; Linear is expected, which ends at e")

    def _centers(self, mode: Tensor) -> Tensor:
        """Of modes (n,), given as real numbers: (n, 2)."""
        angle = mode * (2 * math.pi / self.modes)
        return self.radius * torch.stack([angle.cos(), angle.sin()], dim=1)
