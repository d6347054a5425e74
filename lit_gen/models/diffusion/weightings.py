"""How much each noise level counts: a factor of the squared error of the network's output."""

import torch
from torch import Tensor

from lit_gen.core.options import above
from lit_gen.models.diffusion.base import Path
from lit_gen.models.diffusion.parametrizations import Parametrization

__all__ = ["MinSNR", "Simple", "Weighting"]


class Weighting:
    """Base: factors of ||F - target||^2."""

    def __call__(self, path: Path, parametrization: Parametrization, t: Tensor) -> Tensor:
        """Factors (B,) at times (B,)."""
        raise NotImplementedError


class Simple(Weighting):
    """1: the simple loss of DDPM for `Noise`, flow matching for `Velocity`, EDM's loss for `Preconditioned`."""

    def __call__(self, path: Path, parametrization: Parametrization, t: Tensor) -> Tensor:
        """See `Weighting`."""
        return torch.ones_like(t)


class MinSNR(Weighting):
    """The error of x_0 counts min(SNR, gamma) times, SNR = alpha^2 / sigma^2.

    Hang et al., 2023, https://arxiv.org/abs/2303.09556. An error of F makes one of x_0 that is ``out`` times as large,
    so that F counts min(SNR, gamma) out^2 times: for `Noise` that is min(SNR, gamma) / SNR, for `VPrediction`
    min(SNR, gamma) / (SNR + 1).

    Args:
        gamma: the most that a level counts.

    Raises:
        UserError: for a number that is not above 0.
    """

    def __init__(self, gamma: float = 5.0) -> None:
        above(0, "model.weighting.", finite=True, gamma=gamma)
        self.gamma = gamma

    def __call__(self, path: Path, parametrization: Parametrization, t: Tensor) -> Tensor:
        """See `Weighting`."""
        ratio = path.alpha(t).square() / path.sigma(t).square()
        return ratio.clamp(max=self.gamma) * parametrization.estimate(path, t).second.square()
