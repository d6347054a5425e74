"""Objectives: laws that all keep, hand-computed cases, and a linear VAE against probabilistic PCA in closed form."""

import math

import pytest
import torch
from support.bottlenecks import Affine, Codebook, Planar, WidePrior
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.models.likelihoods.bernoulli import Bernoulli
from lit_gen.models.likelihoods.gaussian import Gaussian
from lit_gen.models.vae import mlp, objectives
from lit_gen.models.vae.bottleneck import Code, GaussianBottleneck
from lit_gen.models.vae.layers import connect
from lit_gen.models.vae.objectives import ELBO, IWAE, Objective, importance_bound, weigh
from lit_gen.training.hparams import describe
from lit_gen.training.schedules import Cyclical, Linear

F64 = torch.float64


class Model(nn.Module):
    """The least that an objective needs to see."""

    def __init__(self, encoder, decoder, bottleneck, likelihood):
        super().__init__()
        connect(encoder, decoder, bottleneck, likelihood)
        self.encoder, self.decoder, self.bottleneck, self.likelihood = encoder, decoder, bottleneck, likelihood

    def encode_features(self, x, labels):
        return self.encoder(x, labels)

    def decode(self, z, labels):
        return self.likelihood(self.decoder(z, labels))


def normal(*shape, seed=1, dtype=F64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradients(loss, model):
    return {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(
            model.named_parameters(),
            torch.autograd.grad(loss, list(model.parameters()), allow_unused=True),
            strict=True,
        )
    }


# ---- laws of every objective

CASES = {  # every objective needs an entry
    "ELBO": ELBO,
    "ELBO-beta": lambda: ELBO(beta=Linear(0.5, 4, 10)),
    "ELBO-cyclical": lambda: ELBO(beta=Cyclical(0.25, 1, 10)),
    "ELBO-free_bits": lambda: ELBO(free_bits=1e-6),
    "ELBO-capacity": lambda: ELBO(capacity=Linear(0, 25, 10)),
    "ELBO-mean": lambda: ELBO(reduction="mean"),
    "IWAE": lambda: IWAE(3),
    "IWAE-dreg": lambda: IWAE(3, dreg=True),
}
BOTTLENECKS = {
    "plain": lambda: GaussianBottleneck(3),
    "learned prior": lambda: GaussianBottleneck(3, prior=WidePrior(3)),
    "flow posterior": lambda: GaussianBottleneck(3, posterior=Affine()),
    "flow without an inverse": lambda: GaussianBottleneck(3, posterior=Planar()),
    "codebook": lambda: Codebook(3),
}
NOT_TOGETHER = {  # what is said
    ("ELBO-free_bits", "learned prior"): "does not know its rate by dimension",
    ("ELBO-free_bits", "flow posterior"): "does not know its rate by dimension",
    ("ELBO-free_bits", "codebook"): "does not know its rate by dimension",
    ("ELBO-free_bits", "flow without an inverse"): "does not know its rate by dimension",
    ("IWAE-dreg", "flow posterior"): "has parameters of its own",
    ("IWAE-dreg", "flow without an inverse"): "dreg: posterior Planar can score only its own draws",
    ("IWAE", "codebook"): "has no density",
    ("IWAE-dreg", "codebook"): "has no density",
}
every_objective = pytest.mark.parametrize("name", CASES)


def test_every_objective_is_put_through_the_laws():
    found = {v for v in map(objectives.__dict__.get, objectives.__all__)
             if isinstance(v, type) and issubclass(v, Objective)} - {Objective}  # fmt: skip
    assert {type(make()) for make in CASES.values()} == found


def conditional_model(bottleneck):
    torch.manual_seed(0)
    parts = [cls((1, 2, 3), width=8, conditioning="concat", num_classes=3) for cls in (mlp.Encoder, mlp.Decoder)]
    return Model(*parts, bottleneck, Bernoulli())


def batch(objective, n=8):
    x = torch.where(normal(n, 1, 2, 3, dtype=torch.float32) > 0, 1.0, -1.0)
    return x, torch.arange(n) % 3, normal(n, objective.samples, 3, seed=2, dtype=torch.float32)


@every_objective
@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_terms_of_every_bottleneck(name, bottleneck):
    objective, model = CASES[name](), conditional_model(BOTTLENECKS[bottleneck]())
    x, labels, noise = batch(objective)
    if (name, bottleneck) in NOT_TOGETHER:
        with pytest.raises(UserError, match=NOT_TOGETHER[name, bottleneck]):
            objective(model, x, labels, noise, 3)
        return
    terms = objective(model, x, labels, noise, 3)
    assert terms.loss.shape == ()
    assert terms.distortion.shape == terms.rate.shape == (8,)
    assert all(torch.isfinite(torch.as_tensor(v)).all() and torch.as_tensor(v).ndim == 0 for v in terms.info.values())
    assert terms.info["beta_effective"] > 0
    for key, gradient in gradients(terms.loss, model).items():
        assert torch.isfinite(gradient).all(), key
        assert gradient.abs().sum() > 0, key
    again = objective(model, x, labels, noise, 3)
    assert torch.equal(again.loss, terms.loss)
    assert torch.equal(again.rate, terms.rate)


@pytest.mark.parametrize("bottleneck", ["learned prior", "flow posterior", "flow without an inverse"])
def test_a_single_importance_weight_is_the_one_sample_bound(bottleneck):
    model = conditional_model(BOTTLENECKS[bottleneck]())
    x, labels, noise = batch(ELBO())
    plain = ELBO()(model, x, labels, noise, 0)
    torch.testing.assert_close(weigh(model, x, labels, noise).log_weights[:, 0], -plain.distortion - plain.rate)


@every_objective
def test_a_duplicated_batch_has_the_same_loss(name):
    objective, model = CASES[name](), conditional_model(GaussianBottleneck(3))
    x, labels, noise = batch(objective)
    once = objective(model, x, labels, noise, 3).loss
    twice = objective(model, x.repeat(2, 1, 1, 1), labels.repeat(2), noise.repeat(2, 1, 1), 3).loss
    torch.testing.assert_close(once, twice)


@every_objective
def test_terms_are_of_the_plain_bound_whatever_the_loss_weighs(name):
    objective, model = CASES[name](), conditional_model(GaussianBottleneck(3))
    x, labels, noise = batch(objective)
    found = objective(model, x, labels, noise, 3)
    plain = ELBO()(model, x, labels, noise, 0)
    if objective.samples == 1:
        assert torch.equal(found.distortion, plain.distortion)
        assert torch.equal(found.rate, plain.rate)
    many = [objective(model, x, labels, normal(8, objective.samples, 3, seed=s, dtype=torch.float32), 3).rate
            for s in range(200)]  # fmt: skip
    torch.testing.assert_close(torch.stack(many).mean(0), plain.rate, atol=0.25, rtol=0)


@every_objective
def test_described_and_rebuilt(name):
    described = describe(CASES[name](), "model.objective")
    init = dict(described["init_args"])
    for key, cls in (("beta", {"Linear": Linear, "Cyclical": Cyclical}), ("capacity", {"Linear": Linear})):
        if isinstance(init.get(key), dict):
            init[key] = cls[init[key]["class_path"].rsplit(".", 1)[1]](**init[key]["init_args"])
    assert describe(type(CASES[name]())(**init), "model.objective") == described


# ---- by hand


def coded(kl, **info):
    kl = torch.tensor(kl)
    return Code(torch.zeros_like(kl), kl.sum(1), {"kl": kl, **info})


DISTORTION = torch.tensor([90.0, 110.0])
KL = [[0.1, 2.0], [0.3, 0.0]]  # by dimension 0.2 and 1.0, together 1.2


@pytest.mark.parametrize(("reduction", "effective"), [("sum", 0.5), ("pixel_mean", 0.5 * 784), ("mean", 0.5 * 784 / 2)])
def test_beta_effective_is_what_an_averaging_code_does(reduction, effective):
    terms = ELBO(beta=0.5, reduction=reduction).combine(DISTORTION, coded(KL), 784, 0)
    assert terms.info["beta_effective"] == effective
    assert terms.loss.item() == pytest.approx(100 + effective * 1.2)
    rate = {"sum": 1.2, "pixel_mean": 1.2, "mean": 1.2 / 2}[reduction]
    theirs = 100 / (1 if reduction == "sum" else 784) + 0.5 * rate  # the same loss but for a factor
    assert terms.loss.item() == pytest.approx(theirs * (1 if reduction == "sum" else 784))


def test_the_public_default_that_is_really_one_and_a_half():
    """PyTorch-VAE's kld_weight 0.00025 beside MSE.mean on 3x64x64: squared error / 2 has half that factor."""
    terms = ELBO(beta=0.00025, reduction="pixel_mean").combine(DISTORTION, coded(KL), 3 * 64 * 64, 0)
    assert terms.info["beta_effective"] / 2 == pytest.approx(1.536)


@pytest.mark.parametrize(("theirs", "beta"), [((-1, 1), 0.01 / 2), ((0, 1), 0.01 * 2)])
def test_a_weight_beside_a_mean_squared_error_is_entered_as_the_docs_say(theirs, beta):
    """Their loss is MSE.mean + 0.01 KL, of their images; ours is that but for a factor and a constant."""
    low, high = theirs
    x, mean, kl = torch.rand(2, 8, 1, 2, 3, dtype=F64) * 2 - 1, None, torch.tensor(KL, dtype=F64)
    found = []
    for mean in torch.rand(2, 8, 1, 2, 3, dtype=F64) * 2 - 1:
        squared = ((x[0] - mean) * (high - low) / 2).square().mean()
        distortion = -Gaussian(1.0)(mean).log_prob(x[0])
        for factor in (1, 3):
            code = Code(torch.zeros(2, 2), factor * kl.sum(1), {})
            loss = ELBO(beta=beta, reduction="pixel_mean").combine(distortion, code, 6, 0).loss
            found.append((loss.item(), (squared + 0.01 * factor * kl.sum(1).mean()).item()))
    ours, others = torch.tensor(found, dtype=F64).diff(dim=0).unbind(1)
    torch.testing.assert_close(ours / others, (ours / others)[:1].expand(3))


@pytest.mark.parametrize(("free_bits", "rate"), [(0.0, 1.2), (0.1, 1.2), (0.5, 1.5), (3.0, 6.0)])
def test_free_bits_by_hand(free_bits, rate):
    """The larger of lambda and the batch's mean, by dimension; by image it would be 1.75 at 0.5, on the total 1.2."""
    terms = ELBO(beta=2.0, free_bits=free_bits).combine(DISTORTION, coded(KL), 784, 0)
    assert terms.loss.item() == pytest.approx(100 + 2 * rate)
    assert terms.rate.tolist() == pytest.approx([2.1, 0.3])


def test_free_bits_spare_the_dimensions_below():
    kl = torch.tensor(KL, requires_grad=True)
    terms = ELBO(free_bits=0.5).combine(DISTORTION, Code(kl, kl.sum(1), {"kl": kl}), 784, 0)
    (gradient,) = torch.autograd.grad(terms.loss, kl)
    assert gradient.tolist() == [[0.0, 0.5], [0.0, 0.5]]


@pytest.mark.parametrize(("step", "capacity", "loss"), [(0, 0.0, 12.0), (2, 0.5, 7.0), (8, 2.0, 8.0), (99, 2.5, 13.0)])
def test_capacity_by_hand(step, capacity, loss):
    """10 |1.2 - C|, of the batch's mean."""
    terms = ELBO(capacity=Linear(0, 2.5, 10), gamma=10).combine(DISTORTION, coded(KL), 784, step)
    assert terms.info == {"beta_effective": 10, "capacity": capacity}
    assert terms.loss.item() == pytest.approx(100 + loss, abs=1e-4)


@pytest.mark.parametrize(("step", "beta"), [(0, 0.0), (1, 0.1), (5, 0.5), (10, 1.0), (11, 1.0)])
def test_linear_beta_by_hand(step, beta):
    terms = ELBO(beta=Linear(0, 1, 10)).combine(DISTORTION, coded(KL), 784, step)
    assert terms.info["beta_effective"] == pytest.approx(beta)
    assert terms.loss.item() == pytest.approx(100 + beta * 1.2)


def test_cyclical_beta_by_hand():
    schedule = Cyclical(0, 1, 100, cycles=4, ratio=0.5)
    by_hand = {
        0: 0,
        5: 0.4,
        12: 0.96,
        13: 1,
        24: 1,
        25: 0,
        30: 0.4,
        50: 0,
        74: 1,
        75: 0,
        80: 0.4,
        99: 1,
        100: 1,
        999: 1,
    }
    assert [schedule(step) for step in by_hand] == pytest.approx(list(by_hand.values()))
    assert ELBO(beta=schedule).combine(DISTORTION, coded(KL), 784, 30).loss.item() == pytest.approx(100 + 0.4 * 1.2)
    pairs = Cyclical(0, 1, 98, cycles=49)  # 1 / 49 * 49 is less than 1: no cycle begins a rounding error late
    assert [pairs(2 * i) for i in range(49)] == pytest.approx([0] * 49, abs=1e-6)
    assert [Cyclical(0.2, 1, 10, cycles=1, ratio=1)(s) for s in (0, 5, 10)] == pytest.approx([0.2, 0.6, 1])
    assert [Cyclical(1, 3, 8, warmup=2, cycles=2)(s) for s in range(11)] == pytest.approx(
        [0.5, 1, 1, 2, 3, 3, 1, 2, 3, 3, 3]
    )


@pytest.mark.parametrize(("name", "value"), [("cycles", 0), ("ratio", 0), ("ratio", 1.5)])
def test_cyclical_refuses(name, value):
    with pytest.raises(UserError, match=rf"model.schedules: Cyclical with .*{name} {value}.* was found"):
        Cyclical(0, 1, 100, **{name: value})
    with pytest.raises(UserError, match="Cyclical with steps 0"):
        Cyclical(0, 1, 0)


@pytest.mark.parametrize("objective", [ELBO(beta=3.0), ELBO(capacity=Linear(1.2, 1.2, 1))])
def test_a_penalty_is_in_the_loss_and_in_no_bound(objective):
    without = objective.combine(DISTORTION, coded(KL), 784, 0)
    found = objective.combine(DISTORTION, coded(KL, penalty=torch.tensor([1.0, 6.0])), 784, 0)
    assert (found.loss - without.loss).item() == pytest.approx(3.5)
    assert torch.equal(found.rate, without.rate)
    assert torch.equal(found.distortion, without.distortion)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: ELBO(beta=-1.0), r"model.objective.beta: -1.0 was found, a number of at least 0 is expected"),
        (lambda: ELBO(beta=math.nan), r"model.objective.beta: nan was found"),
        (
            lambda: ELBO(free_bits=-0.1),
            r"model.objective.free_bits: -0.1 was found, a number of at least 0 is expected",
        ),
        (lambda: ELBO(gamma=-1), r"model.objective.gamma: -1 was found"),
        (lambda: ELBO(reduction="pixel"), r"model.objective.reduction: 'pixel' was found.*did you mean 'pixel_mean'"),
        (
            lambda: ELBO(capacity=Linear(0, 1, 1), free_bits=1.0),
            r"model.objective.capacity: .* beside free_bits 1.0; set free_bits to 0",
        ),
        (
            lambda: ELBO(capacity=Linear(0, 1, 1), beta=2.0),
            r"model.objective.capacity: .* beside a beta; set beta to 1.0",
        ),
        (lambda: IWAE(0), r"model.objective.k: 0 was found, a whole number of at least 1 is expected"),
        (lambda: IWAE(-5), r"model.objective.k: -5 was found"),
    ],
)
def test_bad_options_are_refused_by_name(make, told):
    with pytest.raises(UserError, match=told):
        make()


