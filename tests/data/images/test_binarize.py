"""MNIST made black and white: each way by its name, its bits recorded, and the same bits on every machine."""

import hashlib

import numpy as np
import pytest
import torch
from support.image_files import small_mnist  # noqa: F401  a fixture

from lit_gen.core import batches
from lit_gen.core.data import label_counts
from lit_gen.core.errors import UserError
from lit_gen.data.images import binarize, published
from lit_gen.data.images.loaders import EvalLoader, ImageSet, TrainLoader
from lit_gen.data.images.mnist import MNIST, FashionMNIST

SPLITS = ("train", "val", "test")


def digits(name="grey", **options):
    return MNIST(embedded=True, binarize=name, **options)


def levels(images):
    return images.unique().tolist()


# ---- drawn once


def test_grey_images_are_as_before():
    data = digits()
    assert (data.name, data.binarize) == ("mnist-5k", "grey")
    assert len(levels(data.split("train").images)) > 200
    assert data.drawn_anew() is None
    assert "sha256" not in data.protocol


def test_threshold_is_at_half_of_white():
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(binarize.threshold(ramp).flatten() == 255, torch.arange(256) / 255 >= 0.5)
    data = digits("threshold")
    assert torch.equal(data.split("val").images == 255, digits().split("val").images / 255 >= 0.5)
    assert data.name == "mnist-5k-threshold"


@pytest.mark.parametrize(
    ("name", "train", "val"),
    [
        ("threshold", "1a5fea3af2e0", "7cdca19de8f9"),
        ("static-seed0", "df2907367794", "99f94eff4543"),
        ("static-seed7", "1a43a9cb21b8", "560219e9ef1f"),
    ],
)
def test_the_bits_are_the_same_on_every_machine_and_recorded(name, train, val):
    data = digits(name)
    record = data.protocol
    assert record["name"] == data.name == f"mnist-5k-{name}"
    assert record["binarize"] == data.binarize == name
    assert record["images"] == {"train": 4000, "val": 1000, "test": 1000}
    assert (record["sha256"]["train"][:12], record["sha256"]["val"][:12]) == (train, val)
    bits = (data.split("train").images == 255).numpy()
    assert record["sha256"]["train"] == hashlib.sha256(np.packbits(bits).tobytes()).hexdigest()
    for split in SPLITS:
        images, grey = data.split(split).images, digits().split(split)
        assert (images.dtype, levels(images)) == (torch.uint8, [0, 255])
        assert torch.equal(data.split(split).labels, grey.labels)
    (batch, *_) = EvalLoader(data.split("val"))
    assert levels(batch.images) == [-1, 1]


def test_a_pixel_is_white_as_often_as_its_level_says():
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(4000, 1, 1, 1)
    drawn = binarize.draw_once(ramp, 3, "ramp", torch.arange(4000)) == 255
    share, level = drawn.float().mean(0).flatten(), torch.arange(256) / 255
    assert share[0] == 0
    assert share[255] == 1
    deviation = (level * (1 - level) / 4000).sqrt().clamp_min(1e-9)
    assert ((share - level) / deviation).abs().max() < 4.5
    assert ((share - level) / deviation)[1:255].square().mean() < 1.4  # 254 squares of mean 1 and deviation 0.09
    pairs = drawn.flatten(1).float()[:, 118:138]
    correlation = torch.corrcoef(torch.cat([pairs[1:], pairs[:-1]], dim=1).T).fill_diagonal_(0)
    assert correlation.abs().max() < 0.08, "neither neighbours nor successive images hang together"


def test_every_probability_is_exact():
    """Of the 255 values that a draw can have, as many are below a level as the level is."""
    draws = torch.arange(255, dtype=torch.uint8).view(255, 1, 1, 1).expand(255, 1, 16, 16)
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(255, 1, 16, 16)
    assert torch.equal((binarize.white(ramp, draws) == 255).sum(0).flatten(), torch.arange(256))


