"""Every likelihood of the package, found by introspection: laws that all keep, and the closed form of each."""

import functools
import itertools
import math
import re

import pytest
import torch
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.models.likelihoods import bernoulli, categorical, gaussian, logistic
from lit_gen.models.likelihoods.base import Likelihood
from lit_gen.models.likelihoods.bernoulli import Bernoulli, ContinuousBernoulli
from lit_gen.models.likelihoods.categorical import Categorical
from lit_gen.models.likelihoods.gaussian import Gaussian
from lit_gen.models.likelihoods.logistic import DiscretizedLogistic, MixtureOfLogistics
from lit_gen.training.hparams import describe

LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1
BINARY = torch.tensor([-1.0, 1.0], dtype=torch.float64)
FEW = torch.arange(17, dtype=torch.float64) / 8 - 1


def grid(low, high, n=40_001):
    """Points and weights of Simpson's rule."""
    weights = torch.ones(n, dtype=torch.float64)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    return torch.linspace(low, high, n, dtype=torch.float64), weights * (high - low) / (3 * (n - 1))


COUNTING = {name: (v, torch.ones_like(v)) for name, v in (("binary", BINARY), ("levels", LEVELS), ("few", FEW))}
CASES = {  # every likelihood needs an entry: how it is made; what it is a mass of, or its density's range
    "Bernoulli": (Bernoulli, "binary"),
    "ContinuousBernoulli": (ContinuousBernoulli, (-1, 1)),
    "Gaussian-0.3": (lambda: Gaussian(0.3), (-20, 20)),
    "Gaussian-learned": (lambda: Gaussian("learned"), (-20, 20)),
    "Gaussian-optimal": (lambda: Gaussian("optimal").eval(), (-20, 20)),
    "DiscretizedLogistic": (DiscretizedLogistic, "levels"),
    "MixtureOfLogistics": (lambda: MixtureOfLogistics(3), "levels"),
    "MixtureOfLogistics-default": (MixtureOfLogistics, "levels"),
    "DiscretizedLogistic-17": (lambda: DiscretizedLogistic(levels=17), "few"),
    "MixtureOfLogistics-17": (lambda: MixtureOfLogistics(3, levels=17), "few"),
    "Categorical-17": (lambda: Categorical(17), "few"),
    "Categorical-256": (lambda: Categorical(256), "levels"),
}
every_likelihood = pytest.mark.parametrize("name", CASES)


def support(name):
    """Values of a pixel and their weights: sums over them are sums or integrals over everything that x can be."""
    of = CASES[name][1]
    return COUNTING[of] if isinstance(of, str) else grid(*of)


