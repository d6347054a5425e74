"""Numbers of pairs against independent implementations, at any world size, and their mistakes."""

import math
import os

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from support import kills, measuring, paired_ranks
from support.draws import normal
from support.image_to_image import Fixed, Small, build
from torch import nn

from lit_gen.callbacks.evaluators.paired import PairedMetrics
from lit_gen.core.errors import UserError
from lit_gen.core.images import quantize
from lit_gen.data.images.degradations import Downscale
from lit_gen.data.images.digits8 import Digits8
from lit_gen.data.images.masks import Box, Holes
from lit_gen.data.images.mnist import MNIST
from lit_gen.data.pairs.degraded import Degraded
from lit_gen.data.pairs.paired_images import PairedImages
from lit_gen.evaluation.extractors.lenet import load_lenet
from lit_gen.evaluation.pairs import as_levels
from lit_gen.evaluation.reference import chosen
from lit_gen.evaluation.result import table
from lit_gen.metrics.frechet import Gaussian, frechet_distance
from lit_gen.models.image_to_image.unet import UNet


@pytest.fixture(scope="module")
def enlarged(tmp_path_factory):
    """Outputs of an untrained network for digits of 7x7 pixels, and their record."""
    folder = tmp_path_factory.mktemp("enlarged")
    data, model = Degraded(MNIST(embedded=True), Downscale(4, "bicubic")), build(Small(factor=4))
    callback = PairedMetrics(["psnr", "psnr_crop4", "ssim", "fd", "accuracy"], "lenet-mnist", fd_count=500)
    values = measuring.measure(model, data, callback, folder)
    pairs = list(data.pairs("val"))
    made, sources = (torch.cat(x) for x in zip(*((model.translate(p.source), p.source) for p in pairs), strict=True))
    arrays = {"made": made, "target": torch.cat([p.target for p in pairs]), "source": sources}
    return values, {k: quantize(x)[:, 0].numpy() for k, x in arrays.items()}, data, callback, folder


def test_psnr_and_ssim_equal_scikit_images(enlarged):
    values, images, *_ = enlarged
    made, target = images["made"], images["target"]
    assert len(made) == 1000
    whole = np.mean([peak_signal_noise_ratio(t, m) for m, t in zip(made, target, strict=True)])
    inner = np.mean([peak_signal_noise_ratio(t[4:-4, 4:-4], m[4:-4, 4:-4]) for m, t in zip(made, target, strict=True)])
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    similar = np.mean([structural_similarity(t, m, **options) for m, t in zip(made, target, strict=True)])
    assert values["val/psnr"] == pytest.approx(whole, rel=1e-9)
    assert values["val/psnr_crop4"] == pytest.approx(inner, rel=1e-9)
    assert values["val/ssim"] == pytest.approx(similar, rel=1e-6)


def test_features_of_outputs_and_of_targets(enlarged):
    values, images, data, callback, _ = enlarged
    network, labels = load_lenet("lenet-mnist"), data.split("val").labels

    def of(array):
        return network(torch.from_numpy(array)[:, None])

    train = Gaussian.of(network(data.split("train").images).features)
    for array, found in ((images["made"], values), (images["target"], callback.latest.floors)):
        spread = chosen(torch.from_numpy(array), 500).numpy()
        distance = frechet_distance(Gaussian.of(of(spread).features), train)
        right = (of(array).logits.argmax(1) == labels).double().mean()
        assert found["val/fd500_lenet-mnist"] == pytest.approx(distance, rel=1e-4)
        assert found["val/accuracy_lenet-mnist"] == pytest.approx(float(right), abs=1.1e-3)  # of two equal logits


def test_the_baseline_is_what_pil_enlarges(enlarged):
    images, callback, folder = enlarged[1], enlarged[3], enlarged[4]
    bicubic = callback.latest.protocol["beside"]["bicubic"]
    size, method = (28, 28), Image.Resampling.BICUBIC
    each = [
        peak_signal_noise_ratio(t, np.asarray(Image.fromarray(s).resize(size, method)))
        for s, t in zip(images["source"], images["target"], strict=True)
    ]
    assert bicubic["psnr"] == pytest.approx(np.mean(each), abs=1e-2)  # PIL rounds and clamps between its two passes
    assert measuring.record(folder)["beside"]["bicubic"] == bicubic
    line = table(callback.latest).splitlines()[0]
    assert line.startswith("val/psnr ")
    assert f"bicubic {bicubic['psnr']:.5g}" in line


def test_16_bits_have_their_own_peak(tmp_path):
    levels = torch.arange(0, 65536, 257).view(1, 1, 16, 16)
    images = levels / 32767.5 - 1
    assert torch.equal(as_levels(images, 65536), levels.int())
    data, model = Fixed([(images, images)], levels=65536), build()
    found = measuring.measure(model, data, PairedMetrics(["psnr"]), tmp_path)
    made = ((model.translate(images) + 1) * 32767.5).round().clamp(0, 65535).numpy()
    expected = peak_signal_noise_ratio(levels.numpy().astype(np.float64), made.astype(np.float64), data_range=65535)
    assert found["val/psnr"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("channels", "size", "kind"), [(5, (31, 45), np.uint16), (3, (28, 28), np.uint8)])