class Fined(GaussianBottleneck):
    """A penalty of 0, 1, 2, ... for the rows."""

    def forward(self, features, noise):
        found = super().forward(features, noise)
        return found._replace(info={**found.info, "penalty": torch.arange(len(features), dtype=noise.dtype)})


def test_iwae_adds_the_mean_penalty_of_all_samples():
    x, labels, noise = batch(IWAE(3))
    model = conditional_model(GaussianBottleneck(3))
    without = IWAE(3)(model, x, labels, noise, 0)
    model.bottleneck = Fined(3)
    found = IWAE(3)(model, x, labels, noise, 0)
    assert (found.loss - without.loss).item() == pytest.approx((8 * 3 - 1) / 2, rel=1e-5)
    assert torch.equal(found.rate, without.rate)


# ---- a linear VAE is probabilistic PCA (Tipping and Bishop, 1999; Lucas et al., 2019, arXiv 1911.02469)

N, D, Q = 40, 6, 3
SHAPE = (1, 2, 3)


class PCA:
    """Data with distinct eigenvalues, and what is known of its linear VAE at s2 = beta * sigma^2."""

    def __init__(self, dtype=F64):
        scales = torch.tensor([2.0, 1.5, 1.1, 0.8, 0.5, 0.4], dtype=F64)
        rotation = torch.linalg.qr(normal(D, D, seed=7)).Q
        x = normal(N, D, seed=8) * scales @ rotation + normal(D, seed=9)
        self.mean = x.mean(0)
        centred = x - self.mean
        values, vectors = torch.linalg.eigh(centred.T @ centred / N)
        self.values, self.vectors = values.flip(0), vectors.flip(1)  # l_1 >= ... >= l_D
        self.x, self.dtype = x, dtype

    @property
    def noise_variance(self):
        """The maximum-likelihood sigma^2: the mean of the eigenvalues left over."""
        return self.values[Q:].mean().item()

    @property
    def log_likelihood(self):
        """The greatest, of one datum."""
        logs = self.values[:Q].log().sum() + (D - Q) * math.log(self.noise_variance)
        return -0.5 * (D * math.log(2 * math.pi) + logs + D).item()

    def active(self, s2):
        return self.values[:Q] > s2

    def kl(self, s2):
        """Nats by dimension, 1/2 ln(l_j / s2) of the active ones."""
        return torch.where(self.active(s2), 0.5 * (self.values[:Q] / s2).log(), 0.0)

    def model(self, likelihood, s2):
        """The optimal linear VAE: w_j = sqrt(l_j - s2) u_j, q(z_j|x) = N(w_j (x - mean) / l_j, s2 / l_j)."""
        model = blank(likelihood)
        lengths = (self.values[:Q] - s2).clamp(min=0)
        w, m = self.vectors[:, :Q] * lengths.sqrt(), lengths + s2  # (D, Q), (Q,)
        encoder, decoder = model.encoder.layers[0], model.decoder.layers[0]
        with torch.no_grad():
            decoder.weight.copy_(w)
            decoder.bias.copy_(self.mean)
            encoder.weight.copy_(torch.cat([(w / m).T, torch.zeros(Q, D)]))
            encoder.bias.copy_(torch.cat([-(w / m).T @ self.mean, (s2 / m).log()]))
        return model.to(self.dtype)

    def batch(self):
        """The data with noise points whose mean is 0 and whose covariance is I: expectations of squares are exact."""
        noise = math.sqrt(Q) * torch.cat([torch.eye(Q, dtype=F64), -torch.eye(Q, dtype=F64)])
        x = self.x.repeat_interleave(2 * Q, 0).view(-1, *SHAPE)
        return x.to(self.dtype), None, noise.repeat(N, 1)[:, None].to(self.dtype)