def outputs(likelihood, c=1, n=5, side=1, scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    return scale * torch.randn(n, likelihood.channels(c), side, side, generator=generator, dtype=dtype)


def images(name, *shape, dtype=torch.float64):
    """Images that the likelihood is for."""
    values = support(name)[0].clamp(-1, 1)
    chosen = torch.randint(len(values), shape, generator=torch.Generator().manual_seed(4))
    return values[chosen].to(dtype)


def test_every_likelihood_is_put_through_the_laws():
    found = {
        getattr(module, name) for module in (bernoulli, categorical, gaussian, logistic) for name in module.__all__
    }
    assert {type(make()) for make, _ in CASES.values()} == found
    for cls in found:
        assert issubclass(cls, Likelihood)


# ---- laws


@every_likelihood
def test_sums_or_integrates_to_one(name):
    likelihood = CASES[name][0]()
    values, weights = support(name)
    for row in outputs(likelihood):
        log_prob = likelihood(row.expand(len(values), -1, -1, -1)).log_prob(values.view(-1, 1, 1, 1))
        assert log_prob.shape == (len(values),)
        assert (log_prob.exp() * weights).sum().item() == pytest.approx(1, abs=1e-7)


@every_likelihood
def test_pixels_and_channels_add_up(name):
    """Two pixels have the sum of their nats; a mixture's channels belong together and are summed as one."""
    likelihood = CASES[name][0]()
    raw, x = outputs(likelihood, c=3, side=2), images(name, 5, 3, 2, 2)
    whole = likelihood(raw).log_prob(x)
    parts = [likelihood(raw[:, :, i : i + 1, j : j + 1]).log_prob(x[:, :, i : i + 1, j : j + 1])
             for i, j in itertools.product((0, 1), repeat=2)]  # fmt: skip
    torch.testing.assert_close(whole, torch.stack(parts).sum(0))


@every_likelihood
def test_the_mean_is_the_expectation(name):
    likelihood = CASES[name][0]()
    values, weights = support(name)
    raw = outputs(likelihood)
    mean = likelihood(raw).mean
    assert mean.shape == (5, 1, 1, 1)
    for row, found in zip(raw, mean, strict=True):
        log_prob = likelihood(row.expand(len(values), -1, -1, -1)).log_prob(values.view(-1, 1, 1, 1))
        step = (
            1 / (likelihood.levels - 1) if isinstance(likelihood, DiscretizedLogistic | MixtureOfLogistics) else 1 / 255
        )
        assert found.item() == pytest.approx((log_prob.exp() * weights * values).sum().item(), abs=step)


@every_likelihood
def test_samples_are_a_function_of_uniform_noise_and_distributed_as_they_say(name):
    likelihood = CASES[name][0]()
    n = 20_000
    uniform = ((torch.arange(n, dtype=torch.float64) + 0.5) / n).view(-1, 1, 1, 1)  # every quantile once
    values, weights = support(name)
    for row in outputs(likelihood, n=3, scale=1.0):
        distribution = likelihood(row.expand(n, -1, -1, -1))
        drawn = distribution.sample(uniform)
        assert drawn.shape == (n, 1, 1, 1)
        assert torch.equal(drawn, distribution.sample(uniform))
        mass = likelihood(row.expand(len(values), -1, -1, -1)).log_prob(values.view(-1, 1, 1, 1)).exp() * weights
        cumulative = mass.cumsum(0)
        at = torch.linspace(0, len(values) - 1, 9).long()
        share = (drawn.flatten()[None] <= values[at, None] + 1e-6).double().mean(1)
        torch.testing.assert_close(share, cumulative[at], atol=2e-3, rtol=0)


@every_likelihood
@pytest.mark.parametrize("c", [1, 3])
def test_shapes_and_samples_within_the_data(name, c):
    likelihood = CASES[name][0]()
    distribution = likelihood(outputs(likelihood, c, side=4, dtype=torch.float32))
    uniform = torch.rand(5, c, 4, 4)
    uniform[0], uniform[1] = 0.0, 1 - 2**-24  # the ends of [0, 1)
    drawn = distribution.sample(uniform)
    assert drawn.shape == distribution.mean.shape == (5, c, 4, 4)
    assert torch.isfinite(drawn).all()
    assert drawn.dtype == distribution.mean.dtype == torch.float32
    if not isinstance(likelihood, Gaussian):
        assert drawn.abs().max() <= 1
        likelihood.check(drawn)
        assert distribution.mean.abs().max() <= 1


@every_likelihood
@pytest.mark.parametrize("scale", [0.0, 1.0, 50.0, 1e4])
def test_extreme_outputs_have_finite_values_and_gradients(name, scale):
    likelihood = CASES[name][0]()
    raw = outputs(likelihood, c=3, n=64, side=4, scale=scale, dtype=torch.float32).requires_grad_(True)
    log_prob = likelihood(raw).log_prob(images(name, 64, 3, 4, 4, dtype=torch.float32))
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(raw.grad).all()
    assert torch.isfinite(likelihood(raw.detach()).mean).all()
    for key, parameter in likelihood.named_parameters():
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


@every_likelihood
def test_half_precision_outputs_are_scored_in_float32(name):
    likelihood = CASES[name][0]()
    raw = outputs(likelihood, dtype=torch.bfloat16)
    x = images(name, 5, 1, 1, 1, dtype=torch.float32)
    assert torch.equal(likelihood(raw).log_prob(x), likelihood(raw.float()).log_prob(x))
    assert likelihood(raw).log_prob(x).dtype == torch.float32


@every_likelihood
def test_described_saved_and_loaded(name):
    likelihood = CASES[name][0]()
    for value in likelihood.state_dict().values():
        value.fill_(0.25)
    described = describe(likelihood, "model.likelihood")
    again = type(likelihood)(**described["init_args"]).eval()
    again.load_state_dict(likelihood.state_dict())
    raw, x = outputs(likelihood), images(name, 5, 1, 1, 1)
    assert torch.equal(again(raw).log_prob(x), likelihood.eval()(raw).log_prob(x))
    assert describe(again, "model.likelihood") == described


@every_likelihood
def test_an_image_is_scored_alone(name):
    likelihood = CASES[name][0]().eval()
    raw, x = outputs(likelihood), images(name, 5, 1, 1, 1)
    torch.testing.assert_close(likelihood(raw).log_prob(x)[2:3], likelihood(raw[2:3]).log_prob(x[2:3]), rtol=0, atol=0)


@every_likelihood
def test_other_shapes_are_refused(name):
    likelihood = CASES[name][0]()
    distribution = likelihood(outputs(likelihood, c=1, side=2))
    with pytest.raises(UserError, match=r"model.decoder: outputs for images \(5, 1, 2, 2\) were found, \(5, 3, 2, 2\)"):
        distribution.log_prob(images(name, 5, 3, 2, 2))  # would broadcast
    with pytest.raises(UserError, match="values that are not finite"):
        likelihood.check(torch.tensor([[[[1.0, math.nan]]]]))
    likelihood.check(images(name, 5, 3, 2, 2, dtype=torch.float32))
    if likelihood.channels(1) > 1:
        with pytest.raises(UserError, match=rf"but likelihood {type(likelihood).__name__} takes"):
            likelihood(torch.zeros(2, likelihood.channels(1) + 1, 2, 2))
    with pytest.raises(UserError, match=r"model.decoder: outputs"):
        likelihood(torch.zeros(2, 784))


# ---- Bernoulli


def test_bernoulli_sums_to_one_over_all_images_of_eight_pixels():
    x = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=8)), dtype=torch.float64).view(256, 1, 2, 4)
    logits = torch.randn(1, 1, 2, 4, dtype=torch.float64).expand(256, -1, -1, -1)
    log_prob = Bernoulli()(logits).log_prob(x)
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-12)
    expected = torch.distributions.Bernoulli(logits=logits).log_prob((x + 1) / 2).flatten(1).sum(1)
    torch.testing.assert_close(log_prob, expected)


