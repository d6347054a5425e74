"""Metrics of one, two and three processes: the same bits, and controls that are not."""

import os

import pytest
from support import kills, ranks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return kills.at_each_world_size(ranks.rank, tmp_path_factory.mktemp("ranks"))


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
