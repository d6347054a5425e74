"""What makes the input of a restoration from an image: smaller, noisy, compressed.

Each is a function of the image and of ``(seed, purpose, step, index)``, on the device of the image: image *i* is
degraded in the same way at any batch size and world size, and in a resumed run. `lit_gen.data.images.masks` has holes,
`lit_gen.data.images.edges` contours.
"""

import io
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from lit_gen.core import randomness
from lit_gen.core.errors import UserError
from lit_gen.core.images import quantize, to_float
from lit_gen.core.options import at_least, expect, one_of

Method = Literal["area", "bicubic", "nearest"]


class Rows(NamedTuple):
    """Draws for images by their index."""

    seed: int
    purpose: str
    """What they are for, such as the split."""
    indices: Tensor
    """int64 (B,), each row's index within its split."""
    step: int = 0
    """The epoch, where each epoch has draws of its own."""

    def draw(self, where: torch.device, draw: Callable[[torch.Generator, int], Tensor]) -> Tensor:
        """Stack what is drawn for each row.

        Args:
            where: device of the generators.
            draw: from a row's generator and its place in the batch to a tensor, of equal shapes.
        """
        generator = randomness.on(where)
        rows = []
        for place, index in enumerate(self.indices.tolist()):
            generator.manual_seed(randomness.key(self.seed, self.purpose, self.step, index) >> 1)
            rows.append(draw(generator, place))
        return torch.stack(rows)


class Observed(NamedTuple):
    """What is left of images."""

    images: Tensor
    """float (B, C, h, w)."""
    mask: Tensor | None = None
    """float (B, 1, h, w), 1 where nothing is left; None where there are no holes."""


class Degradation:
    """Base of what makes from images that from which a network restores them."""

    factor: int = 1
    """How many times smaller than the image its result is."""
    name: str
    """What records call it."""

    def __call__(self, images: Tensor, rows: Rows) -> Observed:
        """Degrade images (B, C, H, W) in [-1, 1], H and W multiples of ``factor``."""
        raise NotImplementedError


