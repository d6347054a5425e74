"""Classes on request: what a conditional model is given, what it draws, and what is refused."""

import numpy as np
import pytest
import torch
from support.gan import ADAM, conditional, fit

import lit_gen
from lit_gen.callbacks.samples import Samples
from lit_gen.core import sampling
from lit_gen.core.errors import UserError
from lit_gen.data.images.mnist import MNIST
from lit_gen.data.images.tensors import TensorSet
from lit_gen.data.images.toy import Toy2D
from lit_gen.models.adversarial import penalties, regularizers
from lit_gen.models.gan import dcgan, mlp
from lit_gen.models.gan.module import GAN


def test_row_i_depends_on_its_index_and_label_alone():
    model = conditional()
    whole = model.sample(torch.arange(70), labels=torch.arange(70) % 10)
    again = model.sample(torch.tensor([65, 3, 3, 3, 65]), labels=torch.tensor([5, 3, 4, 5, 5]))
    assert torch.equal(again[0], whole[65])
    assert torch.equal(again[1], whole[3])
    assert torch.equal(again[0], again[4])
    assert len(again[1:4].flatten(1).unique(dim=0)) == 3, "one latent, three classes"
    for i in range(5):
        index, label = [65, 3, 3, 3, 65][i], [5, 3, 4, 5, 5][i]
        assert torch.equal(model.sample(torch.tensor([index]), labels=torch.tensor([label]))[0], again[i])


def test_labels_nobody_asked_for_follow_the_training_set(tmp_path):
    images = torch.zeros(400, 28, 28, dtype=torch.uint8)
    labels = torch.tensor([0] * 300 + [1] * 20 + [2] * 80)
    np.savez(tmp_path / "skewed.npz", images=images, labels=labels)
    data = TensorSet(str(tmp_path / "skewed.npz"), val_size=0, batch_size=8)
    model = conditional(classes=3)
    fit(model, 1, tmp_path, data=data)
    assert model.label_counts.tolist() == [300, 20, 80]
    drawn = sampling.labels_of(0, torch.arange(10_000), model.label_counts)
    assert torch.bincount(drawn, minlength=3).tolist() == pytest.approx([7500, 500, 2000], abs=150)
    assert torch.equal(sampling.labels_of(0, torch.tensor([777, 5]), model.label_counts), drawn[[777, 5]])
    assert torch.equal(model.sample(torch.arange(9)), model.sample(torch.arange(9), labels=drawn[:9]))
    again = lit_gen.load(tmp_path / "checkpoints" / "step=00000001.ckpt")
    assert torch.equal(again.sample(9), model.sample(torch.arange(9)))


def test_before_training_all_classes_are_equally_likely():
    drawn = sampling.labels_of(0, torch.arange(10_000), torch.zeros(4))
    assert torch.bincount(drawn).tolist() == pytest.approx([2500] * 4, abs=150)


@pytest.mark.parametrize(
    "discriminator", [*(pytest.param(d, marks=pytest.mark.slow) for d in ("concat", "projection")), "auxiliary"]
)
def test_both_networks_learn_the_classes(tmp_path, discriminator):
    """On the ring, where a point's class is its mode, samples lie nearest to the mode that was asked for."""
    torch.manual_seed(0)
    g = mlp.Generator((2, 1, 1), 2, width=64, conditioning="concat", num_classes=8)
    d = mlp.Discriminator((2, 1, 1), width=64, conditioning=discriminator, num_classes=8)
    terms = [regularizers.AuxiliaryClassifier()] if discriminator == "auxiliary" else []
    model = GAN(g, d, generator_optimizer=ADAM, discriminator_optimizer=ADAM, regularizers=terms)
    data = Toy2D(size=4000, batch_size=128)
    fit(model, 800, tmp_path, data=data, log_every=100)
    labels = torch.arange(400) % 8
    points = model.sample(torch.arange(400), labels=labels).flatten(1)
    assert (torch.cdist(points, data.centres).argmin(1) == labels).float().mean() > 0.9


def test_fakes_have_the_labels_of_the_real_images(tmp_path, monkeypatch):
    given = {"real": [], "fake": []}
    model = conditional()

    def note(kind, network):
        original = network.forward

        def forward(x, labels=None):
            given[kind].append(labels)
            return original(x, labels)

        monkeypatch.setattr(network, "forward", forward)

    note("fake", model.generator)
    note("real", model.discriminator)
    fit(model, 1, tmp_path, data=MNIST(embedded=True, batch_size=16))
    trained = [labels for labels in given["real"] if len(labels) == 16]
    assert len(trained) == 3
    assert all(torch.equal(labels, trained[0]) for labels in trained)
    assert sum(labels is not None and torch.equal(labels, trained[0]) for labels in given["fake"]) == 2


def test_pictures_show_one_class_per_column(tmp_path, monkeypatch):
    asked = []
    model = conditional()
    original = model.sample
    monkeypatch.setattr(model, "sample", lambda i, **k: asked.append(k.get("labels")) or original(i, **k))
    fit(model, 1, tmp_path, [Samples(every=1, count=30)], data=MNIST(embedded=True, batch_size=16))
    assert asked[-1].tolist() == list(range(10)) * 3
    from PIL import Image

    with Image.open(tmp_path / "samples" / "step=00000001.png") as picture:
        assert picture.size == (10 * 30 + 2, 3 * 30 + 2)


