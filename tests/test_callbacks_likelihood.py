"""ImportanceNLL and LatentDiagnostics on a model whose likelihood is known."""

import json
import math

import pytest
import torch
from lightning import Trainer
from linear_gaussian import SIDE, LinearGaussian, images
from PIL import Image

from lit_gen.callbacks.latents import LatentDiagnostics
from lit_gen.callbacks.likelihood import ImportanceNLL, importance_noise
from lit_gen.data.loaders import to_float
from lit_gen.data.toy import Toy2D
from lit_gen.errors import UserError
from lit_gen.metrics.latents import mutual_information
from lit_gen.randomness import latents


def trainer(folder, *callbacks, **options):
    return Trainer(
        accelerator="cpu", logger=False, callbacks=list(callbacks), default_root_dir=folder, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0, limit_val_batches=0, **options,
    )  # fmt: skip


def measure(model, data, callback, folder, split="val"):
    """One evaluation, by a fit of a single step or by ``test``."""
    if split == "test":
        trainer(folder, callback).test(model, datamodule=data, verbose=False)
    else:
        trainer(folder, callback, max_steps=1).fit(model, datamodule=data)
    return callback.latest.values


def held_out(data, split="val"):
    return to_float(data.split(split).images.clone()), data.split(split).labels


def record(folder, pattern="*.json"):
    (path,) = (folder / "eval").glob(pattern)
    return json.loads(path.read_text(encoding="utf-8"))["protocol"]


# ---- likelihood


@pytest.mark.parametrize(("samples", "chunk"), [(1, 10), (7, 3), (64, 64)])
def test_with_the_true_posterior_any_k_gives_the_likelihood_itself(tmp_path, samples, chunk):
    model, data = LinearGaussian(), images(tmp_path)
    found = measure(model, data, ImportanceNLL(samples, chunk=chunk), tmp_path)
    truth = -model.log_likelihood(held_out(data)[0])
    assert len(truth) == 130
    name = f"iw{samples}"
    assert set(found) == {f"val/{n}" for n in (f"nll_{name}", f"nll_{name}_se", f"bits_per_dim_{name}", f"ess_{name}")}
    assert found[f"val/nll_{name}"] == pytest.approx(float(truth.mean()), rel=1e-10)
    assert found[f"val/nll_{name}_se"] == pytest.approx(float(truth.std()) / math.sqrt(130), rel=1e-9)
    assert found[f"val/ess_{name}"] == pytest.approx(samples, rel=1e-9)
    assert found[f"val/bits_per_dim_{name}"] == found[f"val/nll_{name}"] / SIDE**2 + 100


def test_with_another_posterior_the_bound_falls_to_the_likelihood_as_k_grows(tmp_path):
    model, data = LinearGaussian(shift=0.1, scale=2.0), images(tmp_path)
    truth = -float(model.log_likelihood(held_out(data)[0]).mean())
    found = [measure(model, data, ImportanceNLL(k), tmp_path)[f"val/nll_iw{k}"] for k in (1, 5, 50, 1000)]
    assert found[0] > found[1] > found[2] > found[3]
    assert found[0] > truth + 0.3
    assert found[3] == pytest.approx(truth, abs=0.01)


def test_the_elbo_at_one_sample_is_short_by_the_divergence_of_the_posteriors(tmp_path):
    """E[L_1] = log p(x) - KL(q || true posterior), which does not depend on x in this model."""
    model, data = LinearGaussian(shift=0.1, scale=2.0), images(tmp_path, val=2000)
    found = measure(model, data, ImportanceNLL(1), tmp_path)["val/nll_iw1"]
    variance = 1 / (1 + model.w.square().sum(0) / model.sigma**2)
    gap = 0.5 * float((2 + 0.1**2 / variance - 1 - math.log(2)).sum())
    truth = -float(model.log_likelihood(held_out(data)[0]).mean())
    assert found == pytest.approx(truth + gap, abs=4 * math.sqrt(3 / 2000))  # 4 errors of a chi-square of 3


