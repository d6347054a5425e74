"""What the network predicts: every choice is x_0 = skip(t) x_t + out(t) F(scale(t) x_t, level(t)), with F the network.

Karras et al., 2022, https://arxiv.org/abs/2206.00364, table 1. F's target and the velocity dx/dt follow from that; a
choice says them itself where its own form keeps more digits, or has a value where one of the two does not.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.core.options import above
from lit_gen.models.diffusion.base import Path
from lit_gen.models.diffusion.discrete import DDPM

__all__ = ["Data", "Noise", "Parametrization", "Preconditioned", "VPrediction", "Velocity"]


class Factors(NamedTuple):
    """What two terms are multiplied with before they are added, (B,) each."""

    first: Tensor
    second: Tensor


class Parametrization:
    """Base: what the network's output F means on a path; all factors are of times (B,)."""

    def estimate(self, path: Path, t: Tensor) -> Factors:
        """Of x_t and F in the estimate of x_0: skip and out."""
        raise NotImplementedError

    def noise(self, path: Path, t: Tensor) -> Factors:
        """Of x_t and F in the estimate of the noise, e = (x_t - alpha x_0) / sigma."""
        skip, out = self.estimate(path, t)
        alpha, sigma = path.alpha(t), path.sigma(t)
        return Factors((1 - alpha * skip) / sigma, -alpha * out / sigma)

    def target(self, path: Path, t: Tensor) -> Factors:
        """Of x_0 and the noise e in the F whose estimate is x_0 itself."""
        skip, out = self.estimate(path, t)
        return Factors((1 - skip * path.alpha(t)) / out, -skip * path.sigma(t) / out)

    def velocity(self, path: Path, t: Tensor) -> Factors:
        """Of x_t and F in dx/dt = alpha' x_0 + sigma' e, with the estimates of x_0 and e."""
        of_data, of_noise = self.estimate(path, t), self.noise(path, t)
        alpha_rate, sigma_rate = path.alpha_rate(t), path.sigma_rate(t)
        return Factors(
            alpha_rate * of_data.first + sigma_rate * of_noise.first,
            alpha_rate * of_data.second + sigma_rate * of_noise.second,
        )

    def scale(self, path: Path, t: Tensor) -> Tensor:
        """Of x_t before the network."""
        return path.scale(t)

    def check(self, path: Path) -> None:
        """Refuse a path on which F cannot be learned.

        Raises:
            UserError: naming both.
        """


class Noise(Parametrization):
    """F = e: x_0 = (x_t - sigma F) / alpha. Ho et al., 2020, https://arxiv.org/abs/2006.11239."""

    def estimate(self, path: Path, t: Tensor) -> Factors:
        """See `Parametrization`."""
        return Factors(1 / path.alpha(t), -path.sigma(t) / path.alpha(t))

    def noise(self, path: Path, t: Tensor) -> Factors:
        """See `Parametrization`."""
        return Factors(torch.zeros_like(t), torch.ones_like(t))

    def target(self, path: Path, t: Tensor) -> Factors:
        """See `Parametrization`."""
        return Factors(torch.zeros_like(t), torch.ones_like(t))

    def check(self, path: Path) -> None:
        """Refuse a path whose end is nothing but noise, of which F = x_t would tell nothing new.

        Raises:
            UserError: naming both.
        """
        if not float(path.alpha(torch.tensor([path.end]))):
            raise UserError(
                f"model.parametrization: Noise was found, but the path {type(path).__name__} ends in noise alone, "
                "which would tell nothing of the data; Velocity, Data or Preconditioned is expected"
            )


class Data(Parametrization):
    """F = x_0."""

    def estimate(self, path: Path, t: Tensor) -> Factors:
        """See `Parametrization`."""
        return Factors(torch.zeros_like(t), torch.ones_like(t))


