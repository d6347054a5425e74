"""Digits8: scikit-learn's own loader has the same digits, and levels survive the way through images."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from lit_gen.core.errors import UserError
from lit_gen.core.images import level_of, of_level, quantize, to_float
from lit_gen.data.images import digits8
from lit_gen.data.images.digits8 import LEVELS, Digits8


def test_the_splits_are_those_of_scikit_learn_in_order():
    whole, data = load_digits(), Digits8()
    splits = [data.split(name) for name in ("train", "val", "test")]
    assert [len(split) for split in splits] == [1000, 350, 447]
    levels = torch.cat([level_of(to_float(split.images), LEVELS) for split in splits])
    assert np.array_equal(levels.flatten(1).numpy(), whole.data)
    assert np.array_equal(torch.cat([split.labels for split in splits]).numpy(), whole.target)
    assert data.facts() == {"shape": (1, 8, 8), "num_classes": 10, "levels": 17}


@pytest.mark.parametrize("levels", [2, 3, 17, 100, 255, 256])
def test_levels_come_back_from_uint8(levels):
    numbers = torch.arange(levels)
    images = of_level(numbers, levels)
    assert images[[0, -1]].tolist() == [-1, 1]
    assert torch.equal(level_of(images, levels).long(), numbers)
    assert torch.equal(level_of(to_float(quantize(images)), levels).long(), numbers)


def test_a_changed_file_is_refused(monkeypatch):
    monkeypatch.setattr(digits8, "DIGITS", "0" * 64)
    digits8.digits.cache_clear()
    with pytest.raises(UserError, match=r"digits\.csv\.gz: its digits have the sha256 .*pip install"):
        digits8.digits()