def test_equals_a_naive_loop_over_images_and_samples(tmp_path):
    model, data = LinearGaussian(shift=0.2, scale=1.5), images(tmp_path, val=70)
    found = measure(model, data, ImportanceNLL(25, chunk=10), tmp_path)
    x, _ = held_out(data)
    model.eval()
    bounds, sizes = [], []
    for i in range(70):
        noise = [latents(5, torch.tensor([i]), 3, f"importance {s}") for s in range(25)]
        each = [float(model.log_weights(x[i : i + 1], n[:, None])) for n in noise]
        weights = [math.exp(w) for w in each]
        bounds.append(math.log(sum(weights) / 25))
        sizes.append(sum(weights) ** 2 / sum(w * w for w in weights))
    assert found["val/nll_iw25"] == pytest.approx(-sum(bounds) / 70, rel=1e-10)
    assert found["val/ess_iw25"] == pytest.approx(sum(sizes) / 70, rel=1e-8)
    assert record(tmp_path)["least_effective_samples"] == pytest.approx(min(sizes), rel=1e-8)
    assert 1 < min(sizes) < sum(sizes) / 70 < 25


def test_every_forward_pass_has_the_same_shape_and_another_chunk_the_same_noise(tmp_path):
    model, data = LinearGaussian(shift=0.2, scale=1.5), images(tmp_path)
    found = [measure(model, data, ImportanceNLL(25, chunk=chunk), tmp_path) for chunk in (10, 25, 1)]
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-10)
    measure(model, data, ImportanceNLL(4, chunk=10), tmp_path)  # fewer samples than a chunk: none too many is drawn
    shapes = {(64, 1, SIDE, SIDE, 64, chunk, 3) for chunk in (10, 25, 1, 4)}
    assert set(model.shapes) == shapes


def test_noise_is_keyed_by_image_and_sample():
    noise = importance_noise(5, torch.arange(64, 128), 3, 0, 6)
    assert noise.shape == (64, 6, 3)
    assert len(noise.unique()) == 64 * 6 * 3
    assert torch.equal(importance_noise(5, torch.tensor([70, 127]), 3, 2, 4), noise[[6, 63], 2:])
    assert not torch.equal(importance_noise(6, torch.arange(64, 128), 3, 0, 6), noise)


def test_a_part_of_the_split_is_said_in_the_names(tmp_path):
    model, data = LinearGaussian(shift=0.2), images(tmp_path)
    found = measure(model, data, ImportanceNLL(5, count=70), tmp_path)
    part, whole = LinearGaussian(shift=0.2), images(tmp_path)
    assert set(found) == {
        "val/nll_iw5_count70", "val/nll_iw5_count70_se", "val/bits_per_dim_iw5_count70", "val/ess_iw5_count70",
    }  # fmt: skip
    assert record(tmp_path, "step=00000001-val-nll-iw5-count70.json")["count"] == 70
    truth = measure(part, whole, ImportanceNLL(1, count=70), tmp_path)  # one sample: same noise, another number
    assert truth["val/nll_iw1_count70"] != found["val/nll_iw5_count70"]
    assert "val/nll_iw5" in measure(part, whole, ImportanceNLL(5, count=130), tmp_path)


def test_thousands_are_short(tmp_path):
    found = measure(LinearGaussian(), images(tmp_path, val=1100), ImportanceNLL(1, count=1000), tmp_path)
    assert "val/nll_iw1_count1k" in found


def test_a_conditional_model_gets_the_labels(tmp_path):
    model, data = LinearGaussian(num_classes=2), images(tmp_path, labels=True)
    found = measure(model, data, ImportanceNLL(3), tmp_path)
    x, labels = held_out(data)
    assert set(labels.tolist()) == {0, 1}
    assert found["val/nll_iw3"] == pytest.approx(-float(model.log_likelihood(x, labels).mean()), rel=1e-10)
    assert record(tmp_path)["labels"] is True


def test_an_unconditional_model_gets_no_labels_and_the_test_split_is_the_test_split(tmp_path):
    model, data = LinearGaussian(), images(tmp_path, val=10, test=66, labels=True)
    found = measure(model, data, ImportanceNLL(2, count=66), tmp_path, "test")  # more than val has
    truth = -float(model.log_likelihood(held_out(data, "test")[0]).mean())
    assert found["test/nll_iw2"] == pytest.approx(truth, rel=1e-10)


