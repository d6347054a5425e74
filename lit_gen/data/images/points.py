"""Two-dimensional sets that papers on flows draw, and that are no mixtures of Gaussians: their modes are not counted.

- ``moons``, ``circles``: scikit-learn's formulas of ``make_moons`` and ``make_circles`` (factor 0.5), in their units.
  FFJORD draws 2 x + (-1, -0.2) of moons with noise 0.1 and 3 x of circles with noise 0.08.
- ``torchcfm_moons``: ``sample_moons`` of torchcfm's code (Tong et al., 2024, https://arxiv.org/abs/2302.00482), in its
  units: 3 x - 1 of moons. Its ``noise=0.2`` is no deviation: torchdyn's ``generate_moons``, which it calls, adds 0.2
  times one uniform number to both coordinates of a point. The covariance has the trace 9.0077.
- ``checkerboard``, ``pinwheel``, ``spirals``: FFJORD's (Grathwohl et al., 2019, https://arxiv.org/abs/1810.01367,
  ``lib/toy_data.py`` of its code), in its units. The checkerboard is uniform on 8 squares of side 2: without noise no
  model has a lower negative log-likelihood than log 32 = 3.4657 nats.

A point is a function of its class, of three uniform numbers in [0, 1), and for the pinwheel of two normal ones.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from lit_gen.core import randomness
from lit_gen.core.options import at_least, not_negative
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.module import ImageData
from lit_gen.data.images.toy import refuse_sides
from lit_gen.protocols.data import Split

Draw = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""From classes int64 (N,), uniform numbers (N, 3) and normal numbers (N, 2) to points (N, 2), all float64."""


def moons(classes: np.ndarray, uniform: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """The upper half of the unit circle (0), and the lower half of one at (1, 0.5) (1)."""
    angle = math.pi * uniform[:, 0]
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.where(classes[:, None] == 0, upper, np.array([1, 0.5]) - upper)


def torchcfm_moons(classes: np.ndarray, uniform: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """`moons`, each point moved by up to 0.2 along the diagonal, then scaled by 3 and moved by -1."""
    return 3 * (moons(classes, uniform, normal) + 0.2 * uniform[:, 1:2]) - 1


def circles(classes: np.ndarray, uniform: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Circles of radius 1 (0) and 0.5 (1)."""
    angle = 2 * math.pi * uniform[:, 0]
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.where(classes == 0, 1, 0.5)[:, None]


def checkerboard(classes: np.ndarray, uniform: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Every other square of side 2 in [-4, 4]^2; the class says which of the two in a column."""
    x = 4 * uniform[:, 0] - 2
    y = uniform[:, 1] - 2 * classes + np.floor(x) % 2
    return 2 * np.stack([x, y], axis=1)


def pinwheel(classes: np.ndarray, uniform: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Five curved arms."""
    radius, across = 1 + 0.3 * normal[:, 0], 0.1 * normal[:, 1]
    angle = classes * (2 * math.pi / 5) + 0.25 * np.exp(radius)
    cos, sin = np.cos(angle), np.sin(angle)
    return 2 * np.stack([radius * cos + across * sin, across * cos - radius * sin], axis=1)


def spirals(classes: np.ndarray, uniform: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Two arms of one and a half turns, and uniform noise."""
    angle = 3 * math.pi * np.sqrt(uniform[:, 0])
    arm = np.stack([-np.cos(angle) * angle, np.sin(angle) * angle], axis=1) + 0.5 * uniform[:, 1:]
    return np.where(classes[:, None] == 0, arm, -arm) / 3


class Form(NamedTuple):
    """One of the sets."""

    draw: Draw
    classes: int
    labelled: bool
    """Whether the class is a point's label."""
    noise: float
    """The default standard deviation of the noise."""


FORMS = {
    "moons": Form(moons, 2, True, 0.05),
    "torchcfm_moons": Form(torchcfm_moons, 2, True, 0.0),
    "circles": Form(circles, 2, True, 0.08),
    "checkerboard": Form(checkerboard, 2, False, 0.0),
    "pinwheel": Form(pinwheel, 5, True, 0.0),
    "spirals": Form(spirals, 2, True, 0.1),
}


class Points2D(ImageData):
    """Points of a curved set, as "images" of shape (2, 1, 1) in its units; its label is its moon, circle or arm.

    Point i of a split is the same for any size of the set.

    Args:
        kind: moons, torchcfm_moons, circles, checkerboard, pinwheel, or spirals; see the top of this file.
        size: training points; validation and test get another tenth of that number each.
        noise: standard deviation of Gaussian noise that is added to each point; null: 0.05 for moons, 0.08 for
            circles, 0.1 for spirals, else 0.
        **images: see `ImageData`; flip and pad do not apply.
    """

    shape = (2, 1, 1)
    levels = None

    def __init__(
        self,
        kind: Literal["moons", "torchcfm_moons", "circles", "checkerboard", "pinwheel", "spirals"] = "moons",
        size: int = 100_000,
        noise: float | None = None,
        **images: Any,
    ) -> None:
        super().__init__(**images)
        at_least(10, "data.", size=size)
        refuse_sides(self)
        not_negative("data.", noise=noise)
        self.kind, self.size, self.form = kind, size, FORMS[kind]
        self.noise = self.form.noise if noise is None else noise
        self.num_classes = self.form.classes if self.form.labelled else None

    def load(self, split: Split) -> ImageSet:
        """Draw a split, always the same for a seed."""
        count = self.size if split == "train" else self.size // 10
        classes = self._host("classes", split).integers(0, self.form.classes, count)
        uniform = self._host("places", split).random((count, 3))
        normal = self._host("spread", split).standard_normal((count, 2))
        noise = self.noise * self._host("noise", split).standard_normal((count, 2))
        points = torch.from_numpy((self.form.draw(classes, uniform, normal) + noise).astype(np.float32))
        return ImageSet(points[:, :, None, None], torch.from_numpy(classes) if self.form.labelled else None)

    def _host(self, what: str, split: Split) -> np.random.Generator:
        return randomness.host(self.seed, f"{what} of {self.kind}, {split}")

    @property
    def protocol(self) -> dict[str, Any]:
        """What a record of numbers says of the set."""
        return {"data": self.name, "kind": self.kind, "noise": self.noise, "size": self.size}