def blank(likelihood):
    torch.manual_seed(3)
    parts = mlp.Encoder(SHAPE, depth=0), mlp.Decoder(SHAPE, depth=0)
    return Model(*parts, GaussianBottleneck(Q), likelihood).double()


@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-7), (torch.float32, 2e-5)])
@pytest.mark.parametrize("sigma", ["fixed", "learned", "optimal"])
def test_linear_vae_is_ppca_at_its_maximum_likelihood_and_the_elbo_is_tight(sigma, dtype, tolerance):
    pca = PCA(dtype)
    likelihood = Gaussian(math.sqrt(pca.noise_variance) if sigma == "fixed" else sigma)
    model = pca.model(likelihood, pca.noise_variance)
    if sigma == "learned":
        likelihood.log_sigma.data.fill_(0.5 * math.log(pca.noise_variance))
    terms = ELBO()(model, *pca.batch(), 0)
    assert terms.loss.item() == pytest.approx(-pca.log_likelihood, rel=tolerance)
    w = pca.vectors[:, :Q] * (pca.values[:Q] - pca.noise_variance).sqrt()
    marginal = torch.distributions.MultivariateNormal(pca.mean, w @ w.T + pca.noise_variance * torch.eye(D, dtype=F64))
    assert marginal.log_prob(pca.x).mean().item() == pytest.approx(pca.log_likelihood)
    for name, gradient in gradients(terms.loss, model).items():
        assert gradient.abs().max() < 50 * tolerance, name
    if sigma == "optimal":
        assert likelihood.variance.item() == pytest.approx(pca.noise_variance, rel=tolerance)
        torch.testing.assert_close(ELBO()(model.eval(), *pca.batch(), 0).loss, terms.loss)


