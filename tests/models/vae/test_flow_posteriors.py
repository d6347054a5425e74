"""Flow posteriors and learned priors: exact densities, exact draws, and the gap that a diagonal posterior leaves."""

import math
import sys

import numpy as np
import pytest
import torch
from support.bottlenecks import shaken
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from lit_gen.core.errors import UserError
from lit_gen.models.vae.bottleneck import GaussianBottleneck
from lit_gen.models.vae.latents import StandardNormal
from lit_gen.models.vae.objectives import importance_bound
from lit_gen.models.vae.posteriors import IAFPosterior, Planar, SplinePosterior, constrained
from lit_gen.models.vae.priors import FlowPrior, VampPrior

F64 = torch.float64
POSTERIORS = {
    "IAFPosterior": lambda: IAFPosterior(width=8, context=3),
    "IAFPosterior of one covariance": lambda: IAFPosterior(1, depth=0, context=0),
    "splines": lambda: SplinePosterior(1, width=8, bins=5, context=3),
    "planar": lambda: Planar(3),
}
PRIORS = {
    "RealNVP": lambda: FlowPrior("realnvp", width=8),
    "MAF": lambda: FlowPrior("maf", 2, width=8),
    "splines": lambda: FlowPrior("nsf", 2, width=8),
    "VampPrior": lambda: VampPrior((2, 1, 1), components=3),
}


def drawn(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def made(dim, posterior=None, prior=None, by=0.2):
    """A bottleneck in float64 past its beginning, its prior attached to an encoder of pairs."""
    torch.manual_seed(0)
    bottleneck = shaken(GaussianBottleneck(dim, posterior, prior), by).double()
    bottleneck.attach(nn.Sequential(nn.Flatten(), nn.Linear(2, bottleneck.features)).double())
    return bottleneck


def grid(low, high, count, dim):
    """Points (count^dim, dim) and the volume of each."""
    axis = torch.linspace(low, high, count, dtype=F64)
    return torch.cartesian_prod(*[axis] * dim).view(-1, dim), float(axis[1] - axis[0]) ** dim


# ---- posteriors


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("name", POSTERIORS)
def test_a_flow_begins_as_the_diagonal_gaussian(name, dim):
    torch.manual_seed(0)
    bottleneck = GaussianBottleneck(dim, POSTERIORS[name]()).double()
    features, noise = drawn(4, bottleneck.features), drawn(4, dim, seed=2)
    found, gaussian = bottleneck(features, noise), GaussianBottleneck(dim)
    expected = gaussian(features[:, : 2 * dim], noise)
    torch.testing.assert_close(found.z, expected.z)
    torch.testing.assert_close(found.info["log_ratio"], gaussian.log_ratio(features[:, : 2 * dim], expected.z))


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize("name", POSTERIORS)
def test_log_q_is_the_change_of_variables(name, dim):
    posterior = made(dim, POSTERIORS[name]()).posterior
    features, noise = drawn(4, posterior.features(dim)), drawn(4, dim, seed=2)
    z, log_q = posterior(features).draw(noise)
    for i in range(4):
        of_row = posterior(features[i : i + 1])
        jacobian = torch.autograd.functional.jacobian(lambda e, q=of_row: q.draw(e[None])[0][0], noise[i])
        assert (jacobian - torch.diag(jacobian.diag())).abs().max() > 1e-3 or dim == 1
        expected = StandardNormal().log_prob(noise[i : i + 1]) - torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(log_q[i : i + 1], expected)
    if name != "planar":
        torch.testing.assert_close(posterior(features).log_prob(z), log_q)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e-3, 1.0, 100.0, 1e4])
