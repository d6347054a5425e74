"""Couplings: the best of all permutations, one for each class, and what optimal transport does to the least loss."""

import itertools

import numpy as np
import pytest
import torch
from support.draws import normal

from lit_gen.core.errors import UserError
from lit_gen.models.diffusion.coupling import OptimalTransport
from lit_gen.models.diffusion.paths import DDPM, EDM, Linear, VariancePreserving


def cost(data, noise, chosen):
    return float((data - noise[chosen]).square().sum())


@pytest.mark.parametrize("seed", range(5))
def test_no_permutation_costs_less(seed):
    data, noise = 3 * normal(6, 2, 1, 2, seed=seed) + 1, normal(6, 2, 1, 2, seed=seed + 100)
    chosen = OptimalTransport().pair(data, noise)
    costs = {p: cost(data, noise, list(p)) for p in itertools.permutations(range(6))}
    assert tuple(chosen.tolist()) == min(costs, key=costs.get)
    assert chosen.dtype == torch.int64


def test_pairs_of_numbers_are_in_order():
    """Whatever the scale of the noise; so no noise is left out or used twice."""
    data, noise = normal(50, 1, 1, 1), normal(50, 1, 1, 1, seed=1)
    for scale in (1.0, 80.0):
        chosen = OptimalTransport().pair(data.float(), (scale * noise).float())
        assert noise[chosen].flatten().argsort().equal(data.flatten().argsort())
    assert chosen.sort().values.equal(torch.arange(50))


def test_a_class_keeps_its_noise():
    """Noise i has the label of data i; within each class no permutation costs less."""
    labels = torch.tensor([2, 0, 2, 2, 0, 1, 0, 2])
    data, noise = normal(8, 2, 1, 1) + labels.view(-1, 1, 1, 1), normal(8, 2, 1, 1, seed=1)
    chosen = OptimalTransport(within_classes=True).pair(data, noise, labels)
    assert labels[chosen].equal(labels)
    for label in range(3):
        rows = (labels == label).nonzero().flatten()
        least = min(cost(data[rows], noise, list(p)) for p in itertools.permutations(rows.tolist()))
        assert cost(data[rows], noise, chosen[rows]) == pytest.approx(least)
    over_all = OptimalTransport().pair(data, noise, labels)
    assert over_all.equal(OptimalTransport().pair(data, noise))
    assert not over_all.equal(chosen)


def test_noise_of_a_class_stays_normal_only_within_classes():
    """Over all rows, classes at -4 and 4 get a half of the noise each, of mean 0.8; within a class it has mean 0."""
    labels = torch.arange(256) % 2
    data = (8.0 * labels - 4).view(-1, 1, 1, 1) + 0.1 * normal(256, 1, 1, 1)
    noise = normal(256, 1, 1, 1, seed=1)
    for coupling, expected in ((OptimalTransport(), (2 / np.pi) ** 0.5), (OptimalTransport(within_classes=True), 0)):
        mine = noise[coupling.pair(data, noise, labels)][labels == 1]
        assert float(mine.mean()) == pytest.approx(expected, abs=4 / 128**0.5)


def test_the_least_loss_lies_between_that_of_chance_and_that_of_the_transport_map():
    """Data N(0, 4), flow matching: the velocity that x_t leaves open, in closed form without a coupling.

    With the transport map x_0 = 2 e nothing is left open. In batches of N numbers the share that is left open falls
    with N.
    """
    t, rows = 0.5, 2048
    data, noise = 2 * normal(rows, 1, 1, 1), normal(rows, 1, 1, 1, seed=1)

    def open_(size):
        batches = [slice(start, start + size) for start in range(0, rows, size)]
        pairs = (
            torch.cat([noise[b][OptimalTransport().pair(data[b], noise[b])] for b in batches]) if size > 1 else noise
        )
        x, velocity = ((1 - t) * data + t * pairs).flatten(), (pairs - data).flatten()
        slope = (x * velocity).mean() / x.square().mean()  # jointly nearly Gaussian: the best guess is linear
        return float((velocity - slope * x).square().mean())

    chance = 4 / ((1 - t) ** 2 * 4 + t**2)  # v (a sigma - b alpha)^2 / (alpha^2 v + sigma^2), with a = -1 and b = 1
    found = [open_(size) for size in (1, 4, 16, 64, 256)]
    assert found[0] == pytest.approx(chance, rel=0.1)
    assert all(then < 0.6 * now for now, then in itertools.pairwise(found))
    assert 0 < found[-1] < 0.03 * chance


@pytest.mark.parametrize("path", [EDM(), VariancePreserving(), DDPM(20, "cosine")])
def test_a_path_that_ends_with_some_of_the_data(path):
    sentence = rf"^model\.coupling: OptimalTransport was found, but the path {type(path).__name__} ends with some"
    with pytest.raises(UserError, match=sentence):
        OptimalTransport().check(path, conditional=False)


def test_classes_are_heeded_where_there_are_some():
    OptimalTransport().check(Linear(), conditional=False)
    OptimalTransport(within_classes=True).check(Linear(), conditional=True)
    for within, told in (
        (False, "false was found, but the network is cond"),
        (True, "true was found, but the network is unc"),
    ):
        with pytest.raises(UserError, match=rf"^model\.coupling\.within_classes: {told}"):
            OptimalTransport(within).check(Linear(), conditional=not within)
