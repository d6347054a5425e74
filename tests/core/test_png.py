"""PNG files of 8 and 16 bits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_gen.core.ours import is_ours
from lit_gen.core.png import bits_of, save_image

LEVELS = torch.tensor([[0.0, 0.25], [0.4, 1.0], [0.2, 0.6]])


@pytest.mark.parametrize(("bits", "most"), [(8, 255), (16, 65535)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_nearest_level_is_written_and_the_mark_of_lit_gen(bits, most, channels):
    image = torch.stack([LEVELS**k for k in range(1, channels + 1)])
    save_image(image * 2 - 1, Path("a.png"), bits)
    with Image.open("a.png") as opened:
        found, kept = np.asarray(opened).astype(int), most if channels == 1 else 255
        assert opened.text == {"Software": "lit_gen"}
    with Image.open("a.png") as opened:
        opened.verify()  # the check sums
    expected = (image.double() * most).round().numpy().transpose(1, 2, 0)
    expected = expected[..., 0] if channels == 1 else np.floor(expected / (most + 1) * 256)  # Pillow takes 8 bits
    assert np.array_equal(found, expected)
    assert found.max() == kept
    assert is_ours(Path("a.png"))


def test_numbers_beyond_the_range_are_clamped():
    save_image(torch.tensor([[[-9.0, 9.0]]]), Path("a.png"), 16)
    with Image.open("a.png") as opened:
        assert np.asarray(opened).tolist() == [[0, 65535]]


def test_bits():
    assert [bits_of(levels) for levels in (None, 2, 256, 257, 65536)] == [8, 8, 8, 16, 16]
