"""Likelihood and diagnostics of one, two and three processes: the same bits, however the blocks fall."""

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
    command = [sys.executable, str(Path(__file__).parents[1] / "support" / "latent_ranks.py"), str(folder), *ports]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return {world: json.loads((folder / f"{world}.json").read_text(encoding="utf-8")) for world in (1, 2, 3)}


@pytest.mark.parametrize("count", [None, 200, 100, 3])
def test_every_number_and_record_is_the_same_at_any_world_size(found, count):
    suffix = "" if count is None else f"_count{count}"
    for name, expected in (("nll", f"nll_iw25{suffix}"), ("latents", f"mutual_information{suffix}")):
        one = found[1][f"{name} {count}"]
        assert expected in one["values"]
        assert one["protocol"]["count"] == (count or 301)
        for world in (2, 3):
            assert found[world][f"{name} {count}"] == one, world


def test_counts_are_different_numbers(found):
    values = {found[1][f"nll {count}"]["values"][f"nll_iw25{s}"] for count, s in ((None, ""), (200, "_count200"))}
    assert len(values) == 2


def test_a_mistake_on_one_rank_stops_all(found):
    for world in (1, 2, 3):
        assert found[world]["refused"] == [["not these", "not these"]] * world
