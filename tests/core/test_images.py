"""Levels to floats and back."""

import torch

from lit_gen.core.images import quantize, to_float


def test_levels_survive_the_round_trip():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    images = to_float(levels)
    assert images.min() == -1
    assert images.max() == 1
    assert torch.equal(quantize(images), levels)
