"""Pictures of a model with latents: what stands where in them, when they are drawn, and what is left alone."""

import math

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from support.latent_model import Linear, Plain, digits, fit

from lit_gen.callbacks.latent_pictures import LatentPictures
from lit_gen.core import distributed, randomness
from lit_gen.core.errors import UserError
from lit_gen.core.images import quantize, to_float
from lit_gen.data.images.tensors import TensorSet
from lit_gen.data.images.toy import Toy2D
from lit_gen.evaluation.reference import chosen

GAP = 6


def drawn(folder, step=4):
    found = sorted((folder / "samples").glob(f"step={step:08d}-*.png"))
    return {p.stem.partition("-")[2]: torch.from_numpy(np.asarray(Image.open(p)).copy()) for p in found}


def make(folder, model, *, data=None, last=4, logger=False, **options):
    fit(model, folder, [LatentPictures(**options)], steps=last, data=data, logger=logger)
    return drawn(folder, last)


def tile(picture, row, column, height=28, width=28, gap=GAP):
    top, left = gap + row * (height + gap), gap + column * (width + gap)
    return picture[top : top + height, left : left + width]


def held_out(count):
    rows = chosen(torch.arange(1000), count)
    return rows, digits().split("val").images[rows]


@torch.no_grad()
def decoded(model, z, labels=None):
    return quantize(model.eval().decode(z, labels).mean)[:, 0]


@torch.no_grad()
def means(model, images):
    return model.eval().encode(to_float(images), torch.zeros(len(images), model.latent_dim)).info["mean"]


def close(a, b):
    """Levels that differ only by rounding: blocks of another size have other last bits."""
    return (a.int() - b.int()).abs().max() <= 1


# ---- what stands where


def test_originals_stand_at_the_left_of_their_reconstructions(tmp_path):
    model = Linear(8)
    picture = make(tmp_path, model, count=8)["reconstructions"]
    assert picture.shape == (GAP + 4 * (28 + GAP), GAP + 2 * (56 + GAP))
    rows, images = held_out(8)
    noise = randomness.latents(3, rows, 8, "pictures")
    copies = decoded(model, means(model, images) + 0.1 * noise)
    for i in range(8):
        pair = tile(picture, i // 2, i % 2, width=56)
        assert torch.equal(pair[:, :28], images[i, 0])
        assert close(pair[:, 28:], copies[i])


def test_paths_are_straight_above_and_round_below(tmp_path):
    model = Linear(8)
    picture = make(tmp_path, model, paths=3, steps=5)["interpolations"]
    assert picture.shape == (GAP + 3 * (56 + GAP), 5 * 28 + 2 * GAP)
    _, images = held_out(6)
    a, b = means(model, images).chunk(2)
    for i in range(3):
        both = tile(picture, i, 0, 56, 5 * 28)
        angle = math.acos(float(torch.cosine_similarity(a[i], b[i], 0)))
        for k in range(5):
            t, columns = k / 4, slice(28 * k, 28 * k + 28)
            round_ = (math.sin((1 - t) * angle) * a[i] + math.sin(t * angle) * b[i]) / math.sin(angle)
            assert close(both[:28, columns], decoded(model, ((1 - t) * a[i] + t * b[i])[None])[0])
            assert close(both[28:, columns], decoded(model, round_[None])[0])
        assert not torch.equal(both[:28, 56:84], both[28:, 56:84])
    labels = digits().split("val").labels[chosen(torch.arange(1000), 6)]
    assert (labels[:3] != labels[3:]).all(), "between different digits"


def test_traversals_show_the_most_active_latents_from_minus_to_plus_three(tmp_path):
    class Shuffled(Linear):
        """Latents 5 and 1 say most."""

        def encode(self, images, noise, labels=None, weights="ema"):
            code = super().encode(images, noise, labels)
            return code._replace(info={**code.info, "kl": code.info["kl"] * 0 + torch.tensor([1, 8, 2, 3, 4, 9.0])})

    model = Shuffled(6)
    picture = make(tmp_path, model, traversals=3, steps=7)["traversals"]
    assert picture.shape == (2 + 3 * 30, 2 + 7 * 30)
    z = means(model, held_out(1)[1])[0]
    for row, latent in enumerate([5, 1, 4]):
        for column, value in enumerate(range(-3, 4)):
            moved = z.clone()
            moved[latent] = value
            assert close(tile(picture, row, column, gap=2), decoded(model, moved[None])[0]), (row, column)


def test_without_a_kl_the_variance_of_the_means_tells_and_a_prior_of_its_own_scales(tmp_path):
    class Other(Linear):
        def encode(self, images, noise, labels=None, weights="ema"):
            code = super().encode(images, noise, labels)
            mean = code.info["mean"] * torch.tensor([0.1, 3, 1, 2])
            return code._replace(z=mean, info={"mean": mean})

        def prior(self, noise, weights="ema"):
            return 5 + 2 * noise

    model = Other(4)
    picture = make(tmp_path, model, traversals=2, steps=3)["traversals"]
    z = means(model, held_out(1)[1])[0]
    noise = randomness.latents(3, torch.arange(4096), 4, "prior")
    middle, deviation = 5 + 2 * noise.mean(0), 2 * noise.std(0)
    assert deviation == pytest.approx([2] * 4, abs=0.1)
    for row, latent in enumerate([1, 3]):
        for column, value in enumerate((-3, 0, 3)):
            moved = z.clone()
            moved[latent] = middle[latent] + value * deviation[latent]
            assert close(tile(picture, row, column, gap=2), decoded(model, moved[None])[0])


def test_two_latents_are_plotted_and_their_plane_is_decoded(tmp_path):
    model = Linear(2)
    found = make(tmp_path, model, manifold=5)
    assert set(found) == {"reconstructions", "interpolations", "traversals", "scatter", "manifold"}
    plane = found["manifold"]
    assert plane.shape == (5 * 28, 5 * 28)
    places = torch.distributions.Normal(0, 1).icdf((torch.arange(5) + 0.5) / 5)
    for row in range(5):
        for column in range(5):
            z = torch.stack([places[column], places[4 - row]])
            assert close(tile(plane, row, column, gap=0), decoded(model, z[None])[0])
    scatter = found["scatter"]
    assert scatter.shape == (600, 660, 3)
    colors = {tuple(c) for c in scatter.flatten(0, 1).tolist()}
    from matplotlib import colormaps

    tab10 = {tuple(round(255 * v) for v in colormaps["tab10"](i)[:3]) for i in range(10)}
    assert tab10 <= colors, "a color for each class"


def test_more_latents_have_no_plane(tmp_path):
    assert set(make(tmp_path, Linear(3))) == {"reconstructions", "interpolations", "traversals"}


def test_a_conditional_model_is_given_labels(tmp_path):
    model = Linear(2, num_classes=10)
    found = make(tmp_path, model, count=4, traversals=1, steps=3, manifold=2, paths=2)
    assert len(found) == 5
    assert all(labels is not None for _, _, labels in model.calls)
    labels = digits().split("val").labels
    (row,) = chosen(torch.arange(1000), 1)
    label, z = labels[row : row + 1], means(model, held_out(1)[1])
    z[0, means(model, digits().split("val").images).square().mean(0).argmax()] = -3  # the most active one
    assert close(tile(found["traversals"], 0, 0, gap=2), decoded(model, z, label)[0])
    assert not close(tile(found["traversals"], 0, 0, gap=2), decoded(model, z, (label + 5) % 10)[0])
    starts = labels[chosen(torch.arange(1000), 4)][:2]
    a = means(model, held_out(4)[1])
    path = tile(found["interpolations"], 1, 0, 56, 84)
    assert close(path[:28, 56:84], decoded(model, a[3:4], starts[1:2])[0]), "a path keeps the label of its start"


def test_data_without_labels(tmp_path):
    np.savez(tmp_path / "some.npz", images=digits().split("val").images[:, 0].numpy())
    data = TensorSet(str(tmp_path / "some.npz"), val_size=100, batch_size=8)
    assert len(make(tmp_path, Linear(2), data=data, manifold=3)) == 5


# ---- when, and what stays as it was


def test_drawn_every_so_many_steps_and_at_the_last_and_sent_to_tensorboard(tmp_path):
    logger, sent = TensorBoardLogger(tmp_path, name="", version="tb"), []
    logger.experiment.add_image = lambda name, image, step: sent.append((step, name))
    make(tmp_path, Linear(3), every=2, last=5, logger=logger)
    names = ("reconstructions", "interpolations", "traversals")
    assert sent == [(step, name) for step in (2, 4, 5) for name in names]
    assert {p.name for p in (tmp_path / "samples").iterdir()} == {f"step={s:08d}-{n}.png" for s, n in sent}


def test_noise_and_images_are_the_same_at_every_step(tmp_path):
    fit(Linear(2), tmp_path, [LatentPictures(every=1)], steps=3)
    first, *others = (drawn(tmp_path, step) for step in (1, 2, 3))
    assert len(first) == 5
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)


