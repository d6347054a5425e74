"""Likelihood and diagnostics of one, two and three processes: the same bits, however the blocks fall."""

import os

import pytest
from support import kills, latent_ranks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return kills.at_each_world_size(latent_ranks.rank, tmp_path_factory.mktemp("ranks"))


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
