"""The loops by hand, which figures of speed compare with, make the updates of a run."""

import sys
from pathlib import Path

import pytest

CONFIGS = ("gan_ring.yaml", pytest.param("gan_mlp.yaml", marks=pytest.mark.slow), "vae.yaml")


@pytest.mark.parametrize("config", CONFIGS)
def test_weights_are_equal_bit_by_bit(config, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    interleaved = pytest.importorskip("benchmarks.interleaved")
    small = ("--model.encoder.width=4", "--model.decoder.width=4") if config == "vae.yaml" else ()
    found = interleaved.measure(config, turns=2, steps=3, options=("--data.batch_size=16", *small))
    assert found.equal
    assert [len(lane) for lane in (found.fit, found.by_hand, found.floor)] == [2, 2, 2]
    assert all(seconds > 0 for seconds in (*found.fit, *found.by_hand, *found.floor))
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        del sys.modules[name]
