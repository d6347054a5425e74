"""Bottleneck, posterior and prior: closed forms, extremes, refusals, and that parts of one's own fit in."""

import math

import pytest
import torch
from support.bottlenecks import Affine, Codebook, Planar, WidePrior, shaken
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.models.likelihoods.numerics import soften
from lit_gen.models.vae import bottleneck as bottlenecks
from lit_gen.models.vae import latents, posteriors, priors
from lit_gen.models.vae.bottleneck import Bottleneck, GaussianBottleneck
from lit_gen.models.vae.latents import DiagonalGaussian, Normal, Posterior, Prior, StandardNormal
from lit_gen.training.hparams import describe

F64 = torch.float64


def drawn(*shape, seed=1, dtype=F64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def flow(d, posterior=None, prior=None):
    """Past its beginning, where it is the identity; a mixture of posteriors has an encoder of pairs."""
    torch.manual_seed(0)
    bottleneck = GaussianBottleneck(d, posterior, prior)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(2, bottleneck.features))
    bottleneck.attach(encoder)
    bottleneck.double = lambda: (encoder.double(), nn.Module.double(bottleneck))[1]  # as a module of both would
    return shaken(bottleneck)


CASES = {  # ours, each with its default parts, and some of one's own
    "GaussianBottleneck": lambda d: GaussianBottleneck(d),
    "learned prior": lambda d: GaussianBottleneck(d, prior=WidePrior(d)),
    "flow posterior": lambda d: GaussianBottleneck(d, posterior=Affine()),
    "flow without an inverse": lambda d: GaussianBottleneck(d, posterior=Planar()),
    "codebook": lambda d: Codebook(d),
    "IAFPosterior": lambda d: flow(d, posteriors.IAFPosterior(width=8, context=2)),
    "IAFPosterior of one covariance": lambda d: flow(d, posteriors.IAFPosterior(1, depth=0, context=0)),
    "splines": lambda d: flow(d, posteriors.SplinePosterior(width=8, bins=4, context=3)),
    "planar": lambda d: flow(d, posteriors.Planar(2)),
    "RealNVP prior": lambda d: flow(d, prior=priors.FlowPrior("realnvp", width=8)),
    "MAF prior": lambda d: flow(d, prior=priors.FlowPrior("maf", 2, width=8)),
    "spline prior": lambda d: flow(d, prior=priors.FlowPrior("nsf", 1, width=8)),
    "VampPrior": lambda d: flow(d, prior=priors.VampPrior((2, 1, 1), components=3)),
    "IAFPosterior and VampPrior": lambda d: flow(
        d, posteriors.IAFPosterior(1, 8), priors.VampPrior((2, 1, 1), components=2)
    ),
    "planar and flow prior": lambda d: flow(d, posteriors.Planar(2), priors.FlowPrior(layers=2, width=8)),
}
OWN_DRAWS = {"flow without an inverse": "Planar", "planar": "Planar", "planar and flow prior": "Planar"}
every_bottleneck = pytest.mark.parametrize("name", CASES)


def test_every_bottleneck_is_put_through_the_laws():
    ours = {v for v in vars(bottlenecks).values() if isinstance(v, type) and issubclass(v, Bottleneck)} - {Bottleneck}
    assert ours <= {type(make(2)) for make in CASES.values()}
    classes = {v for module in (latents, posteriors, priors) for v in vars(module).values() if isinstance(v, type)}
    parts = {v for v in classes if issubclass(v, Posterior | Prior) and not v.__name__.startswith("_")}
    made = [make(2) for make in CASES.values()]
    assert parts - {Posterior, Prior} <= {type(getattr(b, part, b)) for b in made for part in ("posterior", "prior")}


# ---- laws


@every_bottleneck
def test_shapes_and_determinism(name):
    bottleneck = CASES[name](3).eval()
    features, noise = drawn(5, bottleneck.features, dtype=torch.float32), drawn(5, 3, seed=2, dtype=torch.float32)
    coded = bottleneck(features, noise)
    assert coded.z.shape == (5, 3)
    assert coded.nats.shape == (5,)
    for key, value in coded.info.items():
        assert value.shape == ((5,) if key in ("penalty", "log_ratio") else (5, 3)), key
    again = bottleneck(features, noise)
    assert torch.equal(coded.z, again.z)
    assert torch.equal(coded.nats, again.nats)
    assert bottleneck.sample(noise).shape == (5, 3)
    assert torch.equal(bottleneck.sample(noise), bottleneck.sample(noise))


