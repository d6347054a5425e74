"""Likelihoods: what the decoder's output says about an image; formulas are in `distributions.py` and `logistics.py`.

To add one, subclass `Likelihood` anywhere and name it: ``likelihood: {class_path: my_file.MyLikelihood}``.

Which for which data: binary images `Bernoulli`; grey values as real numbers `ContinuousBernoulli` or `Gaussian`; 8-bit
images with bits per dimension to compare `DiscretizedLogistic` or `MixtureOfLogistics`; points `Gaussian`. A density of
values that are really discrete has no upper bound: compare those bits with no mass's.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from lit_gen.errors import UserError, nearest
from lit_gen.vae import distributions, logistics
from lit_gen.vae.distributions import Distribution
from lit_gen.vae.numerics import soften, wide

__all__ = [
    "Bernoulli",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "Gaussian",
    "Likelihood",
    "MixtureOfLogistics",
]

LEAST_SIGMA = 1e-18  # its square and that square's inverse are ordinary numbers of float32


class Likelihood(nn.Module):
    """Base of the likelihoods: from the decoder's output (B, channels(C), H, W) to a `Distribution` over (B, C, H, W).

    Attributes:
        discrete: `log_prob` is of a probability mass, else of a density over [-1, 1].
        parameters_per_channel: numbers that a pixel's distribution takes.
    """

    discrete: bool = False
    parameters_per_channel: int = 1

    @property
    def bits_offset(self) -> float:
        """What nats / (D ln 2) lacks to bits per dimension of 8-bit images.

        0 for a mass; for a density over [-1, 1] log2(256 / 2), since a level is 2 / 256 wide there.
        """
        return 0.0 if self.discrete else 7.0

    def bits_per_dim(self, nats: Tensor, dimensions: int) -> Tensor:
        """Bits per dimension of a negative log-likelihood in nats; ``dimensions`` is C * H * W."""
        return nats / (dimensions * math.log(2)) + self.bits_offset

    def channels(self, image_channels: int) -> int:
        """How many channels the decoder's output has for images of ``image_channels``."""
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
        """See that images (B, C, H, W) can have this likelihood; looks at every pixel, which costs a synchronization.

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

    def _check_levels(self, x: Tensor) -> None:
        self._check_range(x)
        level = (x + 1) * 127.5
        between = x[(level - level.round()).abs() > 0.01]
        if between.numel():
            self._refuse(
                f"values between the 256 levels of 8-bit images were found (for example {float(between[0]):.4f})",
                "levels are expected; choose Gaussian or ContinuousBernoulli for real numbers",
            )


class Bernoulli(Likelihood):
    """Binary images, -1 or 1; the decoder gives the logits of 1. Grey values have no such likelihood: refused."""

    discrete = True

    def distribution(self, outputs: Tensor) -> Distribution:
        """See `Likelihood`."""
        return distributions.Bernoulli(outputs)

    def check(self, x: Tensor) -> None:
        """See `Likelihood`."""
        super().check(x)
        grey = x[x.abs() != 1]
        if grey.numel():
            self._refuse(
                f"grey values were found (for example {float(grey[0]):.2f})",
                "binary images (-1 and 1) are expected; choose data.binarize or ContinuousBernoulli",
            )


class ContinuousBernoulli(Likelihood):
    """Grey values in [-1, 1] as real numbers, with the density that a Bernoulli lacks there; the decoder gives logits.

    Loaiza-Ganem and Cunningham, 2019, https://arxiv.org/abs/1907.06845.
    """

    def distribution(self, outputs: Tensor) -> Distribution:
        """See `Likelihood`."""
        return distributions.ContinuousBernoulli(outputs)

    def check(self, x: Tensor) -> None:
        """See `Likelihood`."""
        super().check(x)
        self._check_range(x)


class Gaussian(Likelihood):
    """Real values around the decoder's output, N(output, sigma^2), one sigma for all pixels.

    Args:
        sigma: a number above 0; "learned": a parameter, which starts at 1; "optimal": the sigma-VAE of Rybkin et al.,
            2021, https://arxiv.org/abs/2006.13202: in training sigma^2 is the mean squared error of the batch over all
            ranks, the value that makes it likeliest. Evaluation uses a running mean of those, saved with the model, so
            that its numbers do not depend on how images are batched: of all batches so far at first, later of about the
            last 100.

    Raises:
        UserError: for another sigma.
    """

    variance: Tensor
    batches: Tensor

    def __init__(self, sigma: float | Literal["learned", "optimal"] = "optimal") -> None:
        super().__init__()
        if isinstance(sigma, str) and sigma not in ("learned", "optimal"):
            hint = nearest(sigma, ("learned", "optimal"))
            raise UserError(
                f"model.likelihood.sigma: {sigma!r} was found, a number above 0, learned or optimal is expected{hint}"
            )
        if not isinstance(sigma, str) and not 0 < sigma < math.inf:
            raise UserError(f"model.likelihood.sigma: {sigma} was found, a number above 0 is expected")
        if not isinstance(sigma, str) and not LEAST_SIGMA <= sigma <= 1 / LEAST_SIGMA:
            raise UserError(
                f"model.likelihood.sigma: {sigma} was found, whose square is 0 or infinite in float32; "
                f"{LEAST_SIGMA:g} to {1 / LEAST_SIGMA:g} is expected"
            )
        self.sigma = sigma
        if sigma == "learned":
            self.log_sigma = nn.Parameter(torch.zeros(()))
        elif sigma == "optimal":
            self.register_buffer("variance", torch.ones(()))
            self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def distribution(self, outputs: Tensor) -> Distribution:
        """See `Likelihood`."""
        if self.sigma == "learned":
            return distributions.Gaussian(outputs, torch.exp(2 * soften(wide(self.log_sigma), -10, 5)))
        if self.sigma != "optimal":
            return distributions.Gaussian(outputs, torch.full_like(outputs[0, 0, 0, 0], float(self.sigma) ** 2))
        if self.training:
            return distributions.OptimalGaussian(outputs, self.variance, self._track)
        return distributions.Gaussian(outputs, self.variance)

    @torch.no_grad()
    def _track(self, squared_error: Tensor) -> Tensor:
        variance = squared_error.clamp(min=1e-8)  # a perfect batch: its gradient stays finite
        self.batches += 1
        share = torch.clamp(1 / self.batches, min=0.01)
        self.variance.lerp_(variance.to(self.variance.dtype), share.to(self.variance.dtype))
        return variance


class DiscretizedLogistic(Likelihood):
    """8-bit images, each channel of each pixel a logistic rounded to 256 levels.

    The decoder gives the locations of all channels, then their log-scales; see `logistics.DiscretizedLogistic`.
    Log-scales are taken as they are within [-7, 7].
    """

    discrete = True
    parameters_per_channel = 2

    def distribution(self, outputs: Tensor) -> Distribution:
        """See `Likelihood`."""
        location, log_scale = outputs.chunk(2, 1)
        return logistics.DiscretizedLogistic(location, soften(log_scale, -7, 7))

    def check(self, x: Tensor) -> None:
        """See `Likelihood`."""
        super().check(x)
        self._check_levels(x)


class MixtureOfLogistics(Likelihood):
    """8-bit images, each pixel a mixture of k discretized logistics; see `logistics.MixtureOfLogistics`.

    The decoder gives k logits of the components, then k * C locations, then k * C log-scales.

    Args:
        k: components, at least 1; 10 in PixelCNN++.

    Raises:
        UserError: for a smaller k.
    """

    discrete = True

    def __init__(self, k: int = 10) -> None:
        super().__init__()
        if k < 1:
            raise UserError(f"model.likelihood.k: {k} was found, a whole number of at least 1 is expected")
        self.k = k

    def channels(self, image_channels: int) -> int:
        """See `Likelihood`."""
        return self.k * (1 + 2 * image_channels)

    def distribution(self, outputs: Tensor) -> Distribution:
        """See `Likelihood`."""
        location, log_scale = outputs[:, self.k :].unflatten(1, (2, self.k, -1)).unbind(1)  # (B, k, C, H, W)
        return logistics.MixtureOfLogistics(outputs[:, : self.k], location, soften(log_scale, -7, 7))

    def check(self, x: Tensor) -> None:
        """See `Likelihood`."""
        super().check(x)
        self._check_levels(x)