@pytest.mark.parametrize("reduction", ["sum", "pixel_mean", "mean"])
@pytest.mark.parametrize(("beta", "sigma"), [(1.0, 0.3), (4.0, 0.3), (1.0, 1.2), (4.0, 0.7), (2.0, 3.0)])
def test_which_units_are_active_at_a_given_beta_and_sigma_and_their_kl(beta, sigma, reduction):
    pca, s2 = PCA(), beta * sigma**2
    model = pca.model(Gaussian(sigma), s2)
    given = beta / {"sum": 1, "pixel_mean": D, "mean": D / Q}[reduction]
    x, labels, noise = pca.batch()
    terms = ELBO(beta=given, reduction=reduction)(model, x, labels, noise, 0)
    assert terms.info["beta_effective"] == pytest.approx(beta)
    for name, gradient in gradients(terms.loss, model).items():
        assert gradient.abs().max() < 1e-10, name  # a stationary point
    info = model.bottleneck(model.encode_features(x, labels), noise[:, 0]).info
    torch.testing.assert_close(info["kl"].mean(0), pca.kl(s2))
    variances = info["mean"].var(0, correction=0)
    torch.testing.assert_close(variances, ((pca.values[:Q] - s2) / pca.values[:Q]).clamp(min=0))
    assert ((variances > 0.01) == pca.active(s2)).all()