@pytest.mark.parametrize("opposite", [False, True])
def test_planar_layers_stay_one_to_one_for_any_parameters(scale, opposite, dtype):
    w = scale * drawn(500, 3)
    u = -drawn(500, 1, seed=3).abs() * w if opposite else scale * drawn(500, 3, seed=2)
    u, w = u.to(dtype).requires_grad_(), w.to(dtype).requires_grad_()
    moved, slope = constrained(u, w)
    assert (slope > 0).all()
    wide_u, wide_w = moved.detach().double(), w.detach().double()
    along = (wide_w * wide_u).sum(1)
    rounding = 10 * torch.finfo(dtype).eps
    tolerance = rounding * (1 + wide_w.norm(dim=1) * u.detach().double().norm(dim=1))
    assert (along >= -1 - tolerance).all()
    assert ((along - (slope.detach().double() - 1)).abs() <= tolerance).all()
    (moved.sum() + slope.log().sum()).backward()
    assert torch.isfinite(u.grad).all()
    assert torch.isfinite(w.grad).all()
    if not scale:
        assert torch.equal(moved, u)
    if scale == 1 and opposite and dtype == F64:
        assert ((w * u).sum(1) < -1).any(), "the constraint had something to do"
        line = torch.linspace(-4, 4, 4001, dtype=F64)[:, None]  # along w: w z + (w u) tanh(w z) never turns back
        assert ((line + along * torch.tanh(line)).diff(dim=0) > 0).all()
        assert not ((line + (w * u).sum(1) * torch.tanh(line)).diff(dim=0) > 0).all()


def test_planar_draws_stay_finite_with_their_gradients_at_extremes():
    posterior = Planar(3)
    nn.init.ones_(posterior.gain)
    for scale in (1.0, 50.0, 1e4):
        features = (scale * drawn(64, posterior.features(4)).float()).requires_grad_()
        z, log_q = posterior(features).draw(drawn(64, 4, seed=2).float())
        log_q.sum().backward()
        for value in (z, log_q, features.grad):
            assert torch.isfinite(value).all(), scale


# ---- priors


@pytest.mark.parametrize("name", PRIORS)
def test_a_priors_density_integrates_to_one(name):
    prior = made(2, prior=PRIORS[name]()).prior
    points, volume = grid(-12, 12, 241, 2)
    with torch.no_grad():
        assert (prior.log_prob(points).exp().sum() * volume).item() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_of_one_latent_is_sampled_as_it_is_scored(name):
    """Every quantile of the noise once: the draws' distribution function is the integral of the density."""
    prior = made(1, prior=PRIORS[name](), by=1.0).prior
    n = 20_000
    noise = torch.special.ndtri((torch.arange(n, dtype=F64) + 0.5) / n)[:, None]
    points, step = grid(-15, 15, 30_001, 1)
    with torch.no_grad():
        draws, density = prior.sample(noise), prior.log_prob(points).exp()
    assert draws.shape == (n, 1)
    found = torch.searchsorted(draws[:, 0].sort().values, points[:, 0]) / n
    assert (found - density.cumsum(0) * step).abs().max().item() < 2e-3


@pytest.mark.parametrize("name", PRIORS)
def test_a_priors_draws_have_the_moments_of_its_density(name):
    prior = made(2, prior=PRIORS[name]()).prior
    points, volume = grid(-12, 12, 241, 2)
    with torch.no_grad():
        draws, mass = prior.sample(drawn(40_000, 2)), prior.log_prob(points).exp() * volume
    mean = (mass[:, None] * points).sum(0)
    covariance = (points * mass[:, None]).T @ points - mean.outer(mean)
    torch.testing.assert_close(draws.mean(0), mean, atol=5 * covariance.max().sqrt().item() / 200, rtol=0)
    torch.testing.assert_close(draws.T.cov(), covariance, atol=0.03 * covariance.max().item(), rtol=0)


@pytest.mark.parametrize("name", [name for name in PRIORS if name != "VampPrior"])
def test_a_flow_prior_begins_as_the_standard_normal_and_inverts_exactly(name):
    z = drawn(50, 3)
    prior = GaussianBottleneck(3, prior=PRIORS[name]()).double().prior
    torch.testing.assert_close(prior.log_prob(z), StandardNormal().log_prob(z))
    torch.testing.assert_close(prior.sample(z), z)
    prior = made(3, prior=PRIORS[name]()).prior
    draws = prior.sample(z)
    assert not torch.allclose(draws, z, atol=0.05)
    torch.testing.assert_close(prior.bijection(draws)[0], z)
    jacobian = torch.autograd.functional.jacobian(lambda e: prior.sample(e[None])[0], z[0])
    expected = StandardNormal().log_prob(z[:1]) - torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(prior.log_prob(draws[:1]), expected)


