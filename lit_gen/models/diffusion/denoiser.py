"""A network with its path and parametrization: the field that solvers integrate, with one set of weights."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lit_gen.core.blame import named, shown
from lit_gen.core.errors import UserError
from lit_gen.models.diffusion.base import Path, column
from lit_gen.models.diffusion.parametrizations import Factors, Parametrization
from lit_gen.models.likelihoods.numerics import wide
from lit_gen.models.nn.conditioning import needed


class Guidance(NamedTuple):
    """D = D(no label) + scale (D(label) - D(no label)). Ho and Salimans, 2022, https://arxiv.org/abs/2207.12598.

    The paper's w is scale - 1. The velocity is linear in D and guided likewise. Outside ``interval`` the scale is 1:
    Kynkäänniemi et al., 2024, https://arxiv.org/abs/2404.07724.
    """

    scale: float = 1.0
    """1: the conditional model; 0: the unconditional one."""
    interval: tuple[float, float] | None = None
    """Of sigma / alpha; None: everywhere."""

    def holds(self, path: Path, t: Tensor) -> Tensor:
        """Whether both outputs are needed at times (B,), bool (B,)."""
        everywhere = torch.full_like(t, self.scale != 1, dtype=torch.bool)
        if self.interval is None:
            return everywhere
        ratio = path.sigma(t) / path.alpha(t)
        return everywhere & (ratio >= self.interval[0]) & (ratio <= self.interval[1])


class Denoiser(nn.Module):
    """The estimate of x_0 and the velocity, from x_t (B, C, H, W) and times (B,). It needs no Lightning.

    Args:
        network: a `lit_gen.protocols.diffusion.DenoisingNetwork`.
        path: from data to noise.
        parametrization: what the network's output means.
    """

    def __init__(self, network: nn.Module, path: Path, parametrization: Parametrization) -> None:
        super().__init__()
        self.network: Any = network
        self.path, self.parametrization = path, parametrization

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the data."""
        channels, height, width = self.network.shape
        return int(channels), int(height), int(width)

    @property
    def num_classes(self) -> int | None:
        """Classes of a conditional network; None for an unconditional one."""
        found = getattr(self.network, "num_classes", None)
        return found if isinstance(found, int) else None

    def output(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The network's F, in float32 at least, of the shape of ``x``.

        Raises:
            UserError: if the network returns anything else.
        """
        path = self.path
        given = () if self.num_classes is None else (needed(labels, self.network),)
        scaled = column(self.parametrization.scale(path, t), x) * x
        found: object = self.network(scaled, path.level(t).to(x.dtype), *given)
        if not isinstance(found, Tensor) or found.shape != x.shape:
            told = f"{named(self.network)} returned {shown(found)}, {tuple(x.shape)} is expected"
            raise UserError(f"model.network: {told}, the shape of its input")
        return wide(found)

    def denoised(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The model's E[x_0 | x_t = x]."""
        return _combined(self.parametrization.estimate(self.path, t), x, self.output(x, t, labels))

    def velocity(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The model's dx/dt."""
        return _combined(self.parametrization.velocity(self.path, t), x, self.output(x, t, labels))

    def errors(self, data: Tensor, noise: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Mean squared error of F over the dimensions of each row, (B,), for data and noise (B, C, H, W)."""
        x = self.path.between(data, noise, t)
        target = _combined(self.parametrization.target(self.path, t), data, noise)
        return (self.output(x, t, labels) - target).square().flatten(1).mean(1)

    def field(self, labels: Tensor | None = None, guidance: Guidance | None = None) -> "Conditioned":
        """The field of one block of samples.

        Args:
            labels: int64 (B,) of a conditional model.
            guidance: None for none.
        """
        return Conditioned(self, labels, guidance or Guidance())


class Conditioned:
    """A denoiser with the labels of a block and a guidance: a `lit_gen.protocols.diffusion.Field`."""

    def __init__(self, denoiser: Denoiser, labels: Tensor | None, guidance: Guidance) -> None:
        self.denoiser, self.path, self.labels, self.guidance = denoiser, denoiser.path, labels, guidance

    def denoised(self, x: Tensor, t: Tensor) -> Tensor:
        """See `lit_gen.protocols.diffusion.Field`."""
        return self._guided(self.denoiser.denoised, x, t)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """See `lit_gen.protocols.diffusion.Field`; it is linear in x_0, so guiding it guides x_0."""
        return self._guided(self.denoiser.velocity, x, t)

    def _guided(self, model: Callable[[Tensor, Tensor, Tensor | None], Tensor], x: Tensor, t: Tensor) -> Tensor:
        given = model(x, t, self.labels)
        if self.labels is None or self.guidance.scale == 1:
            return given
        holds = self.guidance.holds(self.path, t)
        if self.guidance.interval is not None and not bool(holds.any()):
            return given  # saves a call, for the price of a look at the device
        none = model(x, t, torch.full_like(self.labels, self.denoiser.num_classes or 0))
        return torch.where(holds.view(-1, *(1,) * (x.ndim - 1)), none + self.guidance.scale * (given - none), given)

    def calls(self, t: Tensor) -> Tensor:
        """See `lit_gen.protocols.diffusion.Field`."""
        guided = self.labels is not None
        return 1 + (self.guidance.holds(self.path, t) & guided).long()


def _combined(factors: Factors, first: Tensor, second: Tensor) -> Tensor:
    return column(factors.first, first) * first + column(factors.second, second) * second
