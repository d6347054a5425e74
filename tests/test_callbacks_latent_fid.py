"""FID of a mixture of latents and of reconstructions: which images they are, what they are called, what is refused."""

import json

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from latent_model import Linear, digits, fit, read_once
from lightning import LightningModule
from threadpoolctl import threadpool_limits
from torch import nn

from lit_gen import parallel, randomness
from lit_gen.callbacks.evaluator import tables
from lit_gen.callbacks.fid import FID
from lit_gen.callbacks.latent_fid import MixtureFID, ReconstructionFID
from lit_gen.callbacks.latent_sources import Encoded, Mixture, MixtureSampler, Reconstructions, chosen_rows
from lit_gen.data.loaders import to_float
from lit_gen.errors import UserError
from lit_gen.metrics.drawing import Drawing
from lit_gen.metrics.extract import extract
from lit_gen.metrics.features import load_extractor
from lit_gen.metrics.frechet import frechet_distance
from lit_gen.metrics.reference import chosen
from lit_gen.pictures import quantize

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _data(monkeypatch):
    read_once(monkeypatch)


class Mean(nn.Module):
    def forward(self, images):
        return nn.functional.avg_pool2d(images.float(), 14).flatten(1) / 255


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
    assert len({tuple(c.latest.floors.values()) for c in callbacks}) == 1
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

        def encode(self, images, noise, labels=None):
            code = super().encode(images, noise[:, :4], labels)
            return code._replace(z=images.flatten(1))

        def decode(self, z, labels=None):
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


def test_a_mixture_finds_clusters_and_draws_them_again():
    rng, centers = np.random.default_rng(0), np.array([[-4.0, 0], [4, 0], [0, 6]])
    which = rng.choice(3, 3000, p=[0.2, 0.3, 0.5])
    z = torch.from_numpy(centers[which] + 0.5 * rng.standard_normal((3000, 2))).float()
    mixture = Mixture.fit(z, 3, 0)
    order = mixture.means[:, 0].argsort()
    assert mixture.means[order] == pytest.approx(centers[[0, 2, 1]], abs=0.1)
    assert np.diff(mixture.edges, prepend=0)[order] == pytest.approx([0.2, 0.5, 0.3], abs=0.03)
    covariances = mixture.factors @ mixture.factors.transpose(0, 2, 1)
    assert covariances == pytest.approx(np.tile(0.25 * np.eye(2), (3, 1, 1)), abs=0.04)
    drawn = mixture.draw(5, torch.arange(20_000))
    nearest = torch.cdist(drawn.double(), torch.from_numpy(centers)).argmin(1)
    assert np.bincount(nearest) / 20_000 == pytest.approx([0.2, 0.3, 0.5], abs=0.03)
    for i in range(3):
        assert drawn[nearest == i].mean(0).numpy() == pytest.approx(centers[i], abs=0.1)
        assert drawn[nearest == i].std(0).numpy() == pytest.approx([0.5, 0.5], abs=0.05)


def test_draws_are_a_function_of_seed_and_index():
    mixture = Mixture.fit(torch.from_numpy(np.random.default_rng(0).standard_normal((300, 3))).float(), 2, 0)
    whole = mixture.draw(1, torch.arange(200))
    assert torch.equal(mixture.draw(1, torch.tensor([199, 7])), whole[[199, 7]])
    assert not torch.equal(mixture.draw(2, torch.arange(200)), whole)


def test_a_full_covariance_is_drawn_with_its_correlation():
    factor = np.array([[[1.0, 0], [0.9, 0.3]]])
    drawn = Mixture(np.ones(1), np.zeros((1, 2)), factor, True).draw(0, torch.arange(20_000))
    assert torch.cov(drawn.T).numpy() == pytest.approx(factor[0] @ factor[0].T, abs=0.03)


def test_the_fit_is_the_same_on_any_number_of_threads():
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((5000, 20))).float()
    found = []
    for threads in (1, 2, 3):
        with threadpool_limits(threads):
            found.append(Mixture.fit(z, 5, 0))
    assert all(np.array_equal(a, b) for a, b in zip(found[0], found[2], strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(found[0], found[1], strict=True))


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
        def encode(self, images, noise, labels=None):
            code = super().encode(images, noise, labels)
            return code._replace(z=2 * code.z + 5)

        def decode(self, z, labels=None):
            return super().decode((z - 5) / 2, labels)

    prior, mixture = FID(Mean(), count=500), MixtureFID(extractor=Mean(), count=500)
    fit(Off(), tmp_path, [prior, mixture])
    (a,), (b,) = prior.latest.values.values(), mixture.latest.values.values()
    assert b < 0.1 * a


def draw_on_a_rank(rank, world, folder):
    """Fit, draw and reconstruct 201 images; rank 0 saves what it gathered, and each rank its mixture."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", f"file://{folder}/meet", world_size=world, rank=rank)
    model = Linear().eval()
    with torch.no_grad():
        train, val = (Encoded(model, digits().split(name), 3, name, CPU) for name in ("train", "val"))
        sampler = MixtureSampler.fit(train, chosen_rows(train.data, 300), 3, None)
        for name, source in (("gmm", sampler), ("copies", Reconstructions(val, chosen_rows(val.data, 201)))):
            images = Drawing(source, "ema", CPU, 64).gathered(lambda x: x, 0, 201)
            if rank == 0:
                torch.save(images, folder / f"{name}{world}.pt")
    np.save(folder / f"means{world}-{rank}.npy", sampler.mixture.means)
    parallel.leave()


@pytest.mark.slow  # starts the processes of two worlds
def test_two_processes_draw_what_one_draws(tmp_path):
    draw_on_a_rank(0, 1, tmp_path)
    mp.spawn(draw_on_a_rank, (2, tmp_path), nprocs=2)
    for name in ("gmm", "copies"):
        one, two = (torch.load(tmp_path / f"{name}{world}.pt") for world in (1, 2))
        assert len(one) == 201
        assert torch.equal(one, two)
    one, *others = (np.load(tmp_path / f"means{name}.npy") for name in ("1-0", "2-0", "2-1"))
    assert all(np.array_equal(one, other) for other in others)


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


class Plain(LightningModule):
    num_classes = None

    def sample(self, indices, *, labels=None, weights="ema"):
        return torch.zeros(len(indices), 1, 28, 28)

    def training_step(self, batch, index):
        pass

    def validation_step(self, batch, index):
        pass

    def configure_optimizers(self):
        pass


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
        def encode(self, images, noise, labels=None):
            code = super().encode(images, noise, labels)
            return code._replace(z=code.z * torch.nan)

    with pytest.raises(UserError, match=r"MixtureFID: latents of 128 of 128 training images are NaN or infinite"):
        fit(Broken(), tmp_path, [MixtureFID(2, 128, extractor=Mean(), count=64)])