def test_the_cases_have_all_some_and_no_active_units():
    pca = PCA()
    assert [int(pca.active(s2).sum()) for s2 in (0.09, 0.36, 1.44, 1.96, 18.0)] == [3, 3, 2, 1, 0]


@pytest.mark.parametrize(("beta", "sigma"), [(1.0, "learned"), (4.0, 0.6)])
def test_optimisation_finds_the_closed_form(beta, sigma):
    pca = PCA()
    s2 = pca.noise_variance if sigma == "learned" else beta * sigma**2
    optimum = pca.model(Gaussian(sigma), s2)
    if sigma == "learned":
        optimum.likelihood.log_sigma.data.fill_(0.5 * math.log(s2))
    objective, batch = ELBO(beta=beta), pca.batch()
    least = objective(optimum, *batch, 0).loss.item()
    model = blank(Gaussian(sigma))
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=300, line_search_fn="strong_wolfe", tolerance_change=1e-12
    )

    def closure():
        optimizer.zero_grad()
        loss = objective(model, *batch, 0).loss
        loss.backward()
        return loss

    optimizer.step(closure)
    found = objective(model, *batch, 0)
    assert found.loss.item() == pytest.approx(least, abs=1e-3)
    info = model.bottleneck(model.encode_features(batch[0], None), batch[2][:, 0]).info
    torch.testing.assert_close(info["kl"].mean(0).sort(descending=True).values, pca.kl(s2), atol=1e-2, rtol=0)
    if sigma == "learned":
        assert -found.loss.item() == pytest.approx(pca.log_likelihood, abs=1e-3)


