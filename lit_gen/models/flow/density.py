"""The density of a flow, as one network: dequantization, support, transform and base with one set of weights."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from lit_gen.core.blame import named, shown
from lit_gen.core.errors import UserError
from lit_gen.core.images import at_level, level_of, of_level
from lit_gen.models.flow.dequantization import Dequantization
from lit_gen.models.flow.support import RealLine, Support
from lit_gen.models.likelihoods.numerics import wide
from lit_gen.models.nn.conditioning import needed

__all__ = ["Density", "StandardNormal"]

PARTS = ("transform", "base", "dequantization", "support")


class StandardNormal(nn.Module):
    """N(0, I) on z (B, D)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Nats (B,)."""
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)

    def sample(self, noise: Tensor) -> Tensor:
        """Standard normal noise (B, D) to z (B, D)."""
        return noise


class Density(nn.Module):
    """p(x) = p_base(z) |det dz/dx|, z = transform(support(y)), y the dequantized levels of x, or x itself.

    Nats are of y: of levels, of a density over [0, levels)^D; of points, in their own units. Called with standard
    normal noise (B, D), it draws. It needs no Lightning.

    Args:
        transform: a `lit_gen.protocols.flows.FlowTransform`.
        base: with ``log_prob(z)`` and ``sample(noise)``, (B, D) to (B,) and (B, D); null: N(0, I).
        dequantization: of data with levels; null for points.
        support: the map from the data's range to the real line; null: data are any real numbers.
    """

    def __init__(
        self,
        transform: nn.Module,
        base: nn.Module | None = None,
        dequantization: Dequantization | None = None,
        support: Support | None = None,
    ) -> None:
        super().__init__()
        self.transform: Any = transform
        self.dequantization = dequantization
        self.base: Any = StandardNormal() if base is None else base
        self.support = RealLine() if support is None else support

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a sample."""
        channels, height, width = self.transform.shape
        return int(channels), int(height), int(width)

    @property
    def latent_dim(self) -> int:
        """D, numbers of z."""
        return math.prod(self.shape)

    @property
    def num_classes(self) -> int | None:
        """Classes of a conditional transform; None for an unconditional one."""
        found = getattr(self.transform, "num_classes", None)
        return found if isinstance(found, int) else None

    @property
    def levels(self) -> int | None:
        """Levels of a pixel; None for points."""
        return None if self.dequantization is None else self.dequantization.levels

    # ---- from data to nats

    def log_prob(self, images: Tensor, noise: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Nats (B,) of images (B, C, H, W) in [-1, 1], or points.

        Args:
            images: at the data's levels, or points within the support.
            noise: what the dequantization draws, of the shape of ``images``; not used for points.
            labels: int64 (B,), of a conditional transform.
        """
        coordinates, log_det, log_q = self.coordinates(images, noise)
        z, of_transform = self.encode(coordinates, labels)
        nats: Tensor = self.base.log_prob(z) + of_transform + log_det - log_q
        return nats

    def coordinates(self, images: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What the transform gets, of the shape of ``images``; the support's log|det| and log q(u|x), (B,)."""
        y, log_q = self.numbers(images), images.new_zeros(len(images))
        if self.dequantization is not None:
            assert noise is not None
            u, log_q = self.dequantization(y, noise.to(y.dtype))
            y = y + u
        coordinates, log_det = self.support(y)
        return coordinates, log_det, log_q

    def numbers(self, images: Tensor) -> Tensor:
        """Numbers of levels, 0 to levels - 1, or points as they are, in float32 at least."""
        return wide(images) if self.levels is None else level_of(wide(images), self.levels)

    def encode(self, coordinates: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Coordinates (B, C, H, W) to z (B, D) and the transform's log|det|, (B,).

        Raises:
            UserError: if the transform returns anything else.
        """
        found: object = self.transform(self._own(coordinates), *self._given(labels))
        count, size = len(coordinates), self.latent_dim
        pair = isinstance(found, tuple) and len(found) == 2 and all(isinstance(part, Tensor) for part in found)
        if not pair or [tuple(part.shape) for part in found] != [(count, size), (count,)]:  # type: ignore[attr-defined]
            told = " and ".join(shown(part) for part in found) if isinstance(found, tuple) else shown(found)
            expected = f"z ({count}, {size}) and log|det| ({count},) are expected of x {tuple(coordinates.shape)}"
            raise UserError(f"model.transform: {named(self.transform)} returned {told}, {expected}")
        return found  # type: ignore[return-value]

    def check(self, images: Tensor) -> None:
        """Refuse data that this density is not of; reads every number, which costs a synchronization.

        Raises:
            UserError: for images of another shape, between the levels, or outside the support.
        """
        if tuple(images.shape[1:]) != self.shape:
            raise UserError(
                f"model.transform: data of shape {tuple(images.shape[1:])} were found, {self.shape} is expected"
            )
        if not len(images):
            return
        if self.levels is None:
            self.support.check(images)
            return
        numbers = self.numbers(images)
        fits = at_level(wide(images), self.levels)
        if not bool(fits.all()):
            raise UserError(
                f"model.dequantization: the value {float(images[~fits][0]):.4g} was found, which is none of the "
                f"{self.levels} levels from -1 to 1; images with these levels are expected"
            )
        for u in (0.0, 1 - 2**-16):
            self.support.check(numbers + u)

    # ---- from noise to data

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Standard normal noise (B, D) to samples (B, C, H, W): images at the levels in [-1, 1], or points."""
        coordinates = self.transform.inverse(self._own(self.base.sample(noise)), *self._given(labels))
        y = self.support.inverse(coordinates)
        if self.levels is None:
            return y
        return of_level(y.floor().clamp(0, self.levels - 1), self.levels)

    def _own(self, x: Tensor) -> Tensor:
        """X in the transform's own precision, if that is a wider one."""
        first = next((p for p in self.transform.parameters() if p.is_floating_point()), x)
        return x.to(torch.promote_types(x.dtype, first.dtype))

    def _given(self, labels: Tensor | None) -> tuple[Tensor, ...]:
        return () if self.num_classes is None else (needed(labels, self.transform),)
