"""Latent diagnostics against closed forms and naive loops."""

import math

import pytest
import torch
from support.draws import normal

from lit_gen.core.errors import UserError
from lit_gen.metrics.latents import PAIRS, active_units, kl_by_dimension, mutual_information, unit_variances


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
