"""Mixtures of latents: fitted and drawn the same on any number of threads and processes."""

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from support.drawing_ranks import draw_on_a_rank
from threadpoolctl import threadpool_limits

from lit_gen.evaluation.latent_sources import Mixture


def test_a_mixture_finds_clusters_and_draws_them_again():
    rng, centers = np.random.default_rng(0), np.array([[-4.0, 0], [4, 0], [0, 6]])
    which = rng.choice(3, 3000, p=[0.2, 0.3, 0.5])
    z = torch.from_numpy(centers[which] + 0.5 * rng.standard_normal((3000, 2))).float()
    mixture = Mixture.fit(z, 3, 0)
    order = mixture.means[:, 0].argsort()
    assert mixture.means[order] == pytest.approx(centers[[0, 2, 1]], abs=0.1)
    assert np.diff(mixture.edges, prepend=0)[order] == pytest.approx([0.2, 0.5, 0.3], abs=0.03)
    covariances = mixture.factors @ mixture.factors.transpose(0, 2, 1)
    assert covariances == pytest.approx(np.tile(0.25 * np.eye(2), (3, 1, 1)), abs=0.04)
    drawn = mixture.draw(5, torch.arange(20_000))
    nearest = torch.cdist(drawn.double(), torch.from_numpy(centers)).argmin(1)
    assert np.bincount(nearest) / 20_000 == pytest.approx([0.2, 0.3, 0.5], abs=0.03)
    for i in range(3):
        assert drawn[nearest == i].mean(0).numpy() == pytest.approx(centers[i], abs=0.1)
        assert drawn[nearest == i].std(0).numpy() == pytest.approx([0.5, 0.5], abs=0.05)


def test_draws_are_a_function_of_seed_and_index():
    mixture = Mixture.fit(torch.from_numpy(np.random.default_rng(0).standard_normal((300, 3))).float(), 2, 0)
    whole = mixture.draw(1, torch.arange(200))
    assert torch.equal(mixture.draw(1, torch.tensor([199, 7])), whole[[199, 7]])
    assert not torch.equal(mixture.draw(2, torch.arange(200)), whole)


def test_a_full_covariance_is_drawn_with_its_correlation():
    factor = np.array([[[1.0, 0], [0.9, 0.3]]])
    drawn = Mixture(np.ones(1), np.zeros((1, 2)), factor, True).draw(0, torch.arange(20_000))
    assert torch.cov(drawn.T).numpy() == pytest.approx(factor[0] @ factor[0].T, abs=0.03)


def test_the_fit_is_the_same_on_any_number_of_threads():
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((5000, 20))).float()
    found = []
    for threads in (1, 2, 3):
        with threadpool_limits(threads):
            found.append(Mixture.fit(z, 5, 0))
    assert all(np.array_equal(a, b) for a, b in zip(found[0], found[2], strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(found[0], found[1], strict=True))


@pytest.mark.slow  # starts the processes of two worlds
def test_two_processes_draw_what_one_draws(tmp_path):
    draw_on_a_rank(0, 1, tmp_path)
    mp.spawn(draw_on_a_rank, (2, tmp_path), nprocs=2)
    for name in ("gmm", "copies"):
        one, two = (torch.load(tmp_path / f"{name}{world}.pt") for world in (1, 2))
        assert len(one) == 201
        assert torch.equal(one, two)
    one, *others = (np.load(tmp_path / f"means{name}.npy") for name in ("1-0", "2-0", "2-1"))
    assert all(np.array_equal(one, other) for other in others)
