"""Two-dimensional mixtures of Gaussians, on which mode coverage can be counted.

- ``ring``, ``grid``: PacGAN (Lin et al., 2018, https://arxiv.org/abs/1712.04086), section 4.1 and its code: 8 modes on
  the unit circle with sigma 0.01, and 25 modes at {-4, -2, 0, 2, 4}^2 with sigma 0.05.
- ``8gaussians``: torchcfm (Tong et al., 2024, https://arxiv.org/abs/2302.00482), ``sample_8gaussians`` of its code: 8
  modes on a circle of radius 5. It says ``var=0.1``, but takes the root of that as the variance: sigma is 0.1^(1/4).
"""

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lit_gen.core import randomness
from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.module import ImageData
from lit_gen.protocols.data import Split

RING_SIGMA, GRID_SIGMA = 0.01, 0.05
EIGHT_RADIUS, EIGHT_SIGMA = 5.0, 0.1**0.25


def ring_centres() -> Tensor:
    """(8, 2): the modes of the ring."""
    angles = torch.arange(8) * (2 * math.pi / 8)
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def grid_centres() -> Tensor:
    """(25, 2): the modes of the grid."""
    ticks = torch.tensor([-4.0, -2.0, 0.0, 2.0, 4.0])
    return torch.cartesian_prod(ticks, ticks)


def refuse_sides(data: ImageData) -> None:
    """Refuse to flip or crop points.

    Raises:
        UserError: if that is asked for.
    """
    if data.flip or data.pad:
        raise UserError("data.flip and data.pad: points have no sides; leave both at their defaults")


class Toy2D(ImageData):
    """Points of a mixture, as "images" of shape (2, 1, 1) in their own units; a point's label is its mode.

    Args:
        kind: ring, grid, or 8gaussians.
        size: training points; validation and test get another tenth of that number each.
        **images: see `ImageData`; flip and pad do not apply.
    """

    shape = (2, 1, 1)
    levels = None

    def __init__(
        self, kind: Literal["ring", "grid", "8gaussians"] = "ring", size: int = 100_000, **images: Any
    ) -> None:
        super().__init__(**images)
        at_least(10, "data.", size=size)
        refuse_sides(self)
        self.kind, self.size = kind, size
        self.centres, self.sigma = {
            "ring": (ring_centres(), RING_SIGMA),
            "grid": (grid_centres(), GRID_SIGMA),
            "8gaussians": (EIGHT_RADIUS * ring_centres(), EIGHT_SIGMA),
        }[kind]
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
        return {"data": self.name, "kind": self.kind, "modes": "equal shares"}