@every_bottleneck
def test_rows_are_independent(name):
    bottleneck = CASES[name](3).eval()
    features, noise = drawn(5, bottleneck.features, dtype=torch.float32), drawn(5, 3, seed=2, dtype=torch.float32)
    whole, one = bottleneck(features, noise), bottleneck(features[2:3], noise[2:3])
    torch.testing.assert_close(whole.z[2:3], one.z)
    torch.testing.assert_close(whole.nats[2:3], one.nats)


@every_bottleneck
def test_gradients_reach_every_parameter_and_the_features(name):
    bottleneck = CASES[name](3)
    features = drawn(5, bottleneck.features, dtype=torch.float32).requires_grad_(True)
    coded = bottleneck(features, drawn(5, 3, seed=2, dtype=torch.float32))
    (coded.z.square().sum() + coded.nats.sum() + coded.info.get("penalty", torch.zeros(1)).sum()).backward()
    for key, gradient in [("features", features.grad), *((k, p.grad) for k, p in bottleneck.named_parameters())]:
        assert torch.isfinite(gradient).all(), key
        assert gradient.abs().sum() > 0, key


@every_bottleneck
def test_the_rate_is_the_mean_of_minus_the_log_ratio(name):
    """In expectation over the noise; for a one-sample estimate term by term."""
    bottleneck = CASES[name](2).double()
    features = drawn(1, bottleneck.features)
    count = 200_000 if "kl" in bottleneck(features, drawn(1, 2)).info else 1_000
    features = features.expand(count, -1)
    coded = bottleneck(features, drawn(count, 2, seed=2))
    if name == "codebook":
        with pytest.raises(UserError, match=r"model.bottleneck: Codebook has no density"):
            bottleneck.log_ratio(features, coded.z)
        return
    known = coded.info.get("log_ratio")
    assert (known is None) == ("kl" in coded.info)
    if name in OWN_DRAWS:
        with pytest.raises(UserError, match=f"posterior {OWN_DRAWS[name]} can score only its own draws"):
            bottleneck.log_ratio(features, coded.z)
        estimate = -known
    else:
        estimate = -bottleneck.log_ratio(features, coded.z)
        if known is not None:
            torch.testing.assert_close(known, -estimate)
    if "kl" not in coded.info:
        torch.testing.assert_close(coded.nats, estimate)
    assert abs(coded.nats.mean() - estimate.mean()).item() < 4 * estimate.std().item() / math.sqrt(len(estimate)) + 1e-9


@every_bottleneck
def test_a_wrong_number_of_features_is_refused(name):
    bottleneck = CASES[name](3)
    expected = rf"model.encoder: an output of shape \(5, {bottleneck.features + 1}\) was found, \(B, "
    with pytest.raises(UserError, match=expected):
        bottleneck(torch.zeros(5, bottleneck.features + 1), torch.zeros(5, 3))


@pytest.mark.parametrize("dim", [0, -2])
def test_a_latent_without_dimensions_is_refused(dim):
    with pytest.raises(UserError, match=rf"model.bottleneck.latent_dim: {dim} was found, a whole number of at least 1"):
        GaussianBottleneck(dim)


def test_described_and_rebuilt():
    described = describe(GaussianBottleneck(7), "model.bottleneck")
    assert described["init_args"]["latent_dim"] == 7
    assert described["init_args"]["prior"] == {
        "class_path": "lit_gen.models.vae.latents.StandardNormal",
        "init_args": {},
    }
    again = GaussianBottleneck(7, posterior=DiagonalGaussian(), prior=StandardNormal())
    assert describe(again, "model.bottleneck") == described
    assert GaussianBottleneck(7).features == 14


# ---- closed forms


