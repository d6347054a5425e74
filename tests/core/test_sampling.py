"""Paths between latents."""

import math

import pytest
import torch
from torch import nn

from lit_gen.core import randomness
from lit_gen.core.sampling import Sampler, great_circle, one_pass


class Drawing(Sampler, nn.Module):
    """A module that draws by one convolution after a linear layer."""

    seed, device = 3, torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(5, 48), nn.Unflatten(1, (3, 4, 4)), nn.Conv2d(3, 3, 3), nn.Tanh())
        self.network.latent_dim = 5

    def drawer(self, weights="ema"):
        return one_pass(self.network)


def test_images_are_those_of_whole_blocks_in_any_order():
    module = Drawing()
    with torch.no_grad():
        blocks = [module.network(randomness.latents(3, torch.arange(64 * b, 64 * b + 64), 5)) for b in range(3)]
    whole = torch.cat(blocks)
    turned = torch.randperm(192, generator=torch.Generator().manual_seed(0))
    for indices in (torch.arange(192), torch.arange(64, 128), torch.arange(60, 70), turned, torch.tensor([130])):
        assert torch.equal(module.sample(indices), whole[indices])
    repeated = torch.tensor([7, 150, 7, 7, 64, 150])
    assert torch.equal(module.sample(repeated), whole[repeated])


def test_numbers_are_joined_by_the_straight_line():
    path = great_circle(torch.tensor([[1.0], [1.0]]), torch.tensor([[-0.5], [2.0]]), 5)
    assert path[:, :, 0].tolist() == [[1.0, 0.625, 0.25, -0.125, -0.5], [1.0, 1.25, 1.5, 1.75, 2.0]]


@pytest.mark.parametrize("short_of_opposite", [0.0, 1e-6, 1e-4, 2e-3, 0.01, 0.1, 1.0])
@pytest.mark.parametrize("length", [1.0, 0.5])
def test_a_path_between_nearly_opposite_points_stays_among_their_lengths(short_of_opposite, length):
    angle = math.pi - short_of_opposite
    end = length * torch.tensor([[math.cos(angle), math.sin(angle)]])
    path = great_circle(torch.tensor([[1.0, 0.0]]), end, 9)[0]
    assert torch.isfinite(path).all()
    assert path.norm(dim=1).max() < 1.101
    torch.testing.assert_close(path[0], torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(path[-1], end[0])
    if length == 1 and short_of_opposite >= 0.01:  # around, not through the middle
        torch.testing.assert_close(path.norm(dim=1), torch.ones(9), rtol=0.02, atol=0)
        turned = torch.atan2(path[:, 1], path[:, 0])
        torch.testing.assert_close(turned, torch.linspace(0, angle, 9), rtol=0, atol=0.02)


def test_equal_lengths_keep_theirs():
    """White's formula: in the plane of both, at even steps of the angle."""
    a, b = torch.randn(2, 20, 64, generator=torch.Generator().manual_seed(0))
    b = b * a.norm(dim=1, keepdim=True) / b.norm(dim=1, keepdim=True)
    path = great_circle(a, b, 7)
    torch.testing.assert_close(path.norm(dim=2), a.norm(dim=1, keepdim=True).expand(20, 7))
    cosine = torch.nn.functional.cosine_similarity(path[:, 1:], path[:, :-1], dim=2)
    torch.testing.assert_close(cosine, cosine[:, :1].expand(20, 6), rtol=0, atol=1e-4)
    torch.testing.assert_close(path[:, 0], a)
