"""Mixtures of Gaussians in the plane."""

import pytest
import torch

from lit_gen.data.images.toy import Toy2D, grid_centres, ring_centres


def test_the_modes_are_pacgans():
    ring, grid = ring_centres(), grid_centres()
    assert torch.allclose(ring.norm(dim=1), torch.ones(8))
    assert sorted(map(tuple, grid.tolist())) == [(a, b) for a in (-4, -2, 0, 2, 4) for b in (-4, -2, 0, 2, 4)]


@pytest.mark.parametrize(("kind", "modes", "sigma"), [("ring", 8, 0.01), ("grid", 25, 0.05)])
def test_toy_points_lie_around_their_modes(kind, modes, sigma):
    data = Toy2D(kind, size=20_000)
    train = data.split("train")
    assert (data.shape, data.num_classes) == ((2, 1, 1), modes)
    offsets = train.images.flatten(1) - data.centres[train.labels]
    assert abs(offsets.std().item() / sigma - 1) < 0.02
    assert train.labels.bincount().min() > 0.8 * 20_000 / modes
    assert not torch.equal(train.images[:100], data.split("val").images[:100])
    assert torch.equal(Toy2D(kind, size=20_000).split("train").images, train.images)
