"""The variational bound: published formulas, closed forms of Gaussian data, and its estimate by few terms."""

import math

import numpy as np
import pytest
import torch
from support.draws import normal
from support.likelihoods import MEAN, Wavy, drawn, gaussian

from lit_gen.core.errors import UserError
from lit_gen.core.images import of_level
from lit_gen.core.randomness import latents
from lit_gen.models.diffusion.denoiser import Denoiser
from lit_gen.models.diffusion.likelihood.bound import Bound
from lit_gen.models.diffusion.parametrizations import Data, Noise
from lit_gen.models.diffusion.paths import DDPM, EDM

SMALL = DDPM(12, beta_start=0.01, beta_end=0.5)


def kl(mean1, log_variance1, mean2, log_variance2):
    """Of two normal distributions, number by number."""
    ratio = np.exp(log_variance1 - log_variance2) + (mean1 - mean2) ** 2 * np.exp(-log_variance2)
    return 0.5 * (-1 + log_variance2 - log_variance1 + ratio)


def published(denoiser, x, indices, seed, variance, decoder):
    """Nats (B,) step by step as improved-diffusion's ``calc_bpd_loop`` adds them, with the noise of our indices."""
    betas = denoiser.path.betas().numpy()
    kept = np.cumprod(1 - betas)
    before = np.append(1.0, kept[:-1])
    posterior = betas * (1 - before) / (1 - kept)
    clipped = np.append(posterior[1], posterior[1:])
    model = clipped if variance == "posterior" else np.append(posterior[1], betas[1:])
    flat = x.flatten(1).numpy()
    total = kl(np.sqrt(kept[-1]) * flat, np.log(1 - kept[-1]), 0.0, 0.0).sum(1)
    for t in range(len(betas)):
        noise = latents(seed, indices, flat.shape[1], f"likelihood: noise {t}").double().numpy()
        noisy = np.sqrt(kept[t]) * flat + np.sqrt(1 - kept[t]) * noise
        times = torch.full((len(x),), t + 1.0, dtype=torch.float64)
        estimate = denoiser.denoised(torch.from_numpy(noisy).view(x.shape), times).detach().flatten(1).numpy()
        of_data = betas[t] * np.sqrt(before[t]) / (1 - kept[t])
        of_noisy = (1 - before[t]) * np.sqrt(1 - betas[t]) / (1 - kept[t])
        mean = of_data * estimate + of_noisy * noisy
        if t == 0:
            v = model[0] if decoder == "posterior" else betas[0]
            total += 0.5 * ((flat - mean) ** 2 / v + np.log(2 * np.pi * v)).sum(1)
        else:
            total += kl(of_data * flat + of_noisy * noisy, np.log(posterior[t]), mean, np.log(model[t])).sum(1)
    return -torch.from_numpy(total)


def expected(path, variances, decoder="posterior", variance="posterior"):
    """The bound's mean over Gaussian data with these variances (D,), by what x_t leaves open of x_0."""
    betas, D = path.betas().numpy(), len(variances)
    kept = np.cumprod(1 - betas)
    before = np.append(1.0, kept[:-1])
    posterior = betas * (1 - before) / (1 - kept)
    open_ = [(variances * (1 - k) / (k * variances + 1 - k)).sum() for k in kept]
    v = posterior[1] if decoder == "posterior" else betas[0]
    total = 0.5 * (open_[0] / v + D * np.log(2 * np.pi * v))
    for t in range(1, len(betas)):
        w = posterior[t] if variance == "posterior" else betas[t]
        factor = (betas[t] * np.sqrt(before[t]) / (1 - kept[t])) ** 2
        total += 0.5 * (factor * open_[t] / w + D * (np.log(w / posterior[t]) - 1 + posterior[t] / w))
    prior = 0.5 * (kept[-1] * (variances.sum() + float(MEAN.square().sum())) - D * (kept[-1] + np.log(1 - kept[-1])))
    return -(total + prior)


