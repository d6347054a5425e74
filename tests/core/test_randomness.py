import numpy as np
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


def test_ranks_take_their_rows_of_one_draw():
    place = torch.device("cpu")
    whole, parts = randomness.Rows(place, 3, "z", 5), [randomness.Rows(place, 3, "z", 5, rank, 4) for rank in range(4)]
    for draw in ("normal", "uniform", "uniform"):  # successive draws continue the stream
        one = getattr(whole, draw)(64, 7)
        assert torch.equal(torch.cat([getattr(part, draw)(16, 7) for part in parts]), one)
        assert not torch.equal(one, getattr(randomness.Rows(place, 3, "z", 6), draw)(64, 7))


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
