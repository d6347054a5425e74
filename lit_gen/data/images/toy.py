"""Two-dimensional mixtures of Gaussians, on which mode coverage can be counted.

PacGAN (Lin et al., 2018, https://arxiv.org/abs/1712.04086), section 4.1 and its code: a ring of 8 modes on the unit
circle with sigma 0.01, and a grid of 25 modes at {-4, -2, 0, 2, 4}^2 with sigma 0.05.
"""

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lit_gen.core import randomness
from lit_gen.core.errors import UserError
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.module import ImageData
from lit_gen.protocols.data import Split

RING_SIGMA, GRID_SIGMA = 0.01, 0.05


def ring_centres() -> Tensor:
    """(8, 2): the modes of the ring."""
    angles = torch.arange(8) * (2 * math.pi / 8)
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def grid_centres() -> Tensor:
    """(25, 2): the modes of the grid."""
    ticks = torch.tensor([-4.0, -2.0, 0.0, 2.0, 4.0])
    return torch.cartesian_prod(ticks, ticks)


class Toy2D(ImageData):
    """Points of a mixture, as "images" of shape (2, 1, 1) in their own units; a point's label is its mode.

    Args:
        kind: ring, or grid.
        size: training points; validation and test get another tenth of that number each.
        **images: see `ImageData`; flip and pad do not apply.
    """

    shape = (2, 1, 1)
    levels = None

    def __init__(self, kind: Literal["ring", "grid"] = "ring", size: int = 100_000, **images: Any) -> None:
        super().__init__(**images)
        if size < 10:
            raise UserError(f"data.size: {size} was found, at least 10 points are expected")
        if self.flip or self.pad:
            raise UserError("data.flip and data.pad: points have no sides; leave both at their defaults")
        self.kind, self.size = kind, size
        self.centres, self.sigma = (ring_centres(), RING_SIGMA) if kind == "ring" else (grid_centres(), GRID_SIGMA)
        self.num_classes = len(self.centres)

    def load(self, split: Split) -> ImageSet:
        """Draw a split, always the same for a seed."""
        count = self.size if split == "train" else self.size // 10
        generator = randomness.host(self.seed, f"points of {self.kind}, {split}")
        labels = torch.from_numpy(generator.integers(0, len(self.centres), count))
        noise = torch.from_numpy(generator.standard_normal((count, 2), dtype=np.float32))
        return ImageSet((self.centres[labels] + self.sigma * noise)[:, :, None, None], labels)

    @property
    def protocol(self) -> dict[str, Any]:
        """What a record of numbers says of the set."""
        return {"data": self.name, "modes": "equal shares"}
