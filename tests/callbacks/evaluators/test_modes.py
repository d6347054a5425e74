"""The callback Modes on mixtures and on stacked digits."""

import json

import pytest
import torch
from support.gan import build, fit

from lit_gen.callbacks.evaluators.modes import Modes
from lit_gen.core.errors import UserError
from lit_gen.core.images import quantize
from lit_gen.data.images.mnist import MNIST
from lit_gen.data.images.stacked_mnist import StackedMNIST
from lit_gen.data.images.toy import Toy2D
from lit_gen.evaluation.extractors.load import load_extractor
from lit_gen.metrics.modes import class_coverage, mixture_coverage, stacked_classes


def test_modes_of_a_mixture(tmp_path):
    callback = Modes(count=300, every=2)
    model, data = build(), Toy2D(size=4000, batch_size=16)
    fit(model, 3, tmp_path, [callback], data=data)
    points = model.sample(torch.arange(300))
    modes, good, kl = mixture_coverage(points, data.centres, data.sigma)
    assert callback.latest.values == {"val/modes300": modes, "val/high_quality300": good, "val/reverse_kl300": kl}
    assert callback.latest.floors["val/modes300"] == 8
    assert callback.latest.floors["val/high_quality300"] > 0.9
    assert [p.name for p in sorted((tmp_path / "eval").iterdir())] == [
        "step=00000002-val-modes-300.json", "step=00000003-val-modes-300.json",
    ]  # fmt: skip


def test_raw_weights_have_their_name(tmp_path):
    callback = Modes(count=128, weights="raw")
    model, data = build(), Toy2D(size=4000, batch_size=16)
    fit(model, 3, tmp_path, [callback], data=data)
    points = model.sample(torch.arange(128), weights="raw")
    assert callback.latest.values["val/reverse_kl128_raw"] == mixture_coverage(points, data.centres, data.sigma)[2]
    assert (tmp_path / "eval/step=00000003-val-modes-128-raw.json").is_file()


def test_modes_of_stacked_digits(tmp_path):
    callback = Modes(count=70)
    model, data = build(shape=(3, 28, 28)), StackedMNIST(embedded=True, size=700, batch_size=8)
    fit(model, 1, tmp_path, [callback], data=data)
    lenet = load_extractor("lenet-mnist")
    modes, kl = class_coverage(stacked_classes(quantize(model.sample(torch.arange(70))), lenet), 1000)
    assert callback.latest.values == {"val/modes70_lenet-mnist": modes, "val/kl70_lenet-mnist": kl}
    assert callback.latest.floors["val/modes70_lenet-mnist"] > 55, "real digits hit nearly as many modes as there are"
    record = json.loads((tmp_path / "eval/step=00000001-val-modes-70.json").read_text(encoding="utf-8"))
    assert record["protocol"]["reference"]["name"] == "stacked-mnist-5k"
    assert record["protocol"]["classifier"]["weights_sha256"] == lenet.weights
    assert record["protocol"]["classifier"]["accuracy"] == 0.9874
    assert (tmp_path / "eval/step=00000001-val-modes-70.png").is_file()


def test_stacked_images_that_are_not_finite_are_named(tmp_path):
    model, data = build(shape=(3, 28, 28)), StackedMNIST(embedded=True, size=700, batch_size=8)
    model.ema_generator.register_forward_hook(lambda module, arguments, images: images * torch.nan)
    with pytest.raises(UserError, match="Modes: 70 of 70 generated images are NaN or infinite"):
        fit(model, 1, tmp_path, [Modes(count=70)], data=data)


def test_data_without_modes_is_refused(tmp_path):
    with pytest.raises(UserError, match="Modes: MNIST has no modes to count; Toy2D or StackedMNIST is expected"):
        fit(build(shape=(1, 28, 28)), 1, tmp_path, [Modes()], data=MNIST(embedded=True, batch_size=8))
