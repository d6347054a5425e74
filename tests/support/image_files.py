"""Small files of the official form of MNIST."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lit_gen.data.images import archives
from lit_gen.data.images.mnist import MNIST


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """Archives in the official form, 60 training and 20 test images, with their own checksums."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    sums = {}
    for part, n in (("train", 60), ("t10k", 20)):
        arrays = {"images-idx3": rng.integers(0, 256, (n, 28, 28)), "labels-idx1": np.arange(n) % 10}
        for kind, array in arrays.items():
            path = folder / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(idx(array)))
            sums[path.name] = archives.md5(path)
    monkeypatch.setattr(MNIST, "checksums", sums)
    return tmp_path / "data"


def picture_at(path, level, size=(8, 8)):
    """A picture of one grey level."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).save(path)
