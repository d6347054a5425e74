"""FID of a mixture of latents and of reconstructions: which images they are, what they are called, what is refused."""

import json

import pytest
import torch
from support.drawing_ranks import CPU
from support.extractors import Mean
from support.latent_model import Linear, Plain, digits, fit

from lit_gen.callbacks.evaluators.base import tables
from lit_gen.callbacks.evaluators.fid import FID
from lit_gen.callbacks.evaluators.latent_fid import MixtureFID, ReconstructionFID
from lit_gen.core import randomness
from lit_gen.core.errors import UserError
from lit_gen.core.images import quantize, to_float
from lit_gen.evaluation.extractors.load import load_extractor
from lit_gen.evaluation.features import extract
from lit_gen.evaluation.latent_sources import Encoded, Mixture, Reconstructions, chosen_rows
from lit_gen.evaluation.reference import chosen
from lit_gen.metrics.frechet import frechet_distance


def distance(images, real):
    extractor = load_extractor(Mean())
    return frechet_distance(extract(extractor, images).gaussian, extract(extractor, real).gaussian)


def record(folder, name):
    (path,) = (folder / "eval").glob(f"*-val-{name}.json")
    return json.loads(path.read_text(encoding="utf-8"))


# ---- in one run


def test_three_distances_stand_in_one_run_and_one_table(tmp_path):
    options = {"extractor": Mean(), "count": 300}
    callbacks = [FID(**options), MixtureFID(3, 1000, **options), ReconstructionFID(**options)]
    model = Linear()
    state = torch.get_rng_state()
    fit(model, tmp_path, callbacks)
    suffixes = ("", "_gmm3", "_reconstructions")
    names = [f"val/fd300_Mean{s}" for s in suffixes]
    assert [list(c.latest.values) for c in callbacks] == [[n] for n in names]
    lines = tables(callbacks).splitlines()
    assert [line.split()[0] for line in lines] == names
    assert all("real images" in line for line in lines), "each beside its floor"
    of_samples, of_mixture, of_reconstructions = (list(c.latest.floors.values()) for c in callbacks)
    assert of_samples == of_mixture
    first = callbacks[0].latest.protocol["floor"]["draws"]["fd300_Mean"][0]
    assert of_reconstructions == [first], "of the images that are reconstructed"
    assert {p.name for p in (tmp_path / "eval").glob("*.json")} == {
        f"step=00000004-val-Mean-300{s.replace('_', '-')}.json" for s in suffixes
    }
    assert len(list((tmp_path / "eval").glob("*.png"))) == 3
    mixture, copies = (record(tmp_path, f"Mean-300-{n}")["protocol"] for n in ("gmm3", "reconstructions"))
    assert mixture["mixture"]["components"] == 3
    assert mixture["mixture"]["images"] == 1000
    assert mixture["mixture"]["converged"] is True
    assert copies["reconstructions"] == {"split": "val", "z": "a sample of q(z|x)", "images": 300}
    for protocol in (mixture, copies):
        assert (protocol["seed"], protocol["weights"]) == (3, "raw (the run keeps no average)")
    assert not torch.equal(torch.get_rng_state(), state), "training itself draws"
    assert model.training


def test_training_goes_on_as_if_nothing_had_been_measured(tmp_path):
    states = []
    for name, callbacks in (
        ("a", []),
        ("b", [MixtureFID(2, 128, extractor=Mean(), count=64, every=2), ReconstructionFID(extractor=Mean(), count=64)]),
    ):
        torch.manual_seed(1)
        fit(Linear(), tmp_path / name, callbacks)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


# ---- reconstructions


@pytest.mark.parametrize("reference", ["train", "val"])
def test_reconstructions_are_of_the_chosen_held_out_images(tmp_path, reference):
    callback, model = ReconstructionFID(extractor=Mean(), count=100, reference=reference), Linear()
    fit(model, tmp_path, [callback])
    model.eval()
    val, rows = digits().split("val"), chosen(torch.arange(1000), 100)
    assert len(val.labels[rows].unique()) == 10
    noise = randomness.latents(3, rows, 4, "reconstructions")
    with torch.no_grad():
        z = model.encode(to_float(val.images[rows]), noise).z
        expected = distance(quantize(model.decode(z).mean), digits().split(reference).images)
    assert callback.latest.values["val/fd100_Mean_reconstructions"] == pytest.approx(expected, rel=1e-9)
    if reference == "train":
        floor = distance(val.images[rows], digits().split("train").images)
        assert callback.latest.floors["val/fd100_Mean_reconstructions"] == floor, "of the same images"


def test_a_perfect_model_has_the_floor(tmp_path):
    class Perfect(Linear):
        latent_dim = 784

        def encode(self, images, noise, labels=None, weights="ema"):
            code = super().encode(images, noise[:, :4], labels)
            return code._replace(z=images.flatten(1))

        def decode(self, z, labels=None, weights="ema"):
            class At:
                mean = z.view(-1, 1, 28, 28)

            return At()

    model = Perfect()
    model.latent_dim = 784
    callback = ReconstructionFID(extractor=Mean(), count=100)
    fit(model, tmp_path, [callback])
    assert callback.latest.values == callback.latest.floors


