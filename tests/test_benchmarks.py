"""What figures of speed compare with: loops by hand make the updates of a run, other loaders read the same images."""

import sys
from pathlib import Path

import pytest
import torch
import torchvision

from lit_gen.core.images import to_float

CONFIGS = ("gan_ring.yaml", pytest.param("gan_mlp.yaml", marks=pytest.mark.slow), "vae.yaml")


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        del sys.modules[name]


@pytest.mark.parametrize("config", CONFIGS)
def test_weights_are_equal_bit_by_bit(config, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    interleaved = pytest.importorskip("benchmarks.interleaved")
    small = ("--model.encoder.width=4", "--model.decoder.width=4") if config == "vae.yaml" else ()
    found = interleaved.measure(config, turns=2, steps=3, options=("--data.batch_size=16", *small))
    assert found.equal
    assert [len(lane) for lane in (found.fit, found.by_hand, found.floor)] == [2, 2, 2]
    assert all(seconds > 0 for seconds in (*found.fit, *found.by_hand, *found.floor))


def test_both_ways_to_read_data_give_the_same(tmp_path, capsys):
    data = pytest.importorskip("benchmarks.data")
    name, digits = data.find(data.mnist.MNIST)
    assert name == "embedded digits for mnist"
    digits = data.ImageSet(digits.images[::50], digits.labels[::50])
    for flip in (False, True):
        images, labels = next(data.as_torchvision(torchvision.datasets.MNIST, digits, flip))
        ours = (to_float(digits.images), to_float(digits.images).flip(-1))[: 1 + flip]
        for image, label in zip(images, labels, strict=True):
            same = [((mirrored - image).abs().amax((1, 2, 3)) < 1e-6).nonzero().flatten() for mirrored in ours]
            assert int(label) in digits.labels[torch.cat(same)].tolist()
    data.pictures(tmp_path / "pictures", classes=2, each=3)
    assert len(data.read(str(tmp_path))) == 6
    assert data.stat(str(tmp_path / "pictures")) == sum(p.stat().st_size for p in tmp_path.rglob("*.bmp"))
    data.show("a name", 4, lambda: None, 2, lambda: sum(range(10_000)), 1)
    assert capsys.readouterr().out.startswith("| a name ")
