"""Mixtures of Gaussians in the plane."""

import pytest
import torch

from lit_gen.data.images.toy import EIGHT_SIGMA, Toy2D, grid_centres, ring_centres
from lit_gen.protocols.data import Mixture


def test_the_modes_are_pacgans():
    ring, grid = ring_centres(), grid_centres()
    assert torch.allclose(ring.norm(dim=1), torch.ones(8))
    assert sorted(map(tuple, grid.tolist())) == [(a, b) for a in (-4, -2, 0, 2, 4) for b in (-4, -2, 0, 2, 4)]


@pytest.mark.parametrize(
    ("kind", "modes", "sigma"), [("ring", 8, 0.01), ("grid", 25, 0.05), ("8gaussians", 8, EIGHT_SIGMA)]
)
def test_toy_points_lie_around_their_modes(kind, modes, sigma):
    data = Toy2D(kind, size=20_000)
    train = data.split("train")
    assert (data.shape, data.num_classes) == ((2, 1, 1), modes)
    offsets = train.images.flatten(1) - data.centres[train.labels]
    assert abs(offsets.std().item() / sigma - 1) < 0.02
    assert train.labels.bincount().min() > 0.8 * 20_000 / modes
    assert not torch.equal(train.images[:100], data.split("val").images[:100])
    assert torch.equal(Toy2D(kind, size=20_000).split("train").images, train.images)


def test_eight_gaussians_are_torchcfms():
    """Their ``eight_normal_sample(n, 2, scale=5, var=0.1)``: the covariance is the root of 0.1, times the identity."""
    data, root = Toy2D("8gaussians"), 5 / 2**0.5
    assert isinstance(data, Mixture)
    expected = [(5, 0), (-5, 0), (0, 5), (0, -5), (root, root), (root, -root), (-root, root), (-root, -root)]
    distances = torch.cdist(data.centres, torch.tensor(expected))
    assert (distances < 1e-5).sum(0).tolist() == (distances < 1e-5).sum(1).tolist() == [1] * 8
    assert data.sigma**2 == pytest.approx(0.1**0.5)
