"""Archives of arrays, and data sets of torch."""

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset, TensorDataset

from lit_gen.core.errors import UserError
from lit_gen.data.images.tensors import TensorSet


@pytest.mark.parametrize("layout", ["NHW", "NHWC", "NCHW"])
def test_npz(tmp_path, layout):
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 8, 8)).astype(np.uint8)
    stored = {"NHW": images[:, 0], "NHWC": images.transpose(0, 2, 3, 1), "NCHW": images}[layout]
    np.savez(tmp_path / "x.npz", images=stored, labels=np.arange(12) % 3)
    data = TensorSet(str(tmp_path / "x.npz"), val_size=3)
    assert data.num_classes == 3
    assert data.shape == ((1, 8, 8) if layout == "NHW" else (3, 8, 8))
    assert data.split("val").labels.tolist() == [0, 1, 2]
    assert torch.equal(data.split("val").images[:, 0], torch.from_numpy(images[9:, 0]))


def test_a_torch_dataset_is_read_anew_or_kept_under_a_name():
    one, two = (torch.full((10, 1, 4, 4), v, dtype=torch.uint8) for v in (1, 2))
    for images in (one, two):
        data = TensorSet(TensorDataset(images, torch.arange(10)))
        assert torch.equal(data.split("train").images, images)
        assert data.num_classes == 10
    kept = [TensorSet(TensorDataset(images, torch.arange(10)), cache="mine") for images in (one, two)]
    assert all(torch.equal(data.split("train").images, one) for data in kept), "the name stands for the content"


def test_a_torch_dataset_from_the_command_line(lit_gen):
    source = "{class_path: torchvision.datasets.FakeData, init_args: {size: 40, image_size: [3, 32, 32]}}"
    net = (
        "--model.generator=lit_gen.models.gan.mlp.Generator",
        "--model.discriminator=lit_gen.models.gan.mlp.Discriminator",
    )
    code, _, err = lit_gen(
        "fit",
        "--config=gan_mlp.yaml",
        "--config=smoke.yaml",
        *net,
        "--data=TensorSet",
        f"--data.source={source}",
        "--trainer.callbacks.FID=false",  # which looks through lenet-mnist, at grey 28x28 images
    )
    assert code == 0, err


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no zip", "is truncated or is no .npz"),
        ({"pictures": np.zeros((2, 4, 4), np.uint8)}, "found 'pictures', but nothing under 'images'"),
        ({"images": np.zeros((2, 4, 4), np.float32)}, r"floats from 0 to 0 were found"),
        ({"images": np.zeros((2, 4, 4, 4), np.uint8)}, r"found uint8 \(2, 4, 4, 4\)"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(2)}, r"labels are float64 \(2,\)"),
        (
            {"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(3, int)},
            "3 labels were found, one for each of 2 images is expected",
        ),
    ],
    ids=["no zip", "no images", "float", "four axes", "float labels", "labels too many"],
)
def test_npz_refused(tmp_path, content, told):
    path = tmp_path / "x.npz"
    path.write_bytes(content) if isinstance(content, bytes) else np.savez(path, **content)
    with pytest.raises(UserError, match=told):
        TensorSet(str(path))


def test_a_data_set_without_a_length_is_refused():
    class Endless(IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(UserError, match=r"data.source: Endless has no length, a data set with an index is expected"):
        TensorSet(Endless())


def test_missing_npz():
    with pytest.raises(UserError, match=r"data.source: x.npz was not found"):
        TensorSet("x.npz")