def test_bernoulli_names_the_grey_value_that_it_refuses():
    expected = (
        r"likelihood Bernoulli: grey values were found \(for example 0.37\), binary images \(-1 and 1\) are expected; "
        r"choose data.binarize or ContinuousBernoulli"
    )
    with pytest.raises(UserError, match=expected):
        Bernoulli().check(torch.tensor([[[[-1.0, 1.0, 0.37]]]]))
    with pytest.raises(UserError, match=r"for example 0.00"):
        Bernoulli().check(torch.tensor([[[[0.0, 1.0]]]]))  # binary, in the units of another package


# ---- continuous Bernoulli


@pytest.mark.parametrize("logit", [-30.0, -3.0, -0.61, -0.599, -1e-3, 0.0, 1e-6, 0.01, 0.3, 0.59, 0.6, 0.61, 5.0, 80.0])
def test_continuous_bernoulli_is_torchs_with_half_its_density(logit):
    y = torch.linspace(0, 1, 11, dtype=torch.float64).view(-1, 1, 1, 1)
    logits = torch.full_like(y, logit)
    found = ContinuousBernoulli()(logits)
    if abs(logit) < 20:  # torch clamps the probability and has a series of its own
        theirs = torch.distributions.ContinuousBernoulli(logits=logits)
        expected = (theirs.log_prob(y) - math.log(2)).flatten()
        torch.testing.assert_close(found.log_prob(2 * y - 1), expected, atol=3e-6, rtol=0)
        torch.testing.assert_close(found.mean, 2 * theirs.mean - 1, atol=3e-6, rtol=0)
    float32 = ContinuousBernoulli()(logits.float())  # the digits of the single precision that training runs in
    torch.testing.assert_close(
        float32.log_prob(2 * y.float() - 1).double(), found.log_prob(2 * y - 1), atol=3e-6, rtol=3e-7
    )
    torch.testing.assert_close(float32.mean.double(), found.mean, atol=1e-6, rtol=0)


def test_the_gradient_of_continuous_bernoulli_is_target_minus_mean():
    logits = torch.linspace(-40, 40, 4001, dtype=torch.float64).view(-1, 1, 1, 1).requires_grad_(True)
    x = torch.full_like(logits, 0.3)
    distribution = ContinuousBernoulli()(logits)
    (gradient,) = torch.autograd.grad(distribution.log_prob(x).sum(), logits)
    torch.testing.assert_close(gradient, (x - distribution.mean) / 2, atol=5e-8, rtol=0)