class Downscale(Degradation):
    """A smaller image.

    Args:
        factor: how many times smaller.
        method: ``area``: the mean of factor x factor pixels; ``bicubic``: Keys' kernel with a = -1/2, widened by the
            factor, as PIL's and MATLAB's ``imresize``; ``nearest``: the pixel right below the centre, as PIL's.
        quantized: round to 256 levels, as a file does.
    """

    def __init__(self, factor: int = 2, method: Method = "area", quantized: bool = True) -> None:
        at_least(2, "data.degradation.", factor=factor)
        one_of(get_args(Method), "data.degradation.", method=method)
        self.factor, self.method, self.quantized = factor, method, quantized
        self.name = f"{method} / {factor}"

    def __call__(self, images: Tensor, rows: Rows) -> Observed:
        """See `Degradation`.

        Raises:
            UserError: for a size that is not a multiple of the factor.
        """
        height, width = images.shape[2:]
        if height % self.factor or width % self.factor:
            raise UserError(
                f"data.degradation.factor: {self.factor} was found, which does not divide {height}x{width} pixels"
            )
        size = (height // self.factor, width // self.factor)
        if self.method == "area":
            small = F.avg_pool2d(images, self.factor)
        elif self.method == "bicubic":
            small = F.interpolate(images, size, mode="bicubic", antialias=True)
        else:
            small = F.interpolate(images, size, mode="nearest-exact")
        return Observed(to_float(quantize(small)) if self.quantized else small)


class GaussianNoise(Degradation):
    """Each value plus sigma times a standard normal number.

    Args:
        sigma: standard deviation, in steps of 1/255 of the range.
        sigma_max: null, or each image has its own sigma, uniform from ``sigma`` to this.
        quantized: round and clamp to 256 levels, as a file does; else neither.
    """

    def __init__(self, sigma: float = 25, sigma_max: float | None = None, quantized: bool = False) -> None:
        _check_range("sigma", sigma, sigma_max, 0, 255)
        self.sigma, self.sigma_max, self.quantized = sigma, sigma_max, quantized
        self.name = f"Gaussian noise {sigma:g}" + ("" if sigma_max is None else f" to {sigma_max:g}")
        self.name += ", of 256 levels" * quantized

    def __call__(self, images: Tensor, rows: Rows) -> Observed:
        """See `Degradation`."""

        def noise(generator: torch.Generator, place: int) -> Tensor:
            normal = torch.randn(images.shape[1:], generator=generator, device=images.device)
            if self.sigma_max is None:
                return self.sigma * normal
            share = torch.rand((), generator=generator, device=images.device)
            return (self.sigma + share * (self.sigma_max - self.sigma)) * normal

        noisy = images + rows.draw(images.device, noise) * (2 / 255)
        return Observed(to_float(quantize(noisy)) if self.quantized else noisy)


class PoissonNoise(Degradation):
    """The noise of counted photons: y = Poisson(photons x) / photons for x in [0, 1].

    Args:
        photons: expected count of a white pixel.
        quantized: round and clamp to 256 levels, as a file does; else neither.
    """

    def __init__(self, photons: float = 30, quantized: bool = False) -> None:
        expect(0 < photons <= 1e6, "data.degradation.photons", photons, "a number above 0 and up to 1e6")
        self.photons, self.quantized = photons, quantized
        self.name = f"Poisson noise {photons:g}" + ", of 256 levels" * quantized

    def __call__(self, images: Tensor, rows: Rows) -> Observed:
        """See `Degradation`."""
        rates = (images.clamp(-1, 1) + 1) * (self.photons / 2)
        counts = rows.draw(images.device, lambda generator, place: torch.poisson(rates[place], generator=generator))
        noisy = counts * (2 / self.photons) - 1
        return Observed(to_float(quantize(noisy)) if self.quantized else noisy)


class JPEG(Degradation):
    """What a JPEG file keeps, as PIL writes it, on the host.

    Args:
        quality: 1 to 95.
        quality_max: null, or each image has its own quality, uniform from ``quality`` to this.
    """

    def __init__(self, quality: int = 30, quality_max: int | None = None) -> None:
        _check_range("quality", quality, quality_max, 1, 95)
        self.quality, self.quality_max = quality, quality_max
        self.name = f"JPEG {quality}" + ("" if quality_max is None else f" to {quality_max}")

    def __call__(self, images: Tensor, rows: Rows) -> Observed:
        """See `Degradation`.

        Raises:
            UserError: for images that are neither grey nor RGB.
        """
        if images.shape[1] not in (1, 3):
            raise UserError(f"data.degradation: JPEG takes 1 or 3 channels, {images.shape[1]} were found")
        levels = quantize(images).cpu()
        host = torch.device("cpu")
        most = self.quality if self.quality_max is None else self.quality_max
        qualities = rows.draw(host, lambda g, place: torch.randint(self.quality, most + 1, (), generator=g)).tolist()
        kept = torch.stack([_through_jpeg(image, quality) for image, quality in zip(levels, qualities, strict=True)])
        return Observed(to_float(kept).to(images.device))


def _check_range(name: str, least: float, most: float | None, low: int, high: int) -> None:
    """Refuse an option, and its ``_max``, out of range."""
    expect(low <= least <= high, f"data.degradation.{name}", least, f"a number from {low} to {high}")
    fits = most is None or least <= most <= high
    expect(fits, f"data.degradation.{name}_max", most, f"null or a number from {name} ({least:g}) to {high}")


def _through_jpeg(image: Tensor, quality: int) -> Tensor:
    """uint8 (C, H, W) and back."""
    array = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    file = io.BytesIO()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(file, "JPEG", quality=quality)
    with Image.open(file, formats=["JPEG"]) as opened:
        back = torch.from_numpy(np.array(opened))
    return back[None] if back.ndim == 2 else back.permute(2, 0, 1)