def test_training_goes_on_as_if_nothing_had_been_drawn(tmp_path):
    class Frozen(Linear):
        def on_train_start(self):
            self.dropout.eval()

    states = []
    for name, callbacks in (("a", []), ("b", [LatentPictures(every=1)])):
        torch.manual_seed(1)
        model = Frozen(2)
        fit(model, tmp_path / name, callbacks)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    assert model.training
    assert not model.dropout.training, "a frozen part stays frozen"


def test_only_the_first_rank_draws(monkeypatch):
    """The others wait."""
    drawn = []
    monkeypatch.setattr(LatentPictures, "_make", lambda *arguments: drawn.append(distributed.rank()))
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "broadcast", lambda value: value)
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        LatentPictures().make(None, None, 1)
    assert drawn == [0]


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": -1}, "trainer.callbacks.LatentPictures.every: -1 was found, a whole number of at least 0"),
        ({"count": 0}, "LatentPictures.count: 0 was found, a whole number of at least 1"),
        ({"steps": 1}, "LatentPictures.steps: 1 was found, a whole number of at least 2"),
        ({"images": 1}, "LatentPictures.images: 1 was found"),
        ({"manifold": 0}, "LatentPictures.manifold: 0 was found"),
        ({"traversals": 0}, "LatentPictures.traversals: 0 was found"),
        ({"paths": 0}, "LatentPictures.paths: 0 was found"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        LatentPictures(**options)


def test_models_and_data_that_do_not_fit(tmp_path):
    with pytest.raises(UserError, match=r"LatentPictures: Plain was found, a model that encodes images is expected"):
        make(tmp_path, Plain())
    with pytest.raises(UserError, match=r"Toy2D holds \(2, 1, 1\), images of 1 or 3 channels are expected"):
        make(tmp_path, Linear(2), data=Toy2D(size=1000, batch_size=16))
    np.savez(tmp_path / "some.npz", images=digits().split("val").images[:, 0].numpy())
    with pytest.raises(UserError, match=r"LatentPictures: 0 held-out images were found, at least 2 are expected"):
        make(tmp_path, Linear(2), data=TensorSet(str(tmp_path / "some.npz"), batch_size=8))
    data = TensorSet(str(tmp_path / "some.npz"), val_size=100, batch_size=8)
    with pytest.raises(UserError, match=r"the model is conditional, but TensorSet has no labels"):
        make(tmp_path, Linear(2, num_classes=10), data=data)
