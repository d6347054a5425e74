"""Importance-weighted bounds and latent diagnostics against closed forms and naive loops."""

import math

import pytest
import torch

from lit_gen.errors import UserError
from lit_gen.metrics.latents import PAIRS, active_units, kl_by_dimension, mutual_information, unit_variances
from lit_gen.metrics.likelihood import ImportanceWeights, summarize


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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


# ---- latents


def test_units_are_active_by_the_unbiased_variance_of_their_means():
    spread = torch.tensor([-1.0, 1.0]) * torch.tensor([[0.0], [0.05], [0.0708], [0.2], [1.0]])  # variance 2 s^2
    means = spread.T + 7.0  # (2, 5)
    assert unit_variances(means.double()).tolist() == pytest.approx([0, 0.005, 0.01002528, 0.08, 2], rel=1e-5)
    assert active_units(means) == 3  # by the population variance, which is half of that, it would be 2
    assert active_units(means, 0.05) == 2
    assert active_units(means, 0.004) == 4


def test_few_images_with_a_great_mean_lose_no_variance():
    """A sum of squares less a squared sum would."""
    assert unit_variances(1e6 + 0.1 * normal(1000, 2)).tolist() == pytest.approx([0.01, 0.01], rel=0.1)


def test_kl_by_dimension_is_the_mean_over_the_images():
    kl = torch.tensor([[1.0, 0.0, 3.0], [2.0, 0.0, 5.0]])
    assert kl_by_dimension(kl).tolist() == [1.5, 0, 4]


def naive_information(z, means, log_variances):
    each = []
    for i in range(len(z)):
        densities = [
            torch.distributions.Normal(mean, (v / 2).exp()).log_prob(z[i]).sum()
            for mean, v in zip(means, log_variances, strict=True)
        ]
        each.append(densities[i] - torch.logsumexp(torch.stack(densities), 0) + math.log(len(z)))
    return float(torch.stack(each).mean())


def posteriors(count, dim, seed=0):
    means, log_variances = normal(count, dim, seed=seed), normal(count, dim, seed=seed + 1) - 1
    return means + (log_variances / 2).exp() * normal(count, dim, seed=seed + 2), means, log_variances


@pytest.mark.parametrize(("count", "dim"), [(1, 2), (30, 1), (40, 5)])
def test_mutual_information_is_what_a_naive_loop_finds(count, dim, monkeypatch):
    of = posteriors(count, dim)
    expected = naive_information(*of)
    assert mutual_information(*of) == pytest.approx(expected, rel=1e-10, abs=1e-12)
    for pairs in (1, 7 * count):  # chunks of one and of seven rows
        monkeypatch.setattr("lit_gen.metrics.latents.PAIRS", pairs)
        assert mutual_information(*of) == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert PAIRS > 1e6


def test_mutual_information_of_a_gaussian_channel():
    """z = a x + noise: I = 1/2 sum log(1 + a^2 / variance)."""
    gains, variances = torch.tensor([1.5, 0.5, 0.0]).double(), torch.tensor([0.5, 1.0, 2.0]).double()
    means = gains * normal(6000, 3)
    z = means + variances.sqrt() * normal(6000, 3, seed=1)
    expected = 0.5 * float(torch.log1p(gains**2 / variances).sum())
    assert mutual_information(z, means, variances.log().expand(6000, 3)) == pytest.approx(expected, abs=0.03)


def test_mutual_information_of_a_collapsed_posterior_is_zero_and_of_separate_ones_log_n():
    z, means, log_variances = normal(50, 4), torch.zeros(50, 4), torch.zeros(50, 4)
    assert mutual_information(z, means, log_variances) == pytest.approx(0, abs=1e-14)
    means = 100 * torch.arange(50.0)[:, None].expand(50, 4)
    assert mutual_information(means + z, means, log_variances) == pytest.approx(math.log(50), rel=1e-9)


def test_rate_less_mutual_information_is_the_divergence_of_the_aggregated_posterior():
    """Hoffman and Johnson's identity, with q(z) = N(0, 1) = p(z): then the rate is the mutual information."""
    means = math.sqrt(0.75) * normal(6000, 1)
    log_variances = torch.full((6000, 1), math.log(0.25), dtype=torch.float64)
    kl = 0.5 * (log_variances.exp() + means**2 - 1 - log_variances)
    z = means + 0.5 * normal(6000, 1, seed=1)
    found = mutual_information(z, means, log_variances)
    assert found == pytest.approx(float(kl_by_dimension(kl)), abs=0.03)
    assert found == pytest.approx(math.log(2), abs=0.03)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: active_units(torch.zeros(1, 3)), r"means: shape \(1, 3\) was found, \(N, d\) with N of at least 2"),
        (lambda: active_units(torch.zeros(3)), r"means: shape \(3,\) was found"),
        (lambda: unit_variances(torch.tensor([[0.0], [math.nan]])), "means: those of 1 of 2 images are NaN"),
        (lambda: kl_by_dimension(torch.full((2, 1), math.inf)), "kl: those of 2 of 2 images are NaN or infinite"),
        (lambda: kl_by_dimension(torch.zeros(0, 1)), r"kl: shape \(0, 1\) was found"),
        (lambda: mutual_information(*3 * [torch.zeros(0, 1)]), r"z: shape \(0, 1\)"),
        (lambda: mutual_information(*2 * [torch.zeros(2, 1)], torch.zeros(2, 2)), "one .N, d. is expected"),
        (lambda: mutual_information(*2 * [torch.zeros(2, 1)], torch.full((2, 1), math.nan)), "log_variances: those"),
    ],
)
def test_what_has_no_answer_is_refused(call, words):
    with pytest.raises(UserError, match=words):
        call()
