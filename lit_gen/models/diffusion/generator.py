"""From noise to samples: a denoiser with a solver, as one network."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lit_gen.models.diffusion.base import Path, exactly
from lit_gen.models.diffusion.denoiser import Denoiser, Guidance
from lit_gen.models.diffusion.parametrizations import Parametrization
from lit_gen.models.diffusion.solvers.base import Solver
from lit_gen.models.diffusion.solvers.editing import edited
from lit_gen.models.diffusion.sources import Normal, Source
from lit_gen.protocols.diffusion import Field, Solved
from lit_gen.protocols.images import Condition, IndexedDraws


class Generator(nn.Module):
    """Standard normal noise to samples, by integrating a denoiser's field to data. It needs no Lightning.

    Args:
        network: a `lit_gen.protocols.diffusion.DenoisingNetwork`.
        path: from data to noise.
        parametrization: what the network's output means.
        solver: how the field is integrated.
        source: where paths end; null: N(0, I).
        guidance_scale: of a conditional network; 1: none.
        guidance_interval: of sigma / alpha within which samples are guided; null: everywhere.
    """

    def __init__(
        self,
        network: nn.Module,
        path: Path,
        parametrization: Parametrization,
        solver: Solver,
        source: Source | None = None,
        guidance_scale: float = 1.0,
        guidance_interval: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.denoiser = Denoiser(network, path, parametrization)
        self.path, self.parametrization, self.solver, self.source = path, parametrization, solver, source
        self.guidance_scale, self.guidance_interval = guidance_scale, guidance_interval

    @property
    def network(self) -> Any:
        """The denoiser's."""
        return self.denoiser.network

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a sample."""
        return self.denoiser.shape

    @property
    def num_classes(self) -> int | None:
        """Classes of a conditional network; None for an unconditional one."""
        return self.denoiser.num_classes

    @property
    def latent_dim(self) -> int:
        """Numbers of noise that a sample begins with."""
        return self._source.latent_dim(self.shape)

    @property
    def _source(self) -> Source:
        return Normal() if self.source is None else self.source

    def forward(self, noise: Tensor, labels: Tensor | None = None, draws: IndexedDraws | None = None) -> Tensor:
        """Noise (B, latent_dim) to samples (B, C, H, W): images in [-1, 1], or points.

        Args:
            noise: standard normal.
            labels: int64 (B,) of a conditional network.
            draws: the noise of a stochastic solver.
        """
        return self.finished(self.solve(self.field(labels), self.start(noise), self.path.end, draws).x)

    def draw(self, noise: Tensor, asked: Condition, draws: IndexedDraws, strength: float = 1.0) -> Tensor:
        """As `forward`, with what is asked for: labels, and images to be changed.

        Args:
            noise: standard normal, (B, latent_dim).
            asked: for each row.
            draws: the noise of a stochastic solver.
            strength: of an edit; see `lit_gen.models.diffusion.solvers.editing`.
        """
        if asked.images is None:
            return self.forward(noise, asked.labels, draws)
        field, unit = self.field(asked.labels), self._source(noise, self.shape)
        return self.finished(edited(self.solver, field, unit, asked.images, asked.mask, strength, draws).x)

    def field(self, labels: Tensor | None = None) -> Field:
        """What the solver integrates."""
        return self.denoiser.field(labels, Guidance(self.guidance_scale, self.guidance_interval))

    def start(self, noise: Tensor) -> Tensor:
        """Noise (B, latent_dim) to x at the noisy end of the path."""
        return float(self.path.sigma(exactly(self.path.end))) * self._source(noise, self.shape)

    def solve(self, field: Field, x: Tensor, time: float, draws: IndexedDraws | None = None) -> Solved:
        """From x at a time to data."""
        return self.solver(field, x, (time, 0.0), draws)

    def finished(self, x: Tensor) -> Tensor:
        """Images within [-1, 1]; points as they are."""
        return x if math.prod(self.shape[1:]) == 1 else x.clamp(-1, 1)

    def settings(self) -> Mapping[str, Any]:
        """What samples depend on beside the weights, for records."""
        guided: dict[str, Any] = {"guidance_scale": self.guidance_scale}
        if self.guidance_interval is not None:
            guided["guidance_interval"] = list(self.guidance_interval)
        return {"solver": self.solver.settings, **(guided if self.num_classes is not None else {})}

    @torch.no_grad()
    def calls(self) -> float | None:
        """Network calls of a sample, counted without the network; None where they depend on the sample."""
        if self.solver.adaptive:
            return None
        labels = None if self.num_classes is None else torch.zeros(1, dtype=torch.int64)
        dry = _Dry(self.field(labels))
        return float(self.solver(dry, torch.zeros(1, *self.shape), (self.path.end, 0.0), _NoDraws()).calls[0])


class _Dry:
    """A field that is 0, and costs what another one does."""

    def __init__(self, field: Field) -> None:
        self.path, self.calls = field.path, field.calls

    def denoised(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x)

    velocity = denoised


class _NoDraws:
    """Draws of a dry run."""

    def normal(self, purpose: str, step: int, *shape: int) -> Tensor:
        return torch.zeros(1, *shape)