def test_an_image_has_its_bits_whatever_stands_beside_it(small_mnist):
    """Whether it is held out or not, and whichever images are."""
    options = {"root": str(small_mnist), "binarize": "static-seed1"}
    whole = MNIST(val_size=0, **options).split("train")
    one = MNIST(val_size=20, **options)
    assert one.name == "mnist-static-seed1"
    together = [row for split in ("train", "val") for row in one.split(split).images]
    assert {bytes(i.numpy()) for i in together} == {bytes(i.numpy()) for i in whole.images}
    assert len(whole) == len(together) == 60
    test, train = one.split("test").images[:20], whole.images[:20]
    same_grey = torch.full((20, 1, 28, 28), 128, dtype=torch.uint8)
    assert not torch.equal(
        binarize.draw_once(same_grey, 1, "mnist t10k", torch.arange(20)),
        binarize.draw_once(same_grey, 1, "mnist train", torch.arange(20)),
    ), "two archives are two draws"
    assert not torch.equal(test, train)


def test_seeds_are_other_draws():
    a, b = (digits(f"static-seed{n}").split("val").images for n in (0, 1))
    grey = digits().split("val").images
    assert not torch.equal(a, b)
    assert torch.equal((a != b) & ((grey == 0) | (grey == 255)), torch.zeros_like(a, dtype=torch.bool))
    assert torch.equal(digits("static-seed0", seed=5).split("val").images, a), "the run's seed is another thing"


# ---- drawn anew


def numbered(n=64):
    images = torch.arange(n * 36, dtype=torch.int64).remainder(256).to(torch.uint8).view(n, 1, 6, 6)
    return ImageSet(images, torch.arange(n))


@pytest.mark.parametrize(("world", "micro"), [(2, 1), (1, 2), (2, 2)])
def test_ranks_and_micro_batches_change_nothing(world, micro):
    options = {"flip": True, "pad": 2, "binarize": True}
    alone = TrainLoader(numbered(), batches.Batches(16), 0, **options)
    ranks = [TrainLoader(numbered(), batches.Batches(16, world, micro), 0, rank=r, **options) for r in range(world)]
    for whole, *shares in zip(alone, *ranks, strict=True):
        parts = [p for each in zip(*(batches.split(s, micro) for s in shares), strict=True) for p in each]
        assert torch.equal(torch.cat([p.images for p in parts]), whole.images)
        assert levels(whole.images) == [-1, 1]


def test_each_showing_is_another_draw_and_resume_finds_it_again():
    loader = TrainLoader(numbered(), batches.Batches(64), 0, binarize=True)
    epochs = [next(iter(loader)) for _ in range(3)]
    in_order = [batch.images[batch.labels.argsort()] for batch in epochs]
    assert not torch.equal(in_order[0], in_order[1])
    again = TrainLoader(numbered(), batches.Batches(64), 0, binarize=True)
    again.load_state_dict({"step": 2})
    assert torch.equal(next(iter(again)).images, epochs[2].images)
    other = TrainLoader(numbered(), batches.Batches(64), 1, binarize=True)
    assert not torch.equal(next(iter(other)).images[next(iter(other)).labels.argsort()], in_order[0])


def test_dynamic_trains_on_draws_and_measures_on_fixed_images():
    data = digits("dynamic", seed=7, batch_size=1000)
    level, loader = digits().split("train").images / 255, data.train_dataloader()
    total = torch.zeros(level.shape)
    for _ in range(24):
        for batch in loader:
            total[batch.indices] += batch.images == 1
            assert (batch.images.abs() == 1).all()
    assert (total[level == 0] == 0).all()
    assert (total[level == 1] == 24).all()
    assert (total - 24 * level).abs().max() < 6 * 24**0.5 / 2  # six deviations at most
    assert abs(float((total / 24 - level).mean())) < 1e-4
    fixed = digits("static-seed7")
    for split in SPLITS:
        assert torch.equal(data.split(split).images, fixed.split(split).images)
    assert data.protocol["measured_on"] == "static-seed7"
    assert data.protocol["sha256"] == fixed.protocol["sha256"]
    assert data.name == "mnist-5k-dynamic"


def test_on_the_device_it_is_drawn_anew_as_well(tmp_path):
    from lightning import LightningModule, Trainer

    class Looks(LightningModule):
        seen: list = []  # noqa: RUF012

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch, index):
            self.seen.append(batch.images)
            return self.weight * 0

        def validation_step(self, batch, index):
            pass

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    for on_device in (True, False):
        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = Trainer(accelerator="cpu", max_steps=2, limit_val_batches=0, default_root_dir=tmp_path, **options)
        trainer.fit(Looks(), datamodule=digits("dynamic", on_device=on_device))
    assert [levels(x) for x in Looks.seen] == [[-1, 1]] * 4
    assert torch.equal(Looks.seen[0], Looks.seen[2])