@pytest.mark.parametrize("logit", [-80.0, -3.0, -1e-4, 0.0, 1e-4, 3.0, 80.0])
def test_continuous_bernoulli_samples_through_the_inverse_of_its_distribution_function(logit):
    u = torch.linspace(0.05, 0.95, 19, dtype=torch.float64).view(-1, 1, 1, 1)
    x = ContinuousBernoulli()(torch.full_like(u, logit)).sample(u)
    share = torch.expm1(logit * (x + 1) / 2) / math.expm1(logit) if logit else (x + 1) / 2
    torch.testing.assert_close(share, u, atol=1e-8, rtol=0)


def test_densities_refuse_values_out_of_their_range():
    with pytest.raises(UserError, match=r"likelihood ContinuousBernoulli: values from 0 to 255 were found, images in"):
        ContinuousBernoulli().check(torch.tensor([[[[0.0, 255.0]]]]))
    Gaussian().check(torch.tensor([[[[-3.0]], [[17.0]]]]))


# ---- Gaussian


@pytest.mark.parametrize("sigma", [0.01, 0.3, 1.0])
def test_gaussian_is_torchs(sigma):
    mean, x = torch.randn(4, 3, 2, 2, dtype=torch.float64), torch.randn(4, 3, 2, 2, dtype=torch.float64)
    expected = torch.distributions.Normal(mean, sigma).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(Gaussian(sigma)(mean).log_prob(x), expected)


@pytest.mark.parametrize("sigma", [1e-30, 1e-19, 1e30])
def test_a_sigma_whose_square_float32_cannot_hold_is_refused(sigma):
    told = re.escape(f"model.likelihood.sigma: {sigma} was found, whose square is 0 or infinite in float32")
    with pytest.raises(UserError, match=told):
        Gaussian(sigma)
    assert torch.isfinite(Gaussian(1e-18)(torch.zeros(1, 1, 2, 2)).log_prob(torch.zeros(1, 1, 2, 2))).all()


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_gaussian_refuses_a_sigma_that_is_none(sigma):
    with pytest.raises(UserError, match=rf"model.likelihood.sigma: {sigma} was found, a number above 0 is expected"):
        Gaussian(sigma)


def test_gaussian_names_the_nearest_word():
    with pytest.raises(UserError, match=r"'optimum' was found.*did you mean 'optimal'"):
        Gaussian("optimum")


def test_a_learned_sigma_is_likeliest_at_the_root_of_the_squared_error():
    likelihood = Gaussian("learned").double()
    mean, x = torch.zeros(8, 1, 3, 3, dtype=torch.float64), 0.2 * torch.randn(8, 1, 3, 3, dtype=torch.float64)
    likelihood.log_sigma.data.fill_(0.5 * x.square().mean().log())
    likelihood(mean).log_prob(x).mean().backward()
    assert abs(likelihood.log_sigma.grad.item()) < 1e-12


@pytest.mark.parametrize("log_sigma", [-1e4, 1e4])
def test_a_learned_sigma_comes_back_from_extremes(log_sigma):
    likelihood = Gaussian("learned")
    likelihood.log_sigma.data.fill_(log_sigma)
    loss = -likelihood(torch.zeros(2, 1, 2, 2)).log_prob(torch.full((2, 1, 2, 2), 0.5)).mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert math.copysign(1, likelihood.log_sigma.grad.item()) == math.copysign(1, log_sigma)  # downhill is inwards


def test_the_optimal_sigma_is_the_batchs_in_training_and_the_saved_one_in_evaluation():
    likelihood = Gaussian("optimal").double()
    mean, x = torch.zeros(4, 1, 2, 2, dtype=torch.float64), torch.randn(4, 1, 2, 2, dtype=torch.float64)
    for factor in (1.0, 3.0):  # two batches of different errors
        mse = (factor * x).square().mean()
        expected = torch.distributions.Normal(mean, mse.sqrt()).log_prob(factor * x).flatten(1).sum(1)
        torch.testing.assert_close(likelihood(mean).log_prob(factor * x), expected)
    saved = 5 * x.square().mean()  # of 1 and 9, the mean
    torch.testing.assert_close(likelihood.variance, saved)
    likelihood.eval()
    expected = torch.distributions.Normal(mean, saved.sqrt()).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(likelihood(mean).log_prob(x), expected)
    torch.testing.assert_close(likelihood.variance, saved)  # evaluation moves nothing


def test_the_optimal_sigma_forgets_after_a_hundred_batches():
    likelihood = Gaussian("optimal").double()
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    for _ in range(150):
        likelihood(0 * x).log_prob(x)
    likelihood(0 * x).log_prob(2 * x)
    assert likelihood.variance.item() == pytest.approx(1 + 0.01 * 3)