@pytest.mark.parametrize(("mean", "variance", "nats"), [(1.0, 1.0, 0.5), (0.0, 4.0, 0.8068528), (0.0, 1.0, 0.0)])
def test_kl_by_hand(mean, variance, nats):
    features = torch.tensor([[mean, math.log(variance)]])
    assert GaussianBottleneck(1)(features, torch.zeros(1, 1)).nats.item() == pytest.approx(nats, abs=1e-6)


def test_kl_and_densities_are_torchs():
    features, noise = 2 * drawn(64, 10), drawn(64, 5, seed=2)
    coded = GaussianBottleneck(5)(features, noise)
    q = torch.distributions.Normal(features[:, :5], (features[:, 5:] / 2).exp())
    p = torch.distributions.Normal(torch.zeros(5, dtype=F64), torch.ones(5, dtype=F64))
    torch.testing.assert_close(coded.info["kl"], torch.distributions.kl_divergence(q, p))
    torch.testing.assert_close(coded.nats, coded.info["kl"].sum(1))
    torch.testing.assert_close(coded.z, q.loc + q.scale * noise)
    ratio = (p.log_prob(coded.z) - q.log_prob(coded.z)).sum(1)
    torch.testing.assert_close(GaussianBottleneck(5).log_ratio(features, coded.z), ratio)
    assert (coded.info["kl"] >= 0).all()
    assert torch.equal(coded.info["mean"], features[:, :5])
    assert torch.equal(coded.info["log_variance"], features[:, 5:])  # exact in the normal range


def test_kl_near_zero_keeps_its_digits_in_float32():
    features = torch.tensor([[0.0, 1e-3]])
    assert GaussianBottleneck(1)(features, torch.zeros(1, 1)).nats.item() == pytest.approx(2.5008e-7, rel=0.02)


def test_a_flow_without_an_inverse_scores_its_draws_by_their_jacobian():
    bottleneck = GaussianBottleneck(3, posterior=Planar())
    features, noise = drawn(4, bottleneck.features), drawn(4, 3, seed=2)
    code = bottleneck(features, noise)
    for i in range(4):
        jacobian = torch.autograd.functional.jacobian(
            lambda e, i=i: bottleneck(features[i : i + 1], e[None]).z[0], noise[i]
        )
        log_q = StandardNormal().log_prob(noise[i : i + 1]) - torch.linalg.slogdet(jacobian).logabsdet
        expected = StandardNormal().log_prob(code.z[i : i + 1]) - log_q
        torch.testing.assert_close(code.info["log_ratio"][i : i + 1], expected)


def test_the_prior_is_sampled_from_as_it_is_scored():
    prior, noise = WidePrior(3), drawn(5, 3, dtype=torch.float32)
    bottleneck = GaussianBottleneck(3, prior=prior)
    assert torch.equal(bottleneck.sample(noise), prior.sample(noise))
    assert torch.equal(GaussianBottleneck(3).sample(noise), noise)


# ---- extremes


@pytest.mark.parametrize("log_variance", [-1e4, -100.0, -20.0, 0.0, 10.0, 100.0, 1e4])
def test_extreme_log_variances_stay_finite_with_a_gradient_towards_the_prior(log_variance):
    features = torch.tensor([[0.5, log_variance]], requires_grad=True)
    bottleneck = GaussianBottleneck(1)
    coded = bottleneck(features, torch.tensor([[1.7]]))
    ratio = bottleneck.log_ratio(features, coded.z)
    for value in (coded.z, coded.nats, ratio):
        assert torch.isfinite(value).all()
    (gradient,) = torch.autograd.grad(coded.nats.sum(), features, retain_graph=True)
    assert torch.isfinite(gradient).all()
    assert math.copysign(1, gradient[0, 1]) == math.copysign(1, log_variance) or log_variance == 0
    assert (gradient[0, 1] != 0) == (log_variance != 0)
    (of_ratio,) = torch.autograd.grad(ratio.sum(), features)
    assert torch.isfinite(of_ratio).all()
    if abs(log_variance) <= 10:
        expected = 0.5 * (math.exp(log_variance) - 1)
        assert gradient[0, 1].item() == pytest.approx(expected, rel=1e-6)


