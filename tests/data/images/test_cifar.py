"""CIFAR-10 from its archive."""

import io
import tarfile

import numpy as np
import pytest
import torch

from lit_gen.core.errors import UserError
from lit_gen.data.images import archives, cifar
from lit_gen.data.images.cifar import CIFAR10


@pytest.fixture
def small_cifar(tmp_path, monkeypatch):
    """The binary archive in the official form, 40 rows per file."""
    rng = np.random.default_rng(0)
    root = tmp_path / "data"
    root.mkdir()
    tables = {}
    with tarfile.open(root / cifar.ARCHIVE, "w:gz") as tar:
        for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
            table = rng.integers(0, 256, (40, 3073)).astype(np.uint8)
            table[:, 0] = np.arange(40) % 10
            tables[name] = table
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = table.size
            tar.addfile(info, io.BytesIO(table.tobytes()))
    monkeypatch.setattr(cifar, "MD5", archives.md5(root / cifar.ARCHIVE))
    return root, tables


def test_cifar_is_read_from_the_binary_archive(small_cifar):
    root, tables = small_cifar
    data = CIFAR10(root=str(root), val_size=20)
    train, val, test = (data.split(s) for s in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (180, 20, 40)
    assert train.images.shape[1:] == data.shape == (3, 32, 32)
    row = tables["test_batch.bin"][7]
    assert test.labels[7] == row[0]
    assert torch.equal(test.images[7], torch.from_numpy(row[1:].reshape(3, 32, 32)))  # planes: red, green, blue


def test_cifar_names_a_missing_or_short_member(small_cifar):
    root, _ = small_cifar
    with pytest.raises(UserError, match=r"data_batch_9.bin is missing"):
        cifar.read_binary(root / cifar.ARCHIVE, ["data_batch_9.bin"])
    whole = (root / cifar.ARCHIVE).read_bytes()
    (root / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut.tar.gz is truncated or damaged"):
        cifar.read_binary(root / "cut.tar.gz", ["test_batch.bin"])