def test_the_record_says_how_the_likelihood_came_about(tmp_path, monkeypatch):
    data = images(tmp_path)
    monkeypatch.setattr(type(data), "protocol", {"binarize": "static-seed3", "sha256": "ab"})
    measure(LinearGaussian(), data, ImportanceNLL(12), tmp_path)
    found = record(tmp_path, "step=00000001-val-nll-iw12.json")
    assert found["metrics"]["nll"] == {"k": 12, "chunk": 10, "estimator": "logsumexp(log w) - log k"}
    assert (found["count"], found["seed"], found["latent_dim"], found["block"]) == (130, 5, 3, 64)
    assert found["reference"] == {
        "name": "TensorSet", "split": "val", "images": 130, "binarize": "static-seed3", "sha256": "ab",
    }  # fmt: skip
    assert "torch" in found["versions"]


def test_points_have_no_bits_per_dimension(tmp_path):
    class Points(LinearGaussian):
        def log_weights(self, images, noise, labels=None):
            return noise.sum(2)

    found = measure(Points(), Toy2D(size=400, batch_size=4), ImportanceNLL(1), tmp_path)
    assert not [name for name in found if "bits" in name]


def test_weights_that_are_not_finite_stop_the_run(tmp_path):
    model, data = LinearGaussian(), images(tmp_path)
    model.bad = 1  # in each block
    with pytest.raises(UserError, match="ImportanceNLL: the importance weights of 3 of 130 images are NaN"):
        measure(model, data, ImportanceNLL(2), tmp_path)


def test_a_posterior_without_a_density_is_refused_before_the_first_step(tmp_path):
    model, data = LinearGaussian(), images(tmp_path)
    model.bad = "no density"
    model.training_step = lambda batch: pytest.fail("it trained")
    with pytest.raises(UserError, match="no density"):
        measure(model, data, ImportanceNLL(), tmp_path)


# ---- latents


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


# ---- both


def test_both_run_on_schedule_side_by_side_and_leave_modes_alone(tmp_path):
    model, data = LinearGaussian(), images(tmp_path)
    callbacks = [ImportanceNLL(2, every=2), ImportanceNLL(3, at_end=False), LatentDiagnostics(every=2)]
    trainer(tmp_path, *callbacks, max_steps=3).fit(model, datamodule=data)
    assert model.training
    names = sorted(p.stem for p in (tmp_path / "eval").glob("*.json"))
    assert names == [f"step=0000000{s}-val-{n}" for s in (2, 3) for n in ("latents", "nll-iw2")]


@pytest.mark.parametrize("callback", [ImportanceNLL, LatentDiagnostics])
def test_models_and_data_that_do_not_fit_are_refused(tmp_path, callback):
    from test_gan_module import build as gan
    from test_gan_module import fit as fit_gan

    name = callback.__name__
    with pytest.raises(UserError, match=f"{name}: GAN was found, a model that encodes images is expected"):
        fit_gan(gan(), 1, tmp_path, [callback()])
    with pytest.raises(UserError, match=f"{name}: the data set has no val split; --trainer.callbacks.{name} false"):
        measure(LinearGaussian(), images(tmp_path, val=0), callback(), tmp_path)
    with pytest.raises(UserError, match=f"{name}.count: 131 was found, but the val split has 130 images"):
        measure(LinearGaussian(), images(tmp_path), callback(count=131), tmp_path)
    with pytest.raises(UserError, match=f"{name}: the model is conditional, but TensorSet has no labels"):
        measure(LinearGaussian(num_classes=2), images(tmp_path), callback(), tmp_path)
    with pytest.raises(UserError, match=f"{name}: no data module was found, a data module of images is expected"):
        trainer(tmp_path, callback(), max_steps=1).fit(LinearGaussian(), *2 * [torch.zeros(4, 1)])


@pytest.mark.parametrize(
    ("callback", "options"),
    [
        (ImportanceNLL, {"samples": 0}),
        (ImportanceNLL, {"chunk": 0}),
        (ImportanceNLL, {"count": 1}),
        (ImportanceNLL, {"every": -1}),
        (LatentDiagnostics, {"count": 0}),
        (LatentDiagnostics, {"threshold": 0.0}),
        (LatentDiagnostics, {"threshold": math.nan}),
    ],
)
def test_options_out_of_range_are_refused(callback, options):
    (option,) = options
    with pytest.raises(UserError, match=f"trainer.callbacks.{callback.__name__}.{option}: .* was found"):
        callback(**options)
