"""LatentDiagnostics on a model whose posteriors are known."""

import math

import pytest
import torch
from PIL import Image
from support.linear_gaussian import LinearGaussian, images
from support.measuring import held_out, measure, record

from lit_gen.callbacks.evaluators.latents import LatentDiagnostics
from lit_gen.core.errors import UserError
from lit_gen.core.randomness import latents
from lit_gen.metrics.latents import mutual_information


def expected_posteriors(model, data):
    x, labels = held_out(data)
    mean, variance = model.posterior(x, labels if model.num_classes else None)
    return mean, variance, 0.5 * (variance + mean**2 - 1 - variance.log())


def test_diagnostics_are_those_of_all_posteriors_in_order(tmp_path):
    model, data = LinearGaussian(), images(tmp_path)
    found = measure(model, data, LatentDiagnostics(), tmp_path)
    mean, variance, kl = expected_posteriors(model, data)
    z = mean + variance.sqrt() * latents(5, torch.arange(130), 3, "posterior")
    assert set(found) == {"val/active_units", "val/mutual_information", "val/kl_sum", "val/kl_max"}
    assert found["val/active_units"] == int((mean.var(0) > 0.01).sum())
    assert found["val/mutual_information"] == pytest.approx(mutual_information(z, mean, variance.log()), abs=1e-5)
    assert found["val/kl_sum"] == pytest.approx(float(kl.mean(0).sum()), rel=1e-6)
    assert found["val/kl_max"] == pytest.approx(float(kl.mean(0).max()), rel=1e-6)
    content = record(tmp_path, "step=00000001-val-latents.json")
    assert content["dimensions"]["kl"] == pytest.approx(kl.mean(0).tolist(), rel=1e-6)
    assert content["dimensions"]["variance_of_mean"] == pytest.approx(mean.var(0).tolist(), rel=1e-5)
    assert content["metrics"]["mutual_information"]["at_most"] == math.log(130)
    assert content["metrics"]["active_units"]["threshold"] == 0.01
    with Image.open(tmp_path / "eval" / "step=00000001-val-latents.png") as picture:
        assert picture.size == (600, 300)


def test_a_unit_that_the_decoder_ignores_is_not_active(tmp_path):
    model, data = LinearGaussian(gains=(1.5, 0.0, 0.3)), images(tmp_path)
    found = measure(model, data, LatentDiagnostics(), tmp_path)
    assert found["val/active_units"] == 2
    assert record(tmp_path)["dimensions"]["kl"][1] == pytest.approx(0, abs=1e-7)


def test_another_threshold_and_a_part_of_the_split_are_said_in_the_names(tmp_path):
    model, data = LinearGaussian(), images(tmp_path)
    found = measure(model, data, LatentDiagnostics(threshold=0.5, count=70), tmp_path)
    mean, _, kl = expected_posteriors(model, data)
    assert set(found) == {
        "val/active_units_threshold0.5_count70", "val/mutual_information_count70", "val/kl_sum_count70",
        "val/kl_max_count70",
    }  # fmt: skip
    assert found["val/active_units_threshold0.5_count70"] == int((mean[:70].var(0) > 0.5).sum())
    assert found["val/kl_sum_count70"] == pytest.approx(float(kl[:70].mean(0).sum()), rel=1e-6)
    assert record(tmp_path, "step=00000001-val-latents-threshold0.5-count70.json")["count"] == 70


@pytest.mark.parametrize(
    ("info", "names"),
    [
        (("mean",), {"active_units"}),
        (("kl",), {"kl_sum", "kl_max"}),
        (("mean", "log_variance"), {"active_units", "mutual_information"}),
    ],
)
def test_what_a_posterior_does_not_know_is_left_out(tmp_path, info, names):
    found = measure(LinearGaussian(info=info), images(tmp_path), LatentDiagnostics(), tmp_path)
    assert set(found) == {f"val/{name}" for name in names}


def test_a_posterior_that_knows_nothing_is_refused_before_the_first_step(tmp_path):
    model = LinearGaussian(info=())
    model.training_step = lambda batch: pytest.fail("it trained")
    with pytest.raises(UserError, match="LatentDiagnostics: the model's posterior knows none of kl, mean, log_var"):
        measure(model, images(tmp_path), LatentDiagnostics(), tmp_path)


def test_a_conditional_posterior_gets_the_labels(tmp_path):
    model, data = LinearGaussian(num_classes=2), images(tmp_path, labels=True)
    found = measure(model, data, LatentDiagnostics(), tmp_path)
    assert found["val/kl_sum"] == pytest.approx(float(expected_posteriors(model, data)[2].mean(0).sum()), rel=1e-6)