@pytest.mark.parametrize("path", [SMALL, DDPM(7, "cosine")], ids=["linear", "cosine"])
@pytest.mark.parametrize(
    ("variance", "decoder"), [("posterior", "posterior"), ("beta", "posterior"), ("posterior", "beta")]
)
def test_terms_are_those_of_published_code(path, variance, decoder):
    denoiser = Denoiser(Wavy((3, 1, 2)).double(), path, Noise())
    x, indices = normal(5, 3, 1, 2), torch.arange(40, 45)
    found = Bound(variance=variance, decoder=decoder).log_prob(denoiser, x, indices, 3)
    torch.testing.assert_close(found, published(denoiser, x, indices, 3, variance, decoder), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_the_mean_over_gaussian_data_is_its_closed_form(variance):
    field, denoiser = gaussian(SMALL, Data())
    found = Bound(variance=variance).log_prob(denoiser, drawn(6000), torch.arange(6000), 0)
    error = found.std() / math.sqrt(len(found))
    assert error < 0.1
    assert abs(found.mean() - expected(SMALL, field.variances.numpy(), variance=variance)) < 3 * error


def test_a_bound_lies_below_the_log_likelihood_and_nears_it_with_more_steps():
    gaps, found, x = [], [], drawn(2000)
    for steps in (4, 16, 64):
        path = DDPM(steps, "cosine")
        field, denoiser = gaussian(path, Noise())
        nats = Bound(variance="beta", decoder="beta").log_prob(denoiser, x, torch.arange(2000), 0)
        true = -0.5 * (3 * math.log(2 * math.pi * math.e) + field.variances.log().sum())  # the mean of log p
        gaps.append(float(true - expected(path, field.variances.numpy(), "beta", "beta")))
        gap = field.log_prob(x) - nats
        assert abs(gap.mean() - gaps[-1]) < 3 * gap.std() / math.sqrt(2000) < 0.15
        found.append(float(gap.mean()))
    assert found[0] > found[1] + 0.1 > found[2] + 0.1 > 0.1
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0


def test_images_are_scored_by_the_mass_of_their_levels():
    """At the first step the estimate is nearly the image: nothing but L_T and the later terms is left of few levels."""
    path = DDPM(6, beta_start=1e-6, beta_end=0.3)
    x = of_level(torch.tensor([[0, 1, 2, 2]]), 3).view(1, 1, 2, 2).double()
    _, denoiser = gaussian(path, Data(), x[0], torch.full((4,), 1e-6))  # it knows the image
    kept = path.betas().neg().log1p().sum().exp()
    prior = 0.5 * (kept * (x.square().sum() - 4) - 4 * (1 - kept).log())
    found = Bound(levels=3).log_prob(denoiser, x, torch.arange(1), 0)
    assert float(found) == pytest.approx(-float(prior), abs=1e-3)


def test_estimates_of_images_are_clipped_unless_told_otherwise_and_those_of_points_are_not():
    x = of_level(torch.tensor([[0, 16]]), 17).view(1, 1, 1, 2).double()
    _, denoiser = gaussian(SMALL, Data(), 2 * x[0], torch.full((2,), 1e-8))  # estimates are twice too large
    nats = {clip: Bound(17, clip=clip).log_prob(denoiser, x, torch.arange(1), 0) for clip in (True, False)}
    assert nats[True] - nats[False] > 10
    _, near = gaussian(SMALL, Data(), x[0], torch.full((2,), 1e-8))
    torch.testing.assert_close(nats[True], Bound(17).log_prob(near, x, torch.arange(1), 0), rtol=0, atol=1e-3)
    points = [Bound(clip=clip).log_prob(denoiser, x, torch.arange(1), 0) for clip in (True, False)]
    assert points[0] == points[1]


def test_few_terms_estimate_all_of_them_without_bias():
    denoiser = Denoiser(Wavy((2, 1, 1)), SMALL, Noise())
    x, indices = normal(1, 2, 1, 1).expand(4000, 2, 1, 1), torch.arange(4000)
    full, few = (Bound(times=times).log_prob(denoiser, x, indices, 1) for times in (None, 4))
    error = (few.var() / 4000 + full.var() / 4000).sqrt()
    assert few.std() > 1.2 * full.std()
    assert abs(few.mean() - full.mean()) < 3 * error


def test_as_many_terms_as_steps_are_all_terms():
    denoiser = Denoiser(Wavy((2, 1, 1)), SMALL, Noise())
    x, indices = normal(3, 2, 1, 1), torch.arange(3)
    full, asked = (Bound(times=times).log_prob(denoiser, x, indices, 1) for times in (None, 12))
    assert full.equal(asked)


def test_a_row_depends_on_its_own_image_index_and_label():
    denoiser = Denoiser(Wavy((2, 1, 1)), SMALL, Noise())
    x, indices, bound = normal(6, 2, 1, 1), torch.tensor([3, 70, 5, 200, 1, 0]), Bound(times=5)
    found = bound.log_prob(denoiser, x, indices, 1)
    order = torch.tensor([4, 1, 0])
    torch.testing.assert_close(bound.log_prob(denoiser, x[order], indices[order], 1), found[order])
    other = bound.log_prob(denoiser, x, indices + 1, 1)
    assert (other - found).abs().min() > 1e-6
    assert (bound.log_prob(denoiser, x, indices, 2) - found).abs().min() > 1e-6


def test_many_terms_in_one_call_of_the_network_are_those_of_many_calls(monkeypatch):
    denoiser, x, indices = Denoiser(Wavy((2, 1, 1)), SMALL, Noise()), normal(3, 2, 1, 1), torch.arange(3)
    together = Bound().log_prob(denoiser, x, indices, 1)
    monkeypatch.setattr("lit_gen.models.diffusion.likelihood.bound.TOGETHER", 1)
    torch.testing.assert_close(Bound().log_prob(denoiser, x, indices, 1), together)


def test_labels_reach_the_network_and_those_of_the_data_score_best():
    means = (MEAN - 2, MEAN + 2)
    _, denoiser = gaussian(SMALL, Data(), classes=means)
    x, indices = torch.cat([m[None] for m in means]), torch.arange(2)
    right, wrong = (Bound().log_prob(denoiser, x, indices, 0, torch.tensor(given)) for given in ([0, 1], [1, 0]))
    for i, mean in enumerate(means):
        _, alone = gaussian(SMALL, Data(), mean)
        torch.testing.assert_close(right[i : i + 1], Bound().log_prob(alone, x[i : i + 1], indices[i : i + 1], 0))
    assert (right - wrong).min() > 10


def test_calls_are_those_of_the_network_and_the_record_says_what_the_nats_depend_on():
    for times, calls in ((None, 12), (5, 5)):
        network, bound = Wavy((2, 1, 1)), Bound(times=times)
        denoiser = Denoiser(network, SMALL, Noise())
        found = bound.log_prob(denoiser, normal(3, 2, 1, 1), torch.arange(3), 0)
        assert (found.dtype, found.requires_grad, network.inner.grad) == (torch.float64, False, None)
        assert network.rows == 3 * bound.calls(denoiser) == 3 * calls
        told = {"levels": None, "variance": "posterior", "decoder": "posterior", "steps": 12, "times": calls}
        assert bound.settings(denoiser) == {"likelihood": "bound", **told, "clip": False}
    assert Bound(17).settings(denoiser)["clip"] is True


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"model.likelihood.variance: 'posteriro' was found.*posterior"):
        Bound(variance="posteriro")
    with pytest.raises(UserError, match=r"model.likelihood.decoder"):
        Bound(decoder="none")
    with pytest.raises(UserError, match=r"model.likelihood.times: 1 was found, a whole number of at least 2"):
        Bound(times=1)
    with pytest.raises(UserError, match=r"model.likelihood.levels: 1 was found"):
        Bound(1)
    network = Wavy((2, 1, 1))
    with pytest.raises(UserError, match=r"path EDM has no discrete steps; ProbabilityFlow, or the path DDPM"):
        Bound().check(Denoiser(network, EDM(), Noise()))
    with pytest.raises(UserError, match=r"times: 13 was found, but the path has 12 steps; at most 12"):
        Bound(times=13).check(Denoiser(network, SMALL, Noise()))
    denoiser = Denoiser(network, SMALL, Noise())
    Bound(times=12).check(denoiser)
    with pytest.raises(UserError, match=r"data of shape \(1, 2, 1\) were found, \(2, 1, 1\) is expected"):
        Bound().check_images(denoiser, torch.zeros(1, 1, 2, 1))
    with pytest.raises(UserError, match=r"the value 0.03 was found, which is none of the 3 levels"):
        Bound(3).check_images(denoiser, torch.tensor([0.0, 0.03]).view(1, 2, 1, 1))
    Bound(3).check_images(denoiser, torch.tensor([0.0, 1.0]).view(1, 2, 1, 1))
    Bound().check_images(denoiser, torch.tensor([0.0, 0.03]).view(1, 2, 1, 1))