def test_a_vampprior_is_the_mixture_of_the_posteriors_of_its_pseudo_inputs():
    prior, z = VampPrior((1, 4, 4), components=7), drawn(9, 3)
    bottleneck = GaussianBottleneck(3, prior=prior).double()
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 6)).double()
    bottleneck.attach(encoder)
    assert prior.pseudo_inputs().shape == (7, 1, 4, 4)
    assert prior.pseudo_inputs().abs().max() < 1
    mean, log_variance = encoder(torch.tanh(prior.inputs)).chunk(2, 1)
    components = Independent(Normal(mean, (log_variance / 2).exp()), 1)
    mixture = MixtureSameFamily(Categorical(logits=torch.zeros(7, dtype=F64)), components)
    torch.testing.assert_close(prior.log_prob(z), mixture.log_prob(z))
    prior.log_prob(z).sum().backward()
    for parameter in (prior.inputs, *encoder.parameters()):
        assert parameter.grad.abs().sum() > 0
    assert [name for name, _ in bottleneck.named_parameters()] == ["prior.inputs"], "the encoder is no part of it"


# ---- both, against integrals


def log_joint(prior, x, z, w):
    return prior.log_prob(z) + Normal(z @ w.T, 1.0).log_prob(x).sum(-1)


@pytest.mark.parametrize("posterior", ["IAFPosterior", "splines", "planar"])
@pytest.mark.parametrize("prior", [None, *PRIORS])
def test_importance_weights_average_to_the_evidence(posterior, prior):
    """E[p(x|z) p(z) / q(z|x)] is p(x), known here by an integral, only if all three densities are exact."""
    if posterior == "planar" and prior == "VampPrior":
        return
    bottleneck = made(2, POSTERIORS[posterior](), PRIORS[prior]() if prior else None)
    w, n = drawn(3, 2, seed=8), 20_000
    x = torch.tensor([0.4, -0.3, 0.2], dtype=F64)
    points, volume = grid(-9, 9, 301, 2)
    features = 0.3 * drawn(1, bottleneck.features, seed=4)
    features[:, 2:4] += 0.7  # q wider than the posterior: no weight is large
    features = features.expand(n, -1)
    with torch.no_grad():
        evidence = (log_joint(bottleneck.prior, x, points, w).logsumexp(0) + math.log(volume)).item()
        coded = bottleneck(features, drawn(n, 2, seed=6))
        ratio = coded.info["log_ratio"]
        log_weights = ratio + Normal(coded.z @ w.T, 1.0).log_prob(x).sum(-1)
    share = (log_weights - evidence).exp()
    error = share.std().item() / math.sqrt(n)
    assert share.mean().item() == pytest.approx(1, abs=5 * error)
    assert share.std().item() < 5, "the mean says something"
    one, some, most = (importance_bound(log_weights.view(-1, k)).mean().item() for k in (1, 10, 1000))
    assert one < some < most < evidence + 5 * error
    assert evidence - most < 0.1 * (evidence - one)