# ---- the published files


@pytest.fixture
def small_files(tmp_path, monkeypatch):
    """The three files in their form, with few rows."""
    rng, arrays = np.random.default_rng(0), {}
    monkeypatch.setattr(published, "ROWS", {"train": 30, "valid": 10, "test": 12})
    (tmp_path / "binarized_mnist").mkdir()
    for part, rows in published.ROWS.items():
        arrays[part] = rng.integers(0, 2, (rows, 784))
        np.savetxt(tmp_path / "binarized_mnist" / f"binarized_mnist_{part}.amat", arrays[part], fmt="%d")
    return tmp_path, arrays


def test_the_published_files_are_read_as_they_are(small_files):
    root, arrays = small_files
    data = MNIST(root=str(root), binarize="static")
    data.prepare_data()
    assert [p.name for p in data.files()] == [f"binarized_mnist_{p}.amat" for p in ("train", "valid", "test")]
    for split, part in zip(SPLITS, ("train", "valid", "test"), strict=True):
        images = data.split(split).images
        assert images.shape == (len(arrays[part]), 1, 28, 28)
        assert torch.equal(images.flatten(1), torch.from_numpy(arrays[part] * 255).to(torch.uint8))
        assert data.split(split).labels is None
    assert (data.num_classes, label_counts(data, 10), data.name) == (None, None, "mnist-static")
    assert data.protocol["images"] == {"train": 30, "val": 10, "test": 12}
    assert MNIST.num_classes == 10
    (batch, *_) = MNIST(root=str(root), binarize="static", batch_size=8).train_dataloader()
    assert batch.labels is None


def test_the_published_sizes():
    assert published.ROWS == {"train": 50_000, "valid": 10_000, "test": 10_000}


def test_a_missing_file_says_where_it_comes_from_and_what_it_holds(tmp_path):
    with pytest.raises(
        UserError,
        match=r"data.binarize: static needs .*binarized_mnist_train.amat, which does not exist; .* from http://www.cs."
        r"toronto.edu/\S+ is expected there \(50,000 rows of 784 values 0 or 1\), or static-seed0",
    ):
        MNIST(root=str(tmp_path), binarize="static").prepare_data()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-1], r"valid.amat: 9 rows were found, 10 are expected"),
        (lambda lines: [*lines, lines[0]], r"valid.amat: 11 rows were found, 10 are expected"),
        (lambda lines: [lines[0], lines[1][:-2], *lines[2:]], r"valid.amat, line 2: 783 values were found, 784"),
        (lambda lines: [*lines[:4], "2" + lines[4][1:], *lines[5:]], r"valid.amat, line 5: '2' was found, 0 or 1 is"),
        (lambda lines: [lines[0], "", *lines[1:]], r"valid.amat, line 2: 0 values were found"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(small_files, change, message):
    root, _ = small_files
    path = root / "binarized_mnist" / "binarized_mnist_valid.amat"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    with pytest.raises(UserError, match=message):
        MNIST(root=str(root), binarize="static").split("val")


# ---- names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gray", r"data.binarize: 'gray' was found, grey, threshold, .* is expected; did you mean 'grey'"),
        ("treshold", r"did you mean 'threshold'"),
        ("static-sed0", r"did you mean 'static-seed0'"),
        ("static-seed", r"static-seedN with a number N, .*did you mean 'static-seed0'"),
        ("static-seed-1", r"did you mean 'static-seed0'"),
        ("Dynamic", r"did you mean 'dynamic'"),
        ("", r"data.binarize: '' was found"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest(name, message):
    for kind in (MNIST, FashionMNIST):
        with pytest.raises(UserError, match=message):
            kind(binarize=name)


def test_the_published_draw_is_of_the_official_digits_alone():
    with pytest.raises(UserError, match=r"static is of the official digits, not of the embedded ones"):
        digits("static")
    with pytest.raises(UserError, match=r"static is of the official digits of MNIST"):
        FashionMNIST(binarize="static")
    assert FashionMNIST(binarize="static-seed3").name == "fashion-mnist-static-seed3"
    assert FashionMNIST().name == "fashion-mnist"


def test_on_the_command_line(lit_gen):
    code, _, err = lit_gen("fit", "--config=gan_mlp.yaml", "--data=MNIST", "--data.binarize=static-sed0")
    assert code == 2
    assert "data.binarize: 'static-sed0' was found" in err
