"""What figures of speed compare with: loops by hand make the updates of a run, other loaders read the same images."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from lit_gen.core.images import to_float
from lit_gen.models.lm.transformer import Transformer

ROOT = Path(__file__).parents[1]
CONFIGS = ("gan_ring.yaml", pytest.param("gan_mlp.yaml", marks=pytest.mark.slow), "vae.yaml")


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
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


def test_operations_of_gpt2_by_token():
    """6 for each of the parameters but the places' 1,024 x 768, and 12 for each layer, place and width of attention."""
    lanes = pytest.importorskip("benchmarks.gpu_lanes")
    with torch.device("meta"):
        module = nn.Module()
        module.network = Transformer(50257, 1024, n_layer=12, n_head=12, n_embd=768)
    assert lanes.flops(module) == 6 * (124_439_808 - 1024 * 768) + 12 * 12 * 1024 * 768
    assert lanes.flops(nn.Module()) is None


@pytest.mark.slow
def test_every_check_of_a_gpu_runs_on_a_cpu():
    found = subprocess.run([ROOT / "benchmarks/gpu.sh", "--dry-run"], capture_output=True, text=True, check=True)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found.stdout.splitlines() if "|" in line][2:]
    assert len(rows) == 8
    assert all(row[1] == "not measured" or row[1].endswith("tiny)") or row[1].endswith("tiny") for row in rows), rows
    assert [row[0] for row in rows if "tiny" in row[2]] == [rows[i][0] for i in (2, 4, 6)], "a loop by hand beside it"


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
