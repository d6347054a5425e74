"""MNIST and Fashion-MNIST: what is read, how it splits, and how what is broken is refused."""

import gzip

import numpy as np
import pytest
import torch
import torchvision
from support.image_files import (
    idx,
    small_mnist,  # noqa: F401  a fixture
)

from lit_gen.core.errors import UserError
from lit_gen.data.images import archives, mnist
from lit_gen.data.images.mnist import MNIST, FashionMNIST
from lit_gen.data.images.stacked_mnist import StackedMNIST


def test_embedded_digits_are_always_the_same_4000_and_1000(monkeypatch, tmp_path):
    monkeypatch.setenv("LIT_GEN_DATA", str(tmp_path))  # whatever else lies on the disk
    data = MNIST(embedded=True)
    train, val = data.split("train"), data.split("val")
    assert (len(train), len(val)) == (4000, 1000)
    assert train.labels.bincount().tolist() == [400] * 10
    assert val.labels.bincount().tolist() == [100] * 10
    assert train.images.dtype == torch.uint8
    assert train.images.shape[1:] == (1, 28, 28)
    together = torch.cat([train.images, val.images]).flatten(1).unique(dim=0)
    assert len(together) == len(mnist.embedded_digits().images.flatten(1).unique(dim=0))  # nothing lost, none twice
    overlap = {bytes(i) for i in train.images.numpy()} & {bytes(i) for i in val.images.numpy()}
    assert not overlap
    assert int(train.images.long().sum()) == 104646036


def test_the_embedded_digits_are_what_numpy_reads_and_are_parsed_once(monkeypatch):
    parsed = []
    real = mnist.read_numbers
    monkeypatch.setattr(mnist, "read_numbers", lambda path: parsed.append(path) or real(path))
    mnist.embedded_digits.cache_clear()
    for data in (MNIST(embedded=True), MNIST(embedded=True, binarize="threshold"), StackedMNIST(embedded=True)):
        data.prepare_data()
        for split in ("train", "val", "test"):
            data.split(split)
    assert parsed == [mnist.embedded_file()]
    digits = mnist.embedded_digits()
    with gzip.open(mnist.embedded_file(), "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    assert torch.equal(digits.images, torch.from_numpy(table[:, :-1].reshape(-1, 1, 28, 28)))
    assert torch.equal(digits.labels, torch.from_numpy(table[:, -1]).long())
    assert (digits.images.dtype, digits.labels.dtype) == (torch.uint8, torch.int64)


def test_embedded_digits_that_are_damaged_are_refused(monkeypatch, tmp_path):
    whole = mnist.embedded_file().read_bytes()
    path = tmp_path / "mnist_5k.csv.gz"
    monkeypatch.setattr(mnist, "embedded_file", lambda: path)
    monkeypatch.setattr(mnist, "embedded_digits", mnist.embedded_digits.__wrapped__)
    for content in (whole[:1000], whole[:50_000] + bytes(100) + whole[50_100:], b"0,1,2\n"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"mnist_5k.csv.gz is missing or damaged .*; pip install --force-reinstall"):
            MNIST(embedded=True).split("train")
    for text in (gzip.decompress(whole).replace(b"253", b"252", 1), b"", b"1,2\n"):
        path.write_bytes(gzip.compress(text, 1))
        with pytest.raises(
            UserError, match=r"mnist_5k.csv.gz: its digits have the sha256 \w+, 1b845fda5282 is expected"
        ):
            MNIST(embedded=True).split("train")


@pytest.mark.parametrize("end", [0, 1, 2, 3])
def test_numbers_across_the_parts_of_a_file(tmp_path, end):
    values = np.arange(1_000_000) % 256
    path = tmp_path / "x.csv.gz"
    rows = "".join(",".join(map(str, row)) + "\n" for row in values.reshape(-1, 500).tolist())
    path.write_bytes(gzip.compress(f"{'7' * 3}\n"[3 - end :].encode() + rows.encode(), 1))
    found = archives.read_numbers(path)
    assert found.dtype == np.uint8
    assert np.array_equal(found[len(found) - len(values) :], values)


def test_the_files_are_those_that_torchvision_knows():
    assert list(MNIST.checksums) == [name for name, _ in torchvision.datasets.MNIST.resources]
    assert list(FashionMNIST.checksums) == [name for name, _ in torchvision.datasets.FashionMNIST.resources]


def test_splits_of_the_official_archives_do_not_overlap(small_mnist):
    data = MNIST(root=str(small_mnist), val_size=20)
    sizes = [len(data.split(s)) for s in ("train", "val", "test")]
    assert sizes == [40, 20, 20]
    assert data.split("val").labels.bincount().tolist() == [2] * 10
    rows = [{bytes(i) for i in data.split(s).images.numpy()} for s in ("train", "val", "test")]
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]


def test_a_changed_file_is_named_with_both_checksums(small_mnist):
    path = small_mnist / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-10]))
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz: its content has the checksum .* move it away"):
        MNIST(root=str(small_mnist)).prepare_data()
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz is truncated or damaged"):
        MNIST(root=str(small_mnist)).prepare_data()


@pytest.mark.parametrize("cut", [2, 10, 1000])
def test_a_truncated_idx_file_is_named(tmp_path, cut):
    path = tmp_path / "x-idx3-ubyte"
    path.write_bytes(idx(np.zeros((3, 28, 28)))[:-cut] if cut > 2 else b"ab")
    with pytest.raises(UserError, match="x-idx3-ubyte"):
        archives.read_idx(path)
    (tmp_path / "y.gz").write_bytes(gzip.compress(idx(np.zeros((3, 28, 28))))[:-4])
    with pytest.raises(UserError, match=r"y.gz is truncated"):
        archives.read_idx(tmp_path / "y.gz")


@pytest.mark.data
def test_the_real_fashion_mnist(data_root):
    data = FashionMNIST(root=str(data_root))
    data.prepare_data()
    assert [len(data.split(s)) for s in ("train", "val", "test")] == [55_000, 5_000, 10_000]
    assert data.split("test").labels.bincount().tolist() == [1000] * 10


@pytest.mark.data
def test_the_official_digits_are_not_the_embedded_ones(data_root):
    images = torch.from_numpy(archives.read_idx(data_root / "mnist" / "t10k-images-idx3-ubyte.gz"))
    official = {bytes(i) for i in images.numpy()}
    assert not official & {bytes(i[0]) for i in mnist.embedded_digits().images.numpy()}