# ---- importance weights, on x = 1.3 z + 0.7 noise at x = 0.9, where all is known

W, S, X = 1.3, 0.7, 0.9
EXACT = (W * X / (W**2 + S**2), math.log(S**2 / (W**2 + S**2)))  # mean and log-variance of the true posterior
OFF = (EXACT[0] + 0.4, EXACT[1] + math.log(2))
LOG_P = -0.5 * (math.log(2 * math.pi * (W**2 + S**2)) + X**2 / (W**2 + S**2))


class Line(nn.Module):
    """One number, its features given outright, and a decoder of one weight."""

    def __init__(self, features, rows):
        super().__init__()
        self.features = torch.tensor([features], dtype=F64).repeat(rows, 1).requires_grad_(True)
        self.weight = nn.Parameter(torch.tensor(W, dtype=F64))
        self.bottleneck, self.likelihood = GaussianBottleneck(1), Gaussian(S)

    def encode_features(self, x, labels):
        return self.features

    def decode(self, z, labels):
        return self.likelihood((self.weight * z)[:, :, None, None])


def line(features, rows, k, seed=1):
    return Line(features, rows), torch.full((rows, 1, 1, 1), X, dtype=F64), normal(rows, k, 1, seed=seed)


def test_the_elbo_of_the_line_is_the_known_one():
    model, x, _ = line(OFF, 2, 1)
    noise = torch.tensor([1.0, -1.0], dtype=F64).view(2, 1, 1)  # mean 0, variance 1
    assert ELBO()(model, x, None, noise, 0).loss.item() == pytest.approx(2.00373, abs=1e-5)
    model, x, _ = line(EXACT, 2, 1)
    assert ELBO()(model, x, None, noise, 0).loss.item() == pytest.approx(-LOG_P)
    assert pytest.approx(-1.49438, abs=1e-5) == LOG_P