def test_blocks_are_whole_and_their_size_changes_nothing():
    model, val = Linear().eval(), digits().split("val")
    copies = Reconstructions(Encoded(model, val, 3, "reconstructions", CPU), chosen_rows(val, 70))
    with torch.no_grad():
        whole = copies.sample(torch.arange(128))
        assert {n for _, n, _ in model.calls} == {64}
        assert torch.equal(copies.sample(torch.arange(64, 128)), whole[64:])
        assert torch.equal(whole[69], whole[127]), "padding repeats the last"


# ---- the mixture


def test_the_number_is_the_one_of_the_mixture_of_the_training_images(tmp_path):
    callback, model = MixtureFID(5, 500, extractor=Mean(), count=100), Linear()
    fit(model, tmp_path, [callback])
    model.eval()
    train = digits().split("train")
    rows = chosen(torch.arange(4000), 500)
    noise = randomness.latents(3, rows, 4, "latents of training images")
    with torch.no_grad():
        z = model.encode(to_float(train.images[rows]), noise).z
        drawn = model.decode(Mixture.fit(z, 5, 3).draw(3, torch.arange(100))).mean
    value = callback.latest.values["val/fd100_Mean_gmm5"]
    assert value == pytest.approx(distance(quantize(drawn), train.images), rel=1e-3)


def test_a_mixture_draws_better_than_a_prior_that_misses(tmp_path):
    """The model's latents stand off the prior: what a second sampler is for."""

    class Off(Linear):
        def encode(self, images, noise, labels=None, weights="ema"):
            code = super().encode(images, noise, labels)
            return code._replace(z=2 * code.z + 5)

        def decode(self, z, labels=None, weights="ema"):
            return super().decode((z - 5) / 2, labels)

    prior, mixture = FID(Mean(), count=500), MixtureFID(extractor=Mean(), count=500)
    fit(Off(), tmp_path, [prior, mixture])
    (a,), (b,) = prior.latest.values.values(), mixture.latest.values.values()
    assert b < 0.1 * a


def test_a_conditional_model_is_given_labels(tmp_path):
    model = Linear(num_classes=10)
    callbacks = [
        MixtureFID(2, 256, extractor=Mean(), count=128, per_class=64),
        ReconstructionFID(extractor=Mean(), count=128),
    ]
    fit(model, tmp_path, callbacks)
    encoded = [labels for what, _, labels in model.calls if what == "encode"]
    assert all(labels is not None for labels in encoded)
    decoded = [labels for what, _, labels in model.calls if what == "decode"]
    assert all(labels is not None for labels in decoded)
    classes = {int(labels[0]) for labels in decoded if len(labels.unique()) == 1}
    assert classes == set(range(10)), "each class on request"
    assert "val/intra_fd64_Mean_gmm2" in callbacks[0].latest.values
    rows = chosen(torch.arange(1000), 128)
    assert torch.equal(decoded[-1], digits().split("val").labels[rows][64:])
    assert record(tmp_path, "Mean-128-gmm2")["protocol"]["labels"]["training_images"] == [400] * 10


# ---- what is refused


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (MixtureFID, {"components": 0}, r"callbacks.MixtureFID.components: 0 was found, a whole number of at least 1"),
        (MixtureFID, {"fit_images": 1}, r"MixtureFID.fit_images: 1 was found"),
        (MixtureFID, {"components": 65, "fit_images": 64}, r"components: 65 was found, .* fitted to 64 images"),
        (MixtureFID, {"count": 1}, r"MixtureFID.count: 1 was found"),
        (ReconstructionFID, {"count": 1001}, r"ReconstructionFID.count: 1001 was found, but there are 1000 held-out"),
        (ReconstructionFID, {"repeats": 2}, r"ReconstructionFID.repeats: 2 was found"),
        (ReconstructionFID, {"per_class": 2}, r"ReconstructionFID.per_class: 2 was found"),
    ],
)
def test_bad_options(tmp_path, kind, options, message):
    with pytest.raises(UserError, match=message):
        fit(Linear(), tmp_path, [kind(**{"extractor": Mean(), "count": 64, **options})])


@pytest.mark.parametrize("kind", [MixtureFID, ReconstructionFID])
def test_a_model_without_latents_is_named(tmp_path, kind):
    with pytest.raises(UserError, match=rf"{kind.__name__}: Plain was found, a model that encodes images is expected"):
        fit(Plain(), tmp_path, [kind(extractor=Mean(), count=64)])


def test_latents_that_are_not_finite_are_named(tmp_path):
    class Broken(Linear):
        def encode(self, images, noise, labels=None, weights="ema"):
            code = super().encode(images, noise, labels)
            return code._replace(z=code.z * torch.nan)

    with pytest.raises(UserError, match=r"MixtureFID: latents of 128 of 128 training images are NaN or infinite"):
        fit(Broken(), tmp_path, [MixtureFID(2, 128, extractor=Mean(), count=64)])
