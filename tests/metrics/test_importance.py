"""Importance-weighted bounds against closed forms and naive loops."""

import math

import pytest
import torch
from support.draws import normal

from lit_gen.core.errors import UserError
from lit_gen.metrics.importance import ImportanceWeights, summarize


def naive(row):
    """Bound and effective sample size of one image, with the weights themselves."""
    weights = [math.exp(x) for x in row]
    return math.log(sum(weights) / len(weights)), sum(weights) ** 2 / sum(w * w for w in weights)


@pytest.mark.parametrize("chunk", [1, 3, 7, 20])
def test_chunks_add_up_to_what_a_naive_loop_finds(chunk):
    log_weights = 2 * normal(5, 20) - 3
    first, *others = (ImportanceWeights.of(part) for part in log_weights.split(chunk, 1))
    for other in others:
        first = first.joined(other)
    assert first.k == 20
    for row, bound, size in zip(log_weights.tolist(), first.bound, first.effective_samples, strict=True):
        expected = naive(row)
        assert float(bound) == pytest.approx(expected[0], rel=1e-12)
        assert float(size) == pytest.approx(expected[1], rel=1e-12)


def test_equal_weights_are_the_likelihood_itself_with_all_samples_effective():
    weights = ImportanceWeights.of(torch.full((3, 50), -812.5))  # exp(-812.5) is 0 in float64
    assert weights.bound.tolist() == pytest.approx([-812.5] * 3, rel=1e-14)
    assert weights.effective_samples.tolist() == pytest.approx([50] * 3, rel=1e-12)


def test_one_great_weight_is_one_effective_sample():
    weights = ImportanceWeights.of(torch.tensor([[0.0, -400, -400, -400]]))
    assert float(weights.effective_samples) == pytest.approx(1)
    assert float(weights.bound) == pytest.approx(-math.log(4))


def test_weights_of_zero():
    weights = ImportanceWeights.of(torch.tensor([[-math.inf, 0.0], [-math.inf, -math.inf]]))
    weights = weights.joined(ImportanceWeights.of(torch.full((2, 2), -math.inf)))
    assert weights.bound.tolist() == pytest.approx([-math.log(4), -math.inf])
    assert weights.effective_samples.tolist() == [1, 0]


def test_the_summary_is_the_mean_with_its_standard_error_in_any_order():
    bounds, sizes = normal(301).tolist(), normal(301, seed=1).abs().tolist()
    found = summarize(bounds, sizes)
    x = torch.tensor(bounds, dtype=torch.float64)
    assert found.nll == pytest.approx(-float(x.mean()), rel=1e-12)
    assert found.standard_error == pytest.approx(float(x.std()) / math.sqrt(301), rel=1e-12)
    assert found.effective_samples == pytest.approx(sum(sizes) / 301, rel=1e-12)
    assert found.least_effective_samples == min(sizes)
    assert summarize(bounds[::-1], sizes[::-1]) == found
    assert math.isnan(summarize([1.0], [1.0]).standard_error)


def test_an_image_whose_weights_are_all_zero_is_refused():
    with pytest.raises(UserError, match="weights of 1 of 2 images are all 0"):
        summarize([-math.inf, 0.0], [0.0, 1.0])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bounds_without_a_mean_are_refused(bad):
    with pytest.raises(UserError, match="weights of 1 of 3 images are NaN or infinite"):
        summarize([0.0, bad, 1.0], [1.0] * 3)


def test_no_images_and_no_samples_are_refused():
    with pytest.raises(UserError, match="no images were found"):
        summarize([], [])
    for shape in ((3, 0), (3,)):
        with pytest.raises(UserError, match="log_weights: shape"):
            ImportanceWeights.of(torch.zeros(shape))