def test_the_bound_of_iwae_rises_with_k_towards_log_p():
    rows = 20_000
    model, x, noise = line(OFF, rows, 50)
    log_weights = weigh(model, x, None, noise).log_weights.detach()
    bounds = {k: importance_bound(log_weights[:, :k]) for k in (1, 2, 5, 10, 50)}
    means = [b.mean().item() for b in bounds.values()]
    assert means == sorted(means)
    assert means[-1] < LOG_P
    for k, expected in {1: -2.00373, 5: -1.549, 50: -1.501}.items():
        error = bounds[k].std().item() / math.sqrt(rows)
        assert bounds[k].mean().item() == pytest.approx(expected, abs=4 * error + 1e-3)
    assert IWAE(50)(model, x, None, noise, 0).loss.item() == pytest.approx(-means[-1])


@pytest.mark.parametrize("dreg", [False, True])
@pytest.mark.parametrize("k", [1, 5, 50])
def test_with_the_true_posterior_the_bound_is_log_p_for_every_draw(k, dreg):
    model, x, noise = line(EXACT, 7, k)
    terms = IWAE(k, dreg)(model, x, None, noise, 0)
    torch.testing.assert_close(weigh(model, x, None, noise).log_weights, torch.full((7, k), LOG_P, dtype=F64))
    assert terms.loss.item() == pytest.approx(-LOG_P)
    assert terms.info["effective_samples"].item() == pytest.approx(k)
    (gradient,) = torch.autograd.grad(terms.loss, model.features)
    if dreg:
        assert gradient.abs().max() < 1e-14
    else:
        assert gradient.abs().max() > 1e-3  # the plain one has noise even here