class VPrediction(Parametrization):
    """F = alpha e - sigma x_0, where alpha^2 + sigma^2 = 1. Salimans and Ho, 2022, https://arxiv.org/abs/2202.00512."""

    def estimate(self, path: Path, t: Tensor) -> Factors:
        """See `Parametrization`."""
        return Factors(path.alpha(t), -path.sigma(t))

    def noise(self, path: Path, t: Tensor) -> Factors:
        """See `Parametrization`."""
        return Factors(path.sigma(t), path.alpha(t))

    def target(self, path: Path, t: Tensor) -> Factors:
        """See `Parametrization`."""
        return Factors(-path.sigma(t), path.alpha(t))

    def check(self, path: Path) -> None:
        """Refuse a path on which alpha^2 + sigma^2 is not 1.

        Raises:
            UserError: naming both.
        """
        t = torch.cat([path.at_share(torch.linspace(0, 0.9, 10)), torch.tensor([path.end])])
        squares = path.alpha(t).square() + path.sigma(t).square()
        if bool(((squares - 1).abs() > 1e-4).any()):
            raise UserError(
                f"model.parametrization: VPrediction was found, but alpha^2 + sigma^2 is not 1 on the path "
                f"{type(path).__name__}; Preconditioned, Velocity or Data is expected"
            )


class Velocity(Parametrization):
    """F = dx_t/dt = alpha' x_0 + sigma' e: flow matching. Lipman et al., 2023, https://arxiv.org/abs/2210.02747.

    That paper's time runs from noise to data, so that its velocity is the negative of ours.
    """

    def estimate(self, path: Path, t: Tensor) -> Factors:
        """See `Parametrization`."""
        determinant = self._determinant(path, t)
        return Factors(path.sigma_rate(t) / determinant, -path.sigma(t) / determinant)

    def noise(self, path: Path, t: Tensor) -> Factors:
        """See `Parametrization`."""
        determinant = self._determinant(path, t)
        return Factors(-path.alpha_rate(t) / determinant, path.alpha(t) / determinant)

    def target(self, path: Path, t: Tensor) -> Factors:
        """See `Parametrization`."""
        return Factors(path.alpha_rate(t), path.sigma_rate(t))

    def velocity(self, path: Path, t: Tensor) -> Factors:
        """See `Parametrization`; also at t = 0."""
        return Factors(torch.zeros_like(t), torch.ones_like(t))

    def check(self, path: Path) -> None:
        """Refuse a path of discrete steps.

        Raises:
            UserError: naming both.
        """
        if isinstance(path, DDPM):
            raise UserError(
                "model.parametrization: Velocity was found, but the times of the path DDPM count steps, so that it "
                "would be near 0; Noise, VPrediction, Data or Preconditioned is expected"
            )

    def _determinant(self, path: Path, t: Tensor) -> Tensor:
        """Of the two equations for x_t and F; above 0, since sigma / alpha grows."""
        return path.alpha(t) * path.sigma_rate(t) - path.alpha_rate(t) * path.sigma(t)


class Preconditioned(Parametrization):
    """The network's input and target have unit variance at all times, and F's errors are amplified the least.

    Karras et al., 2022, https://arxiv.org/abs/2206.00364, appendix B.6, for x_t / alpha = x_0 + (sigma / alpha) e.

    Args:
        sigma_data: the standard deviation of the data.

    Raises:
        UserError: for a deviation that is not above 0.
    """

    def __init__(self, sigma_data: float = 0.5) -> None:
        above(0, "model.parametrization.", finite=True, sigma_data=sigma_data)
        self.sigma_data = sigma_data

    def _deviation(self, path: Path, t: Tensor) -> Tensor:
        """Of x_t."""
        return (path.sigma(t).square() + (path.alpha(t) * self.sigma_data).square()).sqrt()

    def estimate(self, path: Path, t: Tensor) -> Factors:
        """See `Parametrization`."""
        deviation = self._deviation(path, t)
        skip = self.sigma_data**2 * path.alpha(t) / deviation.square()
        return Factors(skip, self.sigma_data * path.sigma(t) / deviation)

    def noise(self, path: Path, t: Tensor) -> Factors:
        """See `Parametrization`; also where the noise is 0."""
        deviation = self._deviation(path, t)
        return Factors(path.sigma(t) / deviation.square(), -self.sigma_data * path.alpha(t) / deviation)

    def target(self, path: Path, t: Tensor) -> Factors:
        """See `Parametrization`; also where the noise is 0."""
        deviation = self._deviation(path, t)
        return Factors(path.sigma(t) / (self.sigma_data * deviation), -self.sigma_data * path.alpha(t) / deviation)

    def scale(self, path: Path, t: Tensor) -> Tensor:
        """See `Parametrization`."""
        return 1 / self._deviation(path, t)
