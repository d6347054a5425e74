"""Likelihoods: from the decoder's output to a distribution over images.

To add one, subclass `Likelihood` anywhere and name it: ``likelihood: {class_path: my_file.MyLikelihood}``.

Choose by the data: `Bernoulli` for binary images; `ContinuousBernoulli` or `Gaussian` for grey values as real numbers;
`DiscretizedLogistic` or `MixtureOfLogistics` for 8-bit images with comparable bits per dimension; `Categorical` for
images of a few levels; `Gaussian` for points. A density of discrete values has no upper bound: do not compare its bits
with those of a probability mass.
"""

import math

import torch
from torch import Tensor, nn

from lit_gen.core.bits import offset
from lit_gen.core.errors import UserError
from lit_gen.core.images import at_level
from lit_gen.models.likelihoods.distributions import Distribution
from lit_gen.models.likelihoods.numerics import wide

__all__ = ["Likelihood"]


class Likelihood(nn.Module):
    """Base of the likelihoods: from the decoder's output (B, channels(C), H, W) to a `Distribution` over (B, C, H, W).

    Attributes:
        discrete: whether `log_prob` is of a probability mass; else it is of a density over [-1, 1].
        parameters_per_channel: parameters of a pixel's distribution.
    """

    discrete: bool = False
    parameters_per_channel: int = 1

    def bits_offset(self, levels: int = 256) -> float:
        """What must be added to nats / (D ln 2) for bits per dimension of images with so many levels.

        0 for a mass; for a density over [-1, 1] log2(levels / 2), since a level is 2 / levels wide there.
        """
        return offset(1.0 if self.discrete else 2 / levels)

    def bits_per_dim(self, nats: Tensor, dimensions: int, levels: int = 256) -> Tensor:
        """Bits per dimension of a negative log-likelihood in nats; ``dimensions`` is C * H * W."""
        return nats / (dimensions * math.log(2)) + self.bits_offset(levels)

    def channels(self, image_channels: int) -> int:
        """The number of channels of the decoder's output for images of ``image_channels``."""
        return image_channels * self.parameters_per_channel

    def forward(self, outputs: Tensor) -> Distribution:
        """Decoder outputs (B, channels(C), H, W) to a distribution over images (B, C, H, W), in float32.

        Raises:
            UserError: if there is no C with that many channels.
        """
        fixed, step = self.channels(0), self.channels(1) - self.channels(0)
        if outputs.ndim != 4 or outputs.shape[1] <= fixed or (outputs.shape[1] - fixed) % step:
            raise UserError(
                f"model.decoder: outputs {tuple(outputs.shape)} were found, but likelihood {type(self).__name__} takes "
                f"(B, {self.channels(1)}, H, W) of grey images and (B, {self.channels(3)}, H, W) of color images"
            )
        return self.distribution(wide(outputs))

    def distribution(self, outputs: Tensor) -> Distribution:
        """As `forward`, of outputs that fit, in float32."""
        raise NotImplementedError

    def check(self, x: Tensor) -> None:
        """Check that images (B, C, H, W) can have this likelihood; reads every pixel, which costs a synchronization.

        Raises:
            UserError: if they cannot.
        """
        if not torch.isfinite(x).all():
            self._refuse("values that are not finite were found", "finite ones are expected")

    def _refuse(self, found: str, expected: str) -> None:
        raise UserError(f"likelihood {type(self).__name__}: {found}, {expected}")

    def _check_range(self, x: Tensor) -> None:
        low, high = float(x.min()), float(x.max())
        if low < -1 or high > 1:
            self._refuse(
                f"values from {low:.4g} to {high:.4g} were found",
                "images in [-1, 1] are expected; Gaussian takes any value",
            )

    def _check_levels(self, x: Tensor, levels: int) -> None:
        """Levels may come as the nearest of the 256 levels of a stored image."""
        self._check_range(x)
        between = x[~at_level(x, levels)]
        if between.numel():
            of = " of 8-bit images" if levels == 256 else ""
            self._refuse(
                f"values between the {levels} levels{of} were found (for example {float(between[0]):.4f})",
                "levels are expected; choose Gaussian or ContinuousBernoulli for real numbers",
            )