def test_soften_is_the_identity_inside_and_smooth_everywhere():
    x = torch.linspace(-60, 60, 24_001, dtype=F64).requires_grad_(True)
    y = soften(x, -20, 10)
    inside = (x >= -20) & (x <= 10)
    assert torch.equal(y[inside], x[inside])
    (slope,) = torch.autograd.grad(y.sum(), x)
    distance = torch.relu(x - 10) + torch.relu(-20 - x)
    torch.testing.assert_close(slope, 1 / (1 + distance))
    torch.testing.assert_close(y[-1].item(), 10 + math.log(51))
    torch.testing.assert_close(y[0].item(), -20 - math.log(41))
    assert torch.equal(slope[inside], torch.ones_like(slope[inside]))
    assert torch.equal(soften(x[inside], -20, 10), x[inside])
    beside = torch.tensor([-math.inf, math.nan, 1.0, math.inf])  # one that is beyond does not change the others
    torch.testing.assert_close(soften(beside, -20, 10), beside, equal_nan=True)
    assert soften(x[:0], -20, 10).shape == (0,)
    assert torch.autograd.gradcheck(
        lambda v: soften(v, -1, 1), torch.tensor([-3.0, -0.5, 0.7, 5.0], dtype=F64).requires_grad_()
    )


def test_the_rate_is_in_float32_under_autocast():
    features = drawn(4, 6, dtype=torch.float32)
    bottleneck, noise = GaussianBottleneck(3, prior=WidePrior(3)), drawn(4, 3, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = bottleneck(features.bfloat16(), noise)
        ratio = bottleneck.log_ratio(features.bfloat16(), low.z)
    full = bottleneck(features.bfloat16().float(), noise)
    assert low.nats.dtype == low.z.dtype == ratio.dtype == torch.float32
    assert torch.equal(low.nats, full.nats)


class TurnedPrior(Prior):
    """N(0, I) of z through a network, which autocast would run in bfloat16."""

    def __init__(self):
        super().__init__()
        self.turn = nn.Linear(3, 3)

    def log_prob(self, z):
        return StandardNormal().log_prob(self.turn(z))


def test_a_prior_with_a_network_is_in_float32_under_autocast_too():
    features, noise = drawn(4, 6, dtype=torch.float32), drawn(4, 3, dtype=torch.float32)
    bottleneck = GaussianBottleneck(3, prior=TurnedPrior())
    full = bottleneck(features, noise)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = bottleneck(features, noise)
        ratio = bottleneck.log_ratio(features, low.z)
    assert torch.equal(low.nats, full.nats)
    assert torch.equal(ratio, bottleneck.log_ratio(features, full.z))


def test_a_fixed_posterior_gets_no_gradient_but_through_z():
    features = drawn(4, 6).requires_grad_(True)
    z = drawn(4, 3).requires_grad_(True)
    ratio = GaussianBottleneck(3).log_ratio(features, z, fixed=True)
    assert torch.equal(ratio, GaussianBottleneck(3).log_ratio(features, z))
    of_features, of_z = torch.autograd.grad(ratio.sum(), (features, z), allow_unused=True)
    assert of_features is None
    assert of_z.abs().sum() > 0
    with pytest.raises(UserError, match=r"model.objective.dreg: posterior Affine has parameters of its own"):
        GaussianBottleneck(3, posterior=Affine()).log_ratio(features.float(), z.float(), fixed=True)


def test_a_normal_samples_what_it_scores():
    normal = Normal(torch.tensor([[0.3]], dtype=F64), torch.tensor([[-0.7]], dtype=F64))
    z = torch.linspace(-12, 12, 20_001, dtype=F64)[:, None]
    assert torch.trapezoid(normal.log_prob(z).exp(), z[:, 0]).item() == pytest.approx(1, abs=1e-9)
    noise = drawn(100_000, 1)
    assert normal.sample(noise).mean().item() == pytest.approx(0.3, abs=0.01)
    assert normal.sample(noise).var().item() == pytest.approx(math.exp(-0.7), rel=0.02)