def test_the_optimal_sigmas_gradient_is_that_of_the_likelihood_maximised_over_sigma():
    """d/dmean of max over sigma, which is -D B / 2 log MSE but for a constant."""
    x = torch.randn(4, 1, 2, 2, dtype=torch.float64)
    mean = torch.zeros_like(x).requires_grad_(True)
    (found,) = torch.autograd.grad(Gaussian("optimal").double()(mean).log_prob(x).sum(), mean)
    (expected,) = torch.autograd.grad(-x.numel() / 2 * (x - mean).square().mean().log(), mean)
    torch.testing.assert_close(found, expected)


def test_a_perfect_reconstruction_stays_finite():
    mean = torch.zeros(2, 1, 2, 2, requires_grad=True)
    log_prob = Gaussian("optimal")(mean).log_prob(torch.zeros(2, 1, 2, 2))
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(mean.grad).all()


# ---- logistics


def test_a_mixture_of_one_is_the_discretized_logistic():
    raw, x = outputs(DiscretizedLogistic(), c=3, side=2), images("DiscretizedLogistic", 5, 3, 2, 2)
    mixture = MixtureOfLogistics(1)(torch.cat([torch.randn(5, 1, 2, 2, dtype=torch.float64), raw], 1))
    one, uniform = DiscretizedLogistic()(raw), torch.rand(5, 3, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(mixture.log_prob(x), one.log_prob(x))
    torch.testing.assert_close(mixture.mean, one.mean)
    torch.testing.assert_close(mixture.sample(uniform), one.sample(uniform))


def test_a_mixtures_channels_share_their_component():
    """Joint over 2 channels: sums to one over all 256 x 256 pairs, and is no product of its marginals."""
    likelihood = MixtureOfLogistics(2)
    raw = torch.zeros(1, likelihood.channels(2), 1, 1, dtype=torch.float64)
    raw[0, 2:6, 0, 0] = torch.tensor([-0.5, -0.5, 0.5, 0.5])  # both channels dark, or both bright
    raw[0, 6:] = -3.0
    pairs = torch.cartesian_prod(LEVELS, LEVELS).view(-1, 2, 1, 1)
    joint = likelihood(raw.expand(len(pairs), -1, -1, -1)).log_prob(pairs).exp().view(256, 256)
    assert joint.sum().item() == pytest.approx(1, abs=1e-9)
    covariance = (LEVELS[:, None] * LEVELS * joint).sum() - (LEVELS * joint.sum(1)).sum() * (
        LEVELS * joint.sum(0)
    ).sum()
    assert covariance.item() == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("log_scale", [-1e4, -12.0, 12.0, 1e4])
def test_extreme_scales_still_sum_to_one_in_float32(log_scale):
    raw = torch.tensor([0.1, log_scale]).view(1, 2, 1, 1).expand(256, -1, -1, -1)
    log_prob = DiscretizedLogistic()(raw).log_prob(LEVELS.float().view(-1, 1, 1, 1))
    assert torch.isfinite(log_prob).all()
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-4)


def test_discretized_logistic_against_differences_of_the_distribution_function():
    location, log_scale = 0.2, -1.5
    cdf = torch.sigmoid((LEVELS[:-1] + 1 / 255 - location) / math.exp(log_scale))
    expected = torch.cat([cdf[:1], cdf.diff(), 1 - cdf[-1:]])
    raw = torch.tensor([location, log_scale], dtype=torch.float64).view(1, 2, 1, 1).expand(256, -1, -1, -1)
    torch.testing.assert_close(DiscretizedLogistic()(raw).log_prob(LEVELS.view(-1, 1, 1, 1)).exp(), expected)


@pytest.mark.parametrize("cls", [DiscretizedLogistic, MixtureOfLogistics])
def test_logistics_refuse_what_is_no_level(cls):
    with pytest.raises(UserError, match=rf"{cls.__name__}: values between the 256 levels .*for example 0.1000"):
        cls().check(torch.tensor([[[[-1.0, 0.1]]]]))
    with pytest.raises(UserError, match=rf"{cls.__name__}: values from 0 to 2 were found"):
        cls().check(torch.tensor([[[[0.0, 2.0]]]]))


def test_a_mixture_of_none_is_refused():
    with pytest.raises(UserError, match=r"model.likelihood.k: 0 was found, a whole number of at least 1 is expected"):
        MixtureOfLogistics(0)


# ---- images of a few levels


def stored(values):
    """Levels as the nearest of the 256 of a stored image."""
    return ((values + 1) * 127.5).round() / 127.5 - 1


