"""The inception score: known answers."""

import math

import pytest
import torch

from lit_gen.core.errors import UserError
from lit_gen.metrics.inception_score import inception_score
from tests.metrics.test_neighbors import _small_blocks  # noqa: F401  a fixture


def test_score_of_equal_predictions_is_one():
    assert inception_score(torch.randn(1, 10).expand(100, 10)) == (pytest.approx(1, abs=1e-12), pytest.approx(0))


@pytest.mark.parametrize("sure", [50.0, 1e4])
def test_score_of_sure_and_balanced_predictions_is_the_number_of_classes(sure):
    logits = sure * torch.eye(7).repeat(30, 1)
    assert inception_score(logits, splits=1) == (pytest.approx(7, rel=1e-9), 0)
    assert math.isfinite(inception_score(logits[::7], splits=3).mean)  # one class: the others' probability is 0


def test_score_by_hand():
    logits = torch.randn(40, 5, dtype=torch.float64)
    p = logits.softmax(1)
    expected = (p * (p / p.mean(0)).log()).sum(1).mean().exp()
    assert inception_score(logits, splits=1).mean == pytest.approx(expected.item(), rel=1e-12)


def test_score_refuses_too_few_samples_and_wrong_numbers():
    inception_score(torch.randn(10, 3))
    for n, splits in ((9, 10), (5, 0)):
        with pytest.raises(UserError, match=f"found {splits} splits of {n} samples"):
            inception_score(torch.randn(n, 3), splits)
    with pytest.raises(UserError, match="NaN or infinity in 1 of 20 rows"):
        inception_score(torch.randn(20, 3).index_fill(0, torch.tensor(4), math.nan))
