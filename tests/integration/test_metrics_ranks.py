"""Metrics of one, two and three processes: the same bits, and controls that are not."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [str(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    command = [sys.executable, str(Path(__file__).parents[1] / "support" / "ranks.py"), str(folder), *ports]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, env=environment)
    assert done.returncode == 0, done.stderr
    return {world: json.loads((folder / f"{world}.json").read_text(encoding="utf-8")) for world in (1, 2, 3)}


def test_every_metric_is_the_same_at_any_world_and_batch_size(found):
    one = found[1]["exact"]
    assert set(one) == {"fd", "kd", "kd_std", "cs", "cs_std", "precision", "recall", "density", "coverage"}
    for world in (1, 2, 3):
        assert found[world]["exact"] == one, world
        assert found[world]["batch sizes are equal"]
        assert found[world]["block is equal"]


def test_streaming_is_the_same_to_a_billionth(found):
    for world in (1, 2, 3):
        assert found[world]["streaming"]["fd"] == pytest.approx(found[1]["exact"]["fd"], rel=1e-9)


def test_an_image_that_is_not_finite_is_found_and_no_rank_waits_for_ever(found):
    for world in (1, 2, 3):
        exact, streaming = found[world]["not finite"]
        assert "NaN or infinity in 1 of 301 rows" in exact
        assert "NaN or infinity in the features of 301 rows" in streaming


def test_controls_differ(found):
    """A sampler that pads changes the number a million times more than rounding does; other blocks change bits."""
    assert [found[world]["repeated"] for world in (1, 2, 3)] == [0, 1, 2]
    for world in (2, 3):
        assert found[world]["padded"]["fd"] != pytest.approx(found[1]["exact"]["fd"], rel=1e-6)
    assert not found[1]["ragged is equal"]
