"""Spectral norm against an independent computation."""

import copy

import pytest
import torch
from torch import nn

from lit_gen.models.nn.conditioning import ConditionalBatchNorm2d
from lit_gen.models.nn.normalization import apply_spectral_norm
from lit_gen.training.batch_norm import has_batch_norm


def one_of_each():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Sequential(nn.ConvTranspose2d(8, 4, 4)), nn.Linear(6, 5), nn.Embedding(7, 6)
    )
    for layer in (network[0], network[1][0], network[2], network[3]):
        nn.init.normal_(layer.weight)
    apply_spectral_norm(network)
    return network, [network[0], network[1][0], network[2], network[3]]


def test_spectral_norm_makes_the_largest_singular_value_one():
    network, layers = one_of_each()
    for _ in range(300):  # one power iteration for each use in training
        weights = [layer.weight for layer in layers]
    transposed = [1 if isinstance(layer, nn.ConvTranspose2d) else 0 for layer in layers]
    for weight, dim in zip(weights, transposed, strict=True):
        matrix = weight.detach().movedim(dim, 0).flatten(1)
        assert torch.linalg.svdvals(matrix)[0].item() == pytest.approx(1, abs=1e-4)
    assert all("weight" in layer.parametrizations for layer in layers)
    assert has_batch_norm(network) is False


def test_spectral_norm_iterates_in_training_alone():
    network, layers = one_of_each()
    vectors = {k: v.clone() for k, v in network.state_dict().items()}
    assert any(k.endswith("_u") for k in vectors)
    network.eval()
    assert torch.equal(layers[0].weight, layers[0].weight)
    assert all(torch.equal(v, vectors[k]) for k, v in network.state_dict().items())
    network.train()
    assert not torch.equal(layers[0].weight, layers[0].weight)
    assert not all(torch.equal(v, vectors[k]) for k, v in network.state_dict().items())


def test_spectral_norm_leaves_the_gains_of_conditional_batch_norm_and_copies_deeply():
    network = nn.ModuleDict({"norm": ConditionalBatchNorm2d(4, 3), "conv": nn.Conv2d(2, 4, 3)})
    apply_spectral_norm(network)
    assert (network["norm"].gain.weight == 1).all()
    copied = copy.deepcopy(network)
    x = torch.randn(2, 2, 5, 5)
    assert torch.equal(network.eval()["conv"](x), copied.eval()["conv"](x))
    network.train()["conv"](x)
    assert all(torch.equal(v, copied.state_dict()[k]) for k, v in network.state_dict().items() if "original" in k)
    u = "conv.parametrizations.weight.0._u"
    assert not torch.equal(network.state_dict()[u], copied.state_dict()[u])