def test_categorical_is_torchs():
    likelihood, k = Categorical(17), torch.randint(17, (4, 3, 2, 2), generator=torch.Generator().manual_seed(1))
    raw = outputs(likelihood, c=3, n=4, side=2)
    theirs = torch.distributions.Categorical(logits=raw.unflatten(1, (3, 17)).movedim(2, -1))
    expected = theirs.log_prob(k).flatten(1).sum(1)
    torch.testing.assert_close(likelihood(raw).log_prob(FEW[k]), expected)
    torch.testing.assert_close(likelihood(raw).log_prob(stored(FEW)[k]), expected)
    torch.testing.assert_close(likelihood(raw).mean, (theirs.probs * FEW).sum(-1))
    uniform = torch.rand(4, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    number = (theirs.probs.cumsum(-1) < uniform[..., None]).sum(-1)
    torch.testing.assert_close(likelihood(raw).sample(uniform), FEW[number])


@pytest.mark.parametrize("make", [Categorical, DiscretizedLogistic, functools.partial(MixtureOfLogistics, 2)])
@pytest.mark.parametrize("levels", [2, 3, 17, 100, 255, 256])
def test_stored_levels_are_scored_as_the_levels_themselves(make, levels):
    likelihood, values = make(levels=levels), (torch.arange(levels) * (2 / (levels - 1)) - 1).view(-1, 1, 1, 1)
    raw = outputs(likelihood, n=1, dtype=torch.float32).expand(levels, -1, -1, -1)
    likelihood.check(stored(values))
    likelihood.check(values)
    found = likelihood(raw).log_prob(stored(values))
    torch.testing.assert_close(found, likelihood(raw).log_prob(values))
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("make", [Categorical, DiscretizedLogistic])
@pytest.mark.parametrize("value", [0.1, 16 / 127.5 - 1 + 2 / 127.5, 15.7 / 127.5 - 1])
def test_a_value_between_few_levels_is_refused(make, value):
    told = rf"{make.__name__}: values between the 17 levels were found \(for example {value:.4f}\)"
    with pytest.raises(UserError, match=told):
        make(levels=17).check(torch.tensor([[[[-1.0, 0.0, value]]]]))


@pytest.mark.parametrize("levels", [None, 1, 0])
def test_a_categorical_without_levels_is_refused(levels):
    found = "null" if levels is None else levels
    with pytest.raises(UserError, match=rf"model.likelihood.levels: {found} was found, a whole number of at least 2"):
        Categorical(levels)
    if levels is not None:
        with pytest.raises(UserError, match=rf"model.likelihood.levels: {levels} was found, a whole number of at"):
            DiscretizedLogistic(levels)


def test_what_a_binary_image_costs_is_its_bernoulli():
    logit, x = outputs(Bernoulli(), side=2), images("Bernoulli", 5, 1, 2, 2)
    two = torch.cat([torch.zeros_like(logit), logit], 1)
    torch.testing.assert_close(Categorical(2)(two).log_prob(x), Bernoulli()(logit).log_prob(x))


# ---- bits per dimension


def test_a_uniform_density_has_exactly_eight_bits():
    x = 2 * torch.rand(6, 3, 32, 32) - 1
    nats = -ContinuousBernoulli()(torch.zeros_like(x)).log_prob(x)
    torch.testing.assert_close(ContinuousBernoulli().bits_per_dim(nats, 3072), torch.full((6,), 8.0), rtol=0, atol=1e-6)


def test_a_uniform_mass_of_256_levels_has_exactly_eight_bits_and_a_fair_coin_one():
    nats = torch.tensor([3072 * math.log(256)])
    assert DiscretizedLogistic().bits_per_dim(nats, 3072).item() == pytest.approx(8, abs=1e-6)
    coins = -Bernoulli()(torch.zeros(1, 1, 28, 28)).log_prob(torch.ones(1, 1, 28, 28))
    assert Bernoulli().bits_per_dim(coins, 784).item() == pytest.approx(1, abs=1e-6)


def test_which_likelihoods_are_masses():
    assert {name for name, (make, _) in CASES.items() if make().discrete} == {
        name for name, (_, of) in CASES.items() if isinstance(of, str)
    }
    assert all(make().bits_offset() == (0 if make().discrete else 7) for make, _ in CASES.values())
    assert all(make().bits_offset(16) == (0 if make().discrete else 3) for make, _ in CASES.values())
    assert isinstance(Bernoulli(), nn.Module)
