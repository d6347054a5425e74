"""What figures compare with: loops by hand make the updates of a run, other loaders read the same images; distances."""

import itertools
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from support.draws import normal
from torch import nn

from lit_gen.core.images import to_float
from lit_gen.data.images.points import Points2D
from lit_gen.data.text.windows import TokenStream, WindowLoader
from lit_gen.models.diffusion.coupling import Coupling, OptimalTransport
from lit_gen.models.lm.transformer import Transformer

ROOT = Path(__file__).parents[1]
CODE = """
from types import SimpleNamespace as GPTConfig
import torch
class GPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.table = torch.nn.Embedding(config.vocab_size, config.vocab_size)
    def configure_optimizers(self, weight_decay, learning_rate, betas, device_type):
        return torch.optim.AdamW(self.parameters(), learning_rate, betas, weight_decay=weight_decay)
    def forward(self, x, y):
        return None, torch.nn.functional.cross_entropy(self.table(x).flatten(0, 1), y.flatten())
"""
"""nanoGPT's calls, around a table of pairs of characters."""
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


def test_nanogpt_takes_turns_without_a_trace_of_them(tmp_path, monkeypatch):
    """In turns it trains as without; random numbers of the run that it waits for are not touched."""
    nanogpt = pytest.importorskip("benchmarks.nanogpt")
    (tmp_path / "model.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "model", raising=False)
    tokens = np.arange(1000, dtype=np.uint16) % 7
    before = torch.get_rng_state()
    in_turns, at_once, another = (nanogpt.NanoGPT(tokens, 7, seed) for seed in (0, 0, 1))
    for steps in (3, 1, 2):
        in_turns.run(steps)
    at_once.run(6)
    another.run(6)
    assert torch.equal(torch.get_rng_state(), before)
    weights = [loop.network.table.weight for loop in (in_turns, at_once, another)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    monkeypatch.delitem(sys.modules, "model")


@pytest.mark.parametrize("prefix", [None, 3])
def test_losses_beside_nanogpt_count_every_token_once(prefix):
    nanogpt = pytest.importorskip("benchmarks.nanogpt")
    tokens = np.arange(150, dtype=np.uint16) % 7
    windows = WindowLoader(TokenStream(tokens, prefix, 150, 150, 0, None, 7), 64, 64, 2)
    found = nanogpt.mean(windows, lambda tokens: tokens[:, 1:].float())
    assert found == pytest.approx(tokens[prefix is None :].mean())


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


def test_images_are_those_of_the_bare_generator_and_of_the_loop_by_hand(monkeypatch):
    generation = pytest.importorskip("benchmarks.generation")
    monkeypatch.setattr(generation, "IMAGES", 3 * generation.BLOCK)
    run, generator, latents = generation.untrained("gan_mlp.yaml", generation.GANS["gan_mlp.yaml"]())
    by_command = partial(generation.images, run)
    for other in (partial(generation.bare, generator, latents), partial(generation.by_hand, generator)):
        assert len(generation.compare(1, other, by_command)) == 1  # which ends with a message where images differ


def test_the_squared_distance_is_the_least_of_all_permutations():
    flow_matching = pytest.importorskip("benchmarks.flow_matching")
    a, b = normal(6, 2), 2 * normal(6, 2, seed=1)
    least = min((a - b[list(order)]).square().sum(1).mean().item() for order in itertools.permutations(range(6)))
    assert flow_matching.squared_distance(a, b) == pytest.approx(least)
    shift = torch.tensor([3.0, -4.0])
    assert flow_matching.squared_distance(a, a.flip(0) + shift) == pytest.approx(25)


def test_the_trace_is_that_of_the_moons():
    """Of the arcs: 1/2 and 1/2 - 4/pi^2 within a moon; means 1 and 4/pi - 1/2 apart. The noise is u (1, 1), u < 0.2."""
    flow_matching = pytest.importorskip("benchmarks.flow_matching")
    within, apart = 1 - 4 / math.pi**2, 1 + (4 / math.pi - 0.5) ** 2
    assert abs(flow_matching.TRACE - 9 * (within + apart / 4 + 2 * 0.2**2 / 12)) < 1e-4
    points = Points2D("torchcfm_moons", size=20_000).split("train").images.flatten(1)
    assert points.T.cov().trace().item() == pytest.approx(flow_matching.TRACE, rel=0.01)


class InOrder(Coupling):
    def pair(self, data, noise, labels=None):
        return torch.arange(len(data))


def test_both_models_of_a_seed_differ_by_their_pairs_alone():
    flow_matching = pytest.importorskip("benchmarks.flow_matching")
    alone, in_order, near = (
        torch.cat([p.flatten() for p in flow_matching.trained(coupling, 0, 4).parameters()])
        for coupling in (None, InOrder(), OptimalTransport())
    )
    assert torch.equal(alone, in_order)
    assert not torch.equal(alone, near)


def test_the_table_has_published_numbers_beside_ours(capsys):
    flow_matching = pytest.importorskip("benchmarks.flow_matching")
    flow_matching.main(["--seeds", "2", "--steps", "2", "--samples", "32"])
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert [tuple(row[:2]) for row in rows[2:]] == list(flow_matching.PUBLISHED)
    assert rows[2][2] == rows[4][2] == "1"
    seeds = [float(line.partition("independent 1 Euler step ")[2].partition(",")[0]) for line in lines[:2]]
    assert rows[2][3] == flow_matching.told(seeds)
    assert flow_matching.told([1.0, 3.0]) == "2.000 ± 1.414"