def test_images_of_any_size_channels_and_bits(tmp_path, channels, size, kind):
    levels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (12, channels, *size), endpoint=True, dtype=kind)
    np.savez(tmp_path / "pairs.npz", source=levels[:, :2], target=levels)
    data = PairedImages(str(tmp_path / "pairs.npz"), val_size=3, batch_size=4)
    model = build(UNet(2, channels, width=4, depth=2))
    found = measuring.measure(model, data, PairedMetrics(["psnr", "ssim"]), tmp_path)
    (pair,) = data.pairs("val")
    peak = np.iinfo(kind).max
    made = ((model.translate(pair.source) + 1) * (peak / 2)).round().clamp(0, peak).numpy().astype(np.float64)
    each = [peak_signal_noise_ratio(t, m, data_range=peak) for m, t in zip(made, levels[-3:] * 1.0, strict=True)]
    assert found[f"val/psnr{'_rgb' * (channels == 3)}"] == pytest.approx(np.mean(each), rel=1e-9)
    assert (model.source_shape, model.levels) == ((2, *size), peak + 1)


def test_equal_pairs_and_those_without_holes_are_left_out(tmp_path, capsys):
    target = normal(4, 1, 16, 16).float().tanh()
    mask = torch.zeros(4, 1, 16, 16)
    mask[1:, :, 4:8, 4:8] = 1  # the first has none, so that its known pixels are the target
    data = Fixed([(target * (1 - mask), target)], mask)
    found = measuring.measure(build(Small(2)), data, PairedMetrics(["psnr", "psnr_holes"]), tmp_path)
    assert all(map(math.isfinite, found.values()))
    record = measuring.record(tmp_path)
    assert record["left_out"] == {"psnr": 1, "psnr_holes": 1}
    assert record["beside"]["identity"].keys() == {"psnr", "psnr_holes"}
    said = capsys.readouterr().err
    assert "psnr_holes is without 1 of 4 pairs" in said
    assert "psnr of the identity is without 1 of 4 pairs" in said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_numbers_and_records_are_the_same_at_any_world_size(tmp_path):
    found = kills.at_each_world_size(paired_ranks.rank, tmp_path)
    one = found[1]
    for kind in ("noise good", "holes good"):
        assert all(map(math.isfinite, one[kind]["values"].values())), kind
        assert one[kind]["protocol"]["pairs"] == 350
    assert all(map(math.isnan, one["noise bad"]["values"].values()))
    for world in (2, 3):
        assert str(found[world]) == str(one)  # NaN is not equal to itself


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PairedMetrics(["psnr_z"]), r"metrics: 'psnr_z' was found, one such as .*; did you mean 'psnr_y'"),
        (lambda: PairedMetrics(["ssim_holes"]), r"metrics: 'ssim_holes' was found"),
        (lambda: PairedMetrics(["psnr", "fd"]), r"metrics: fd needs an extractor"),
        (lambda: PairedMetrics([]), r"metrics: no metric was found"),
        (lambda: PairedMetrics(["psnr_y"]), r"metrics: images of 1 channel were found, luma is of RGB"),
        (lambda: PairedMetrics(["psnr_crop4"]), r"metrics: crop: 4 was found, which leaves nothing of 8x8"),
        (lambda: PairedMetrics(["ssim"]), r"metrics: SSIM: 8x8 pixels were found, its window has 11x11"),
        (lambda: PairedMetrics(["psnr_holes"]), r"psnr_holes was found, but the data have no holes"),
        (lambda: PairedMetrics(["fd"], "lenet-digits8"), r"fd_count: 1000 was found, but the val split has 350 pairs"),
        (lambda: PairedMetrics(["accuracy"], "lenet-mnist"), r"lenet-mnist"),
    ],
)
def test_mistakes(tmp_path, make, said):
    with pytest.raises(UserError, match=said):
        measuring.measure(build(Small(factor=2)), Degraded(Digits8(), Downscale(2)), make(), tmp_path)


def test_other_data_and_models(tmp_path):
    with pytest.raises(UserError, match=r"Digits8 has no pairs of images"):
        measuring.measure(build(), Digits8(), PairedMetrics(["psnr"]), tmp_path)
    images = torch.zeros(4, 1, 8, 8)
    callback = PairedMetrics(["accuracy"], nn.Flatten())
    with pytest.raises(UserError, match=r"accuracy was found, but the data set has no labels"):
        measuring.measure(build(), Fixed([(images, images)]), callback, tmp_path)


def test_names_without_a_fit():
    data = Degraded(MNIST(embedded=True), Holes(Box(0.5)))
    callback = PairedMetrics(["psnr", "psnr_holes", "fd", "accuracy"], "lenet-mnist", weights="raw")
    names = ["psnr_raw", "psnr_holes_raw", "fd1k_lenet-mnist_raw", "accuracy_lenet-mnist_raw"]
    assert callback.announced(data) == names
