"""Classes as an input, against an independent computation."""

import torch
import torch.nn.functional as F
from torch import nn

from lit_gen.models.nn.conditioning import ConditionalBatchNorm2d, append_one_hot


def test_one_hot_labels_beside_vectors_and_maps():
    labels = torch.tensor([2, 0])
    vectors = append_one_hot(torch.full((2, 1), 5.0), labels, 3)
    assert vectors.tolist() == [[5, 0, 0, 1], [5, 1, 0, 0]]
    maps = append_one_hot(torch.full((2, 1, 2, 3), 5.0), labels, 3)
    assert maps.shape == (2, 4, 2, 3)
    assert (maps == vectors[:, :, None, None]).all()


def test_conditional_batch_norm_is_batch_norm_then_a_gain_and_bias_by_class():
    layer, x, labels = ConditionalBatchNorm2d(5, 3), torch.randn(6, 5, 4, 4), torch.tensor([0, 2, 1, 1, 0, 2])
    torch.testing.assert_close(layer(x, labels), F.batch_norm(x, None, None, training=True))  # at first: plain
    nn.init.normal_(layer.gain.weight)
    nn.init.normal_(layer.bias.weight)
    out = layer(x, labels)
    normed = (x - x.mean([0, 2, 3], keepdim=True)) / (x.var([0, 2, 3], correction=0, keepdim=True) + 1e-5).sqrt()
    for row, label in enumerate(labels.tolist()):
        for feature in range(5):
            expected = layer.gain.weight[label, feature] * normed[row, feature] + layer.bias.weight[label, feature]
            torch.testing.assert_close(out[row, feature], expected)
