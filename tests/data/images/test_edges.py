"""Contours against SciPy's dilation."""

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation
from support.draws import normal

from lit_gen.core.errors import UserError
from lit_gen.core.images import quantize, to_float
from lit_gen.data.images.degradations import Rows
from lit_gen.data.images.edges import Edges

NONE = Rows(0, "val", torch.arange(3))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("threshold", [60, 200])
def test_contours_are_the_dilation_without_what_is_bright(channels, threshold):
    levels = quantize((normal(3, channels, 13, 17) * 0.5).float())
    found = Edges(threshold)(to_float(levels), NONE).images
    bright = levels.numpy() >= threshold
    ring = [[binary_dilation(c, np.ones((3, 3))) & ~c for c in image] for image in bright]
    assert found.shape == (3, 1, 13, 17)
    assert np.array_equal(found[:, 0].numpy(), np.array(ring).any(1) * 2.0 - 1)


def test_a_square_has_a_ring():
    image = torch.full((1, 1, 7, 7), -1.0)
    image[..., 2:5, 2:5] = 1
    found = Edges()(image, NONE).images[0, 0]
    ring = torch.full((7, 7), -1.0)
    ring[1:6, 1:6] = 1
    ring[2:5, 2:5] = -1
    assert torch.equal(found, ring)


def test_a_threshold_is_a_level():
    with pytest.raises(UserError, match=r"data.degradation.threshold: 0 was found, a level from 1 to 255 is expected"):
        Edges(0)