@pytest.mark.parametrize("full", [False, True])
def test_a_flow_posterior_closes_the_gap_that_a_diagonal_one_leaves(full):
    """Probabilistic PCA of two latents whose posterior is correlated; decoder fixed, q optimized on exact integrals."""
    w, sigma, x = torch.tensor([[1.0, 0.8], [0.5, 0.9], [-0.3, 0.4]], dtype=F64), 0.5, drawn(12, 3)
    evidence = MultivariateNormal(torch.zeros(3, dtype=F64), w @ w.T + sigma**2 * torch.eye(3, dtype=F64)).log_prob(x)
    precision = torch.eye(2, dtype=F64) + w.T @ w / sigma**2
    gap = 0.5 * (precision.diag().log().sum() - precision.logdet()).item()
    assert gap > 0.25

    torch.manual_seed(0)
    bottleneck = GaussianBottleneck(2, IAFPosterior(1, depth=0, context=0) if full else None).double()
    encoder = nn.Linear(3, bottleneck.features).double()
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(5))
    weights = weights / weights.sum()
    noise, weights = torch.cartesian_prod(nodes, nodes), torch.cartesian_prod(weights, weights).prod(1)

    def bound(noise, weights):
        features = encoder(x).repeat_interleave(len(noise), 0)
        coded = bottleneck(features, noise.repeat(len(x), 1))
        elbo = Normal(coded.z @ w.T, sigma).log_prob(x.repeat_interleave(len(noise), 0)).sum(1) - coded.nats
        return (elbo.view(len(x), -1) * weights).sum(1)

    parameters = [*encoder.parameters(), *bottleneck.parameters()]
    optimizer = torch.optim.LBFGS(parameters, max_iter=300, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure():
        optimizer.zero_grad()
        loss = -bound(noise, weights).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        left = (evidence - bound(noise, weights)).mean().item()
        of_other_noise = (evidence - bound(drawn(50, 2), torch.full((50,), 1 / 50, dtype=F64))).mean().item()
    assert left == pytest.approx(0.0 if full else gap, abs=1e-4)
    if full:  # where q is the posterior, every draw says log p(x)
        assert of_other_noise == pytest.approx(0.0, abs=1e-3)


# ---- refusals, precision


def test_without_zuko_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    told = r"bottleneck.posterior: IAFPosterior needs the package zuko, which is missing; pip install zuko"
    with pytest.raises(UserError, match=told):
        GaussianBottleneck(2, IAFPosterior())
    with pytest.raises(UserError, match=r"bottleneck.prior: FlowPrior needs the package zuko"):
        GaussianBottleneck(2, prior=FlowPrior())
    GaussianBottleneck(2, Planar(), VampPrior((2, 1, 1)))  # ours


def test_mistakes_are_told():
    with pytest.raises(UserError, match=r"model.bottleneck.prior.transform: 'realnpv' was found.*'realnvp'"):
        FlowPrior("realnpv")
    for make, name in ((IAFPosterior, "layers"), (SplinePosterior, "width"), (FlowPrior, "layers"), (Planar, "layers")):
        with pytest.raises(UserError, match=rf"{name}: 0 was found, a whole number of at least 1 is expected"):
            make(**{name: 0})
    with pytest.raises(UserError, match=r"prior.components: 0 was found, a whole number of at least 1"):
        VampPrior((1, 2, 2), components=0)
    with pytest.raises(UserError, match=r"posterior.bins: 1 was found, a whole number of at least 2"):
        SplinePosterior(bins=1)
    with pytest.raises(UserError, match=r"posterior.context: -1 was found, a whole number of at least 0"):
        IAFPosterior(context=-1)
    with pytest.raises(UserError, match=r"VampPrior was found beside a posterior that can score only its own draws"):
        made(2, Planar(), VampPrior((2, 1, 1)))(drawn(3, 24), drawn(3, 2))
    with pytest.raises(UserError, match=r"VampPrior has no encoder"):
        GaussianBottleneck(2, prior=VampPrior((2, 1, 1))).sample(torch.zeros(1, 2))


@pytest.mark.parametrize("name", ["IAFPosterior", "splines", "planar"])
def test_weights_of_half_precision_leave_densities_in_float32(name):
    bottleneck = shaken(GaussianBottleneck(3, POSTERIORS[name](), FlowPrior(width=8)), 0.2).bfloat16()
    features, noise = drawn(5, bottleneck.features).bfloat16(), drawn(5, 3, seed=2).float()
    low, full = bottleneck(features, noise), bottleneck.float()(features, noise)
    assert low.z.dtype == low.nats.dtype == bottleneck.bfloat16().sample(noise).dtype == torch.float32
    torch.testing.assert_close(low.nats, full.nats, atol=0.1, rtol=0.05)