def test_interpolation_keeps_the_class():
    model = conditional()
    path = model.interpolate(torch.tensor([0]), torch.tensor([1]), 4, labels=torch.tensor([7]))
    assert torch.allclose(path[0, 0], model.sample(torch.tensor([0]), labels=torch.tensor([7]))[0], atol=1e-5)
    assert torch.allclose(path[0, -1], model.sample(torch.tensor([1]), labels=torch.tensor([7]))[0], atol=1e-5)


def test_labels_out_of_range_or_of_an_unconditional_model():
    with pytest.raises(UserError, match="labels: 12 was found, 0 to 9 are expected"):
        conditional().sample(torch.arange(2), labels=torch.tensor([1, 12]))
    plain = GAN(mlp.Generator((1, 28, 28), 3, width=8), mlp.Discriminator((1, 28, 28), width=8))
    with pytest.raises(UserError, match="generator is unconditional"):
        plain.sample(torch.arange(2), labels=torch.tensor([1, 1]))


def test_a_conditional_model_on_other_data_is_refused_before_the_first_step(tmp_path):
    with pytest.raises(UserError, match=r"model.discriminator is conditional on 3 classes, but the data set has 10"):
        fit(conditional(classes=3), 1, tmp_path, data=MNIST(embedded=True))


@pytest.mark.parametrize(
    ("generator", "discriminator", "told"),
    [("none", "projection", "model.generator is unconditional"), ("none", "auxiliary", "model.generator is uncond"),
     ("concat", "none", "model.generator is conditional, but model.discriminator does not look at classes")],
)  # fmt: skip
def test_networks_that_disagree_on_classes_are_refused(tmp_path, generator, discriminator, told):
    with pytest.raises(UserError, match=told):
        fit(conditional(generator, discriminator), 1, tmp_path, data=MNIST(embedded=True))


@pytest.mark.parametrize("terms", [[], [penalties.R1()]])
def test_an_auxiliary_classifier_that_nothing_trains_is_refused(tmp_path, terms):
    model = GAN(
        mlp.Generator((1, 28, 28), 3, width=8, conditioning="concat", num_classes=10),
        mlp.Discriminator((1, 28, 28), width=8, conditioning="auxiliary", num_classes=10),
        regularizers=terms,
    )
    with pytest.raises(UserError, match="names classes, but no regularizer trains it"):
        fit(model, 1, tmp_path, data=MNIST(embedded=True))


def test_labels_in_one_pass_for_real_and_generated_images(tmp_path):
    two, one = conditional(), conditional(concatenate=True)
    fit(two, 3, tmp_path / "two", data=MNIST(embedded=True, batch_size=16))
    fit(one, 3, tmp_path / "one", data=MNIST(embedded=True, batch_size=16))
    for key, value in two.state_dict().items():
        assert torch.allclose(value, one.state_dict()[key], atol=1e-5), key


def test_an_auxiliary_term_without_its_discriminator_is_refused(tmp_path):
    model = conditional(discriminator="projection", terms=[regularizers.AuxiliaryClassifier()])
    with pytest.raises(UserError, match="a discriminator that names classes"):
        fit(model, 1, tmp_path, data=MNIST(embedded=True, batch_size=8))


def test_command_line(lit_gen, tmp_path):
    options = ("--config=cgan_mnist.yaml", "--config=smoke.yaml", "--run_name=r", "--run_id=one")
    assert lit_gen("fit", *options)[0] == 0
    code, _, err = lit_gen("sample", "runs/r", "--n=6", "--labels=3,1", "--out=s")
    assert (code, err) == (0, "")
    assert len(list((tmp_path / "s").glob("0*.png"))) == 6
    from PIL import Image

    with Image.open(tmp_path / "s-grid.png") as picture:
        assert picture.size == (2 * 30 + 2, 3 * 30 + 2)
    for index, label in ((0, 3), (5, 1)):
        assert lit_gen("sample", "runs/r", "--n=1", f"--start={index}", f"--labels={label}", f"--out=t{index}")[0] == 0
        assert (tmp_path / f"t{index}/{index:06d}.png").read_bytes() == (tmp_path / f"s/{index:06d}.png").read_bytes()
    for bad, told in (
        ("12", "--labels: 12 was found, 0 to 9 are expected (10 classes)"),
        ("a", "--labels: 'a' was found"),
    ):
        code, _, err = lit_gen("sample", "runs/r", f"--labels={bad}", "--out=bad")
        assert code == 2
        assert told in err
    assert lit_gen("sample", "runs/r", "--n=2", "--interpolate=3", "--labels=4,5", "--out=paths")[0] == 0


def test_spectral_norm_where_there_is_none_is_one_sentence(lit_gen):
    code, _, err = lit_gen("fit", "--config=gan.yaml", "--model.generator.spectral_norm=true")
    assert code == 2
    assert "generator.spectral_norm is no option" in err
    assert err.count("\n") == 1


def test_a_conditional_network_on_an_unlabelled_set_is_one_sentence(lit_gen, tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((64, 28, 28), np.uint8))
    code, _, err = lit_gen("fit", "--config=cgan_mnist.yaml", "--data=TensorSet", "--data.source=x.npz")
    assert code == 2
    assert "the data set has no labels" in err
    assert err.count("error: ") == 1


def test_networks_of_an_unlabelled_set_stay_unconditional():
    assert dcgan.Generator((1, 28, 28), num_classes=10).num_classes is None
