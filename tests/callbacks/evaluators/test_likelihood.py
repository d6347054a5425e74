"""ImportanceNLL on a model whose likelihood is known, and what it shares with LatentDiagnostics."""

import math

import pytest
import torch
from support.linear_gaussian import SIDE, LinearGaussian, images
from support.measuring import held_out, measure, record, trainer

from lit_gen.callbacks.evaluators.latents import LatentDiagnostics
from lit_gen.callbacks.evaluators.likelihood import ImportanceNLL, importance_noise
from lit_gen.core.errors import UserError
from lit_gen.core.randomness import latents
from lit_gen.data.images.toy import Toy2D

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
        def log_weights(self, images, noise, labels=None, weights="ema"):
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
    from support.gan import build as gan
    from support.gan import fit as fit_gan

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
