"""Degradations against PIL, scikit-image and their moments; each row by its index only."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.transform import downscale_local_mean
from support.draws import normal

from lit_gen.core.errors import UserError
from lit_gen.core.images import quantize, to_float
from lit_gen.data.images.degradations import JPEG, Downscale, GaussianNoise, PoissonNoise, Rows

NONE = Rows(0, "val", torch.arange(3))
ALL = [Downscale(2), Downscale(4, "bicubic"), GaussianNoise(25), GaussianNoise(5, 50), PoissonNoise(20), JPEG(20, 60)]


def images(count=3, channels=1, size=(12, 20)):
    return to_float(quantize((normal(count, channels, *size) * 0.4).float()))


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("factor", [2, 4])
def test_area_is_the_local_mean(channels, factor):
    found = Downscale(factor, quantized=False)(images(channels=channels), NONE).images
    wanted = downscale_local_mean(images(channels=channels).double().numpy(), (1, 1, factor, factor))
    assert found.numpy() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(("method", "pil"), [("bicubic", Image.Resampling.BICUBIC), ("nearest", 0), ("area", 4)])
@pytest.mark.parametrize("factor", [2, 4])
def test_smaller_images_are_those_of_pil(method, pil, factor):
    x = images()
    found = Downscale(factor, method, quantized=False)(x, NONE).images
    wanted = [np.asarray(Image.fromarray(i[0].numpy()).resize((20 // factor, 12 // factor), pil)) for i in x]
    assert found[:, 0].numpy() == pytest.approx(np.stack(wanted), abs=2e-6)


def test_a_smaller_image_has_256_levels():
    x = images()
    assert torch.equal(Downscale(2)(x, NONE).images, to_float(quantize(Downscale(2, quantized=False)(x, NONE).images)))
    assert not torch.equal(Downscale(2)(x, NONE).images, Downscale(2, quantized=False)(x, NONE).images)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_that_of_pil(channels):
    x = images(channels=channels)
    for image, found in zip(quantize(x), quantize(JPEG(15)(x, NONE).images), strict=True):
        array = image.permute(1, 2, 0).numpy()
        Image.fromarray(array.squeeze()).save(file := io.BytesIO(), "JPEG", quality=15)
        wanted = np.array(Image.open(file)).reshape(array.shape)
        assert np.array_equal(found.permute(1, 2, 0).numpy(), wanted)
        assert not np.array_equal(wanted, array)


@pytest.mark.parametrize("sigma", [10, 50])
def test_gaussian_noise_has_its_deviation(sigma):
    x = images(64)
    noise = GaussianNoise(sigma)(x, Rows(0, "val", torch.arange(64))).images - x
    n = noise.numel()
    assert noise.mean().item() == pytest.approx(0, abs=4 * sigma * 2 / 255 / n**0.5)
    assert noise.std().item() == pytest.approx(sigma * 2 / 255, rel=4 / (2 * n) ** 0.5)


def test_a_range_of_sigma_is_uniform_over_images():
    x = torch.zeros(400, 1, 16, 16)
    found = GaussianNoise(10, 50)(x, Rows(0, "val", torch.arange(400))).images.flatten(1).std(1) * 255 / 2
    assert found.min() > 8
    assert found.max() < 56
    assert found.mean().item() == pytest.approx(30, abs=4 * 40 / 12**0.5 / 400**0.5)


def test_photons_have_the_variance_of_their_mean():
    x = torch.tensor([-1.0, -0.5, 0.0, 1.0]).view(4, 1, 1, 1).expand(4, 1, 80, 80)
    found = PoissonNoise(30)(x, Rows(0, "val", torch.arange(4))).images.flatten(1)
    counts = (found + 1) * 15
    assert torch.equal(counts.round(), counts.round().clamp(min=0))
    assert counts.numpy() == pytest.approx(counts.round().numpy(), abs=1e-4)
    rates = torch.tensor([0.0, 7.5, 15.0, 30.0])
    assert counts.mean(1).numpy() == pytest.approx(rates.numpy(), abs=4 * (30 / 6400) ** 0.5)
    assert counts.var(1).numpy() == pytest.approx(rates.numpy(), abs=4 * 30 * (2 / 6400) ** 0.5 + 0.1)


@pytest.mark.parametrize("degradation", ALL, ids=lambda d: d.name.replace(" ", "-").replace("/", "by"))
def test_a_row_is_degraded_by_its_index_only(degradation):
    x, indices = images(6), torch.tensor([3, 70, 1, 9, 64, 5])
    whole = degradation(x, Rows(7, "train", indices, step=2)).images
    few = torch.tensor([4, 0, 1])
    assert torch.equal(degradation(x[few], Rows(7, "train", indices[few], step=2)).images, whole[few])
    drawn = not isinstance(degradation, Downscale)
    for other in (Rows(8, "train", indices, 2), Rows(7, "val", indices, 2), Rows(7, "train", indices, 3)):
        assert torch.equal(degradation(x, other).images, whole) is not drawn


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: Downscale(1), r"degradation\.factor: 1 was found, a whole number of at least 2"),
        (lambda: Downscale(2, "bicubik"), r"degradation\.method: .bicubik. was found, .*did you mean .bicubic"),
        (lambda: Downscale(8)(images(), NONE), "8 was found, which does not divide 12x20 pixels"),
        (lambda: GaussianNoise(-1), r"degradation\.sigma: -1"),
        (lambda: GaussianNoise(float("nan")), r"degradation\.sigma: nan"),
        (lambda: GaussianNoise(25, 10), r"degradation\.sigma_max: 10 was found, .* from sigma \(25\) to 255"),
        (lambda: PoissonNoise(0), r"degradation\.photons: 0"),
        (lambda: JPEG(0), r"degradation\.quality: 0"),
        (lambda: JPEG(30, 20), r"degradation\.quality_max: 20"),
        (lambda: JPEG()(images(channels=5), NONE), "JPEG takes 1 or 3 channels, 5 were found"),
    ],
)
def test_what_does_not_fit_is_refused(call, told):
    with pytest.raises(UserError, match=told):
        call()
