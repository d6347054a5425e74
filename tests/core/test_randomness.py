import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gen.core import randomness

CPU = torch.device("cpu")


def test_keys_differ_by_every_part_of_the_name_and_never_change():
    base = randomness.key(0, "order", 1, 2)
    others = [randomness.key(1, "order", 1, 2), randomness.key(0, "flip", 1, 2), randomness.key(0, "order", 2, 2)]
    others.append(randomness.key(0, "order", 1, 3))
    assert len({base, *others}) == 5
    # a published run is repeatable only while these stay
    assert randomness.key(0, "order", 0) == 3240643256997181863
    assert randomness.host(0, "order").integers(0, 1000, 4).tolist() == [755, 888, 689, 898]


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 12])
@pytest.mark.parametrize("shape", [(), (40,), (3, 20, 20), (3, 64, 64), (1, 200, 200)])
def test_parts_take_their_rows_of_one_draw(parts, shape):
    """Blocks of 2048, 64, 27, 2 and 1 rows; a part's rows begin and end anywhere in them."""
    each, whole = 120 // parts, randomness.Rows(CPU, 3, "z", 5)
    some = [randomness.Rows(CPU, 3, "z", 5, part, parts) for part in range(parts)]
    for draw in ("normal", "uniform", "uniform"):
        one = getattr(whole, draw)(120, *shape)
        assert torch.equal(torch.cat([getattr(part, draw)(each, *shape) for part in some]), one)
        assert not torch.equal(one, getattr(randomness.Rows(CPU, 3, "z", 6), draw)(120, *shape))
        assert len(one.reshape(120, -1).unique(dim=0)) == 120


def test_a_first_block_is_what_torch_draws_with_its_key():
    """So that a published run of at most 64 rows is repeatable."""
    generator = torch.Generator().manual_seed(randomness.key(3, "z", 5) >> 1)
    assert torch.equal(randomness.Rows(CPU, 3, "z", 5).normal(48, 7), torch.randn(48, 7, generator=generator))
    generator.manual_seed(randomness.key(3, "z, draw 1", 5, 1) >> 1)
    rows = randomness.Rows(CPU, 3, "z", 5)
    rows.normal(48)
    assert torch.equal(rows.uniform(100, 40)[64:], torch.rand(36, 40, generator=generator))


def test_blocks_and_calls_are_independent_standard_normal():
    rows = randomness.Rows(CPU, 0, "z", 0)
    first, second = rows.normal(2048, 8), rows.normal(2048, 8)
    assert abs(float(first.mean())) < 0.03
    assert abs(float(first.std()) - 1) < 0.02
    blocks = torch.cat([first, second]).view(64, -1)
    assert (torch.corrcoef(blocks) - torch.eye(64)).abs().max() < 0.2  # 512 numbers each: deviation 0.044


@pytest.mark.parametrize("world", [1, 8, 64])
def test_a_rank_draws_no_more_than_its_rows_and_the_ends_of_two_blocks(monkeypatch, world):
    drawn = []
    randn = torch.randn

    def counting(shape, **options):
        drawn.append(math.prod(shape))
        return randn(shape, **options)

    monkeypatch.setattr(torch, "randn", counting)
    for rank in {0, world // 2, world - 1}:
        drawn.clear()
        randomness.Rows(CPU, 0, "z", 0, rank, world).normal(50, 3, 16, 16)
        assert sum(drawn) <= 50 * 768 + 2 * randomness.NUMBERS


def test_rows_of_a_draw_on_the_host_do_not_depend_on_which_are_asked_for():
    def draw(host, n):
        return host.integers(0, 1000, (n, 3))

    whole = randomness.HostRows(1, torch.arange(2000), 2000).draw("crop", 2, draw, 3)
    assert np.array_equal(whole[:682], randomness.host(1, "crop", 2).integers(0, 1000, (682, 3)))
    some = torch.tensor([1999, 3, 681, 682, 1363, 1364])
    asked = randomness.HostRows(1, some, 2000)
    for _ in range(2):
        assert torch.equal(asked.draw("crop", 2, draw, 3), whole[some])
    assert not torch.equal(asked.draw("crop", 2, draw, 30), whole[some])  # blocks of another size


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 500), min_size=1, max_size=40))
def test_a_latent_depends_on_its_own_index_alone(indices):
    together = randomness.latents(0, torch.tensor(indices), 9)
    alone = torch.cat([randomness.latents(0, torch.tensor([i]), 9) for i in indices])
    assert torch.equal(together, alone)


def test_latents_are_standard_normal():
    z = randomness.latents(0, torch.arange(20_000), 4).numpy()
    assert np.abs(z.mean(0)).max() < 0.03
    assert np.abs(np.cov(z.T) - np.eye(4)).max() < 0.04


def test_global_seed_differs_by_step_and_rank_and_repeats():
    def draw(step, rank):
        randomness.seed_global(0, step, rank, CPU)
        return torch.rand(3)

    assert torch.equal(draw(1, 0), draw(1, 0))
    assert not torch.equal(draw(1, 0), draw(1, 1))
    assert not torch.equal(draw(1, 0), draw(2, 0))


def test_global_seeds_give_the_draws_of_torchs_own_function(monkeypatch):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(randomness.key(3, "global", 4, 5) >> 1)
        expected = torch.rand(3)
    monkeypatch.setattr(torch, "manual_seed", None)  # it costs more than a small step
    randomness.seed_global(3, 4, 5, CPU)
    assert torch.equal(torch.rand(3), expected)
    randomness.seed_block(3, 4, CPU)
    assert not torch.equal(torch.rand(3), expected)