@pytest.mark.parametrize("k", [1, 4])
def test_the_mean_of_dreg_is_the_gradient_of_iwae_and_its_variance_is_smaller(k):
    rows = 100_000
    model, x, noise = line(OFF, rows, k)
    plain, doubly = (
        rows * torch.autograd.grad(IWAE(k, dreg)(model, x, None, noise, 0).loss, model.features)[0]
        for dreg in (False, True)
    )
    difference = plain - doubly
    assert (difference.mean(0).abs() < 4 * difference.std(0) / math.sqrt(rows)).all()
    assert (doubly.var(0) < plain.var(0)).all()
    assert (doubly.mean(0).abs() > 10 * doubly.std(0) / math.sqrt(rows)).all()  # there is something to compare


def test_dreg_is_its_formula():
    """Sum over i of v_i^2 dlog w_i/dz_i dz_i/dphi, written out."""
    model, x, noise = line(OFF, 3, 4)
    (found,) = torch.autograd.grad(IWAE(4, dreg=True)(model, x, None, noise, 0).loss, model.features)
    mean, log_variance = model.features.detach()[:, :1], model.features.detach()[:, 1:]
    z = (mean + (log_variance / 2).exp() * noise[:, :, 0]).requires_grad_(True)  # (3, 4)
    p, q = torch.distributions.Normal(0, 1), torch.distributions.Normal(mean, (log_variance / 2).exp())
    likelihood = torch.distributions.Normal(W * z, S).log_prob(torch.tensor(X))
    log_w = likelihood + p.log_prob(z) - q.log_prob(z)
    (of_z,) = torch.autograd.grad(log_w.sum(), z)
    signal = log_w.detach().softmax(1) ** 2 * of_z
    by_features = torch.stack([signal, signal * 0.5 * (z.detach() - mean)], 2).sum(
        1
    )  # dz/dmean = 1, dz/dlv = (z - mean) / 2
    torch.testing.assert_close(found, -by_features / 3)


def test_dreg_leaves_the_decoder_and_the_prior_alone_and_all_values():
    x, labels, _ = batch(ELBO())
    noise = normal(8, 5, 3, dtype=torch.float32)
    model = conditional_model(GaussianBottleneck(3, prior=WidePrior(3)))
    plain, doubly = (IWAE(5, dreg)(model, x, labels, noise, 0) for dreg in (False, True))
    assert torch.equal(plain.loss, doubly.loss)
    assert torch.equal(plain.rate, doubly.rate)
    theirs, ours = gradients(plain.loss, model), gradients(doubly.loss, model)
    for name in theirs:
        if name.startswith("encoder"):
            assert not torch.allclose(theirs[name], ours[name]), name
        else:
            torch.testing.assert_close(theirs[name], ours[name])


def test_the_samples_of_an_image_stay_together():
    model, x, noise = line(OFF, 3, 4)
    x = x * torch.tensor([1.0, 2.0, 3.0], dtype=F64).view(3, 1, 1, 1)
    whole = weigh(model, x, None, noise)
    for i in range(3):
        one = Line(OFF, 1)
        torch.testing.assert_close(
            whole.log_weights[i], weigh(one, x[i : i + 1], None, noise[i : i + 1]).log_weights[0]
        )
    assert whole.distortion.shape == (3, 4)


def test_the_samples_of_an_image_keep_its_label():
    x, labels, noise = batch(IWAE(4))
    model = conditional_model(GaussianBottleneck(3))
    whole = weigh(model, x, labels, noise)
    for i in range(8):
        one = weigh(model, x[i : i + 1], labels[i : i + 1], noise[i : i + 1])
        torch.testing.assert_close(whole.log_weights[i], one.log_weights[0])


def test_the_bound_of_equal_weights_does_not_overflow():
    torch.testing.assert_close(importance_bound(torch.full((2, 1000), -3e4)), torch.full((2,), -3e4))
    assert importance_bound(torch.tensor([[math.log(2.0), math.log(4.0)]])).item() == pytest.approx(math.log(3))
