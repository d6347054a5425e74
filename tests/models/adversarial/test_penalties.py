"""Each gradient penalty and regularizer against its closed form, in value and in gradient."""

import copy
import inspect
import math

import pytest
import torch
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.core.randomness import Rows
from lit_gen.models.adversarial import augment, penalties, regularizers
from lit_gen.models.adversarial.context import PenaltyContext, Regularizer, judge
from lit_gen.models.adversarial.losses import Logits
from lit_gen.models.adversarial.penalties import between
from lit_gen.models.gan import mlp
from lit_gen.training.hparams import describe

ALL = {name: getattr(m, name) for m in (penalties, regularizers) for name in m.__all__}
DIM = 6  # values of one "image" (DIM, 1, 1)
BATCHES = pytest.mark.parametrize("n", [1, 4, 64])


class Linear(nn.Module):
    """D(x) = w.x: its gradient is w everywhere."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([3.0, 4.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64))

    def forward(self, x, labels=None):
        return x.flatten(1) @ self.w


class Quadratic(nn.Module):
    """D(x) = x.A x / 2 with a symmetric A: its gradient is A x."""

    def __init__(self):
        super().__init__()
        a = torch.randn(DIM, DIM, dtype=torch.float64)
        self.a = nn.Parameter(a + a.T)

    def forward(self, x, labels=None):
        x = x.flatten(1)
        symmetric = (self.a + self.a.T) / 2
        return (x @ symmetric * x).sum(1) / 2


def context(
    discriminator, n=4, network="discriminator", generator=None, labels=None, update=0, part=0, parts=1, **more
):
    """A context of n rows; with parts, the rows of one part of a batch of n * parts."""
    whole = torch.Generator().manual_seed(1)
    real, fake = (torch.randn(n * parts, DIM, 1, 1, dtype=torch.float64, generator=whole) for _ in range(2))
    latents = torch.randn(n * parts, 3, generator=whole)
    mine = slice(part * n, (part + 1) * n)
    real, fake, latents = real[mine], fake[mine], latents[mine]
    return PenaltyContext(
        network, discriminator, generator or nn.Identity(), real, fake, latents, labels,
        judge(discriminator, real, labels), judge(discriminator, fake, labels), update,
        Rows(torch.device("cpu"), 0, "test", update, part, parts), **more,
    )  # fmt: skip


def points(name, c):
    """Where a penalty takes its gradient, with the same draws."""
    if name == "Dragan":
        return c.real + 0.5 * c.random.normal(*c.real.shape)
    return {"R1": lambda: c.real, "R2": lambda: c.fake}.get(name, lambda: between(c))()


# options, and the value as a function of each sample's squared gradient norm s (B,)
FORMS = {
    "R1": ({"gamma": 3.0}, lambda s: 1.5 * s.mean()),
    "R2": ({"gamma": 3.0}, lambda s: 1.5 * s.mean()),
    "ZeroCentered": ({"weight": 3.0}, lambda s: 3 * s.mean()),
    "GradientPenalty": ({"weight": 3.0}, lambda s: 3 * (s.sqrt() - 1).square().mean()),
    "Dragan": ({"weight": 3.0}, lambda s: 3 * (s.sqrt() - 1).square().mean()),
}


def test_every_penalty_has_its_closed_form():
    assert set(FORMS) == set(penalties.__all__)


@BATCHES
@pytest.mark.parametrize("name", FORMS)
def test_linear_discriminator(name, n):
    """||w|| = 5 whatever the batch: the penalty is 16 lambda, or gamma/2 * 25; its gradient is known."""
    options, form = FORMS[name]
    d = Linear()
    value = ALL[name](**options)(context(d, n))
    assert value.item() == pytest.approx({"R1": 37.5, "R2": 37.5, "ZeroCentered": 75.0}.get(name, 48.0), rel=1e-9)
    (gradient,) = torch.autograd.grad(value, d.w)
    w = d.w.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad(form(w.square().sum()[None]), w)
    assert torch.allclose(gradient, expected, rtol=1e-9)  # the second order is really there
    assert gradient[0].item() == pytest.approx({"R1": 9.0, "R2": 9.0, "ZeroCentered": 18.0}.get(name, 3 * 8 * 0.6))


@BATCHES
@pytest.mark.parametrize("name", FORMS)
def test_quadratic_discriminator(name, n):
    options, form = FORMS[name]
    d = Quadratic()
    value = ALL[name](**options)(context(d, n))
    a = d.a.detach().clone().requires_grad_()
    x = points(name, context(d, n)).flatten(1).double()
    expected = form((x @ (a + a.T) / 2).square().sum(1))
    assert value.item() == pytest.approx(expected.item(), rel=1e-8)
    (found,) = torch.autograd.grad(value, d.a)
    (by_hand,) = torch.autograd.grad(expected, a)
    assert torch.allclose(found, by_hand, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", FORMS)
def test_finite_at_zero_gradient(name):
    d = Linear()
    d.w.data.zero_()
    value = ALL[name](**FORMS[name][0])(context(d))
    assert value.item() == pytest.approx(3.0 if name in ("GradientPenalty", "Dragan") else 0.0, abs=1e-4)
    (gradient,) = torch.autograd.grad(value, d.w)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", FORMS)
def test_taken_through_the_augmentation(name):
    """An augmentation that doubles the image doubles the gradient with respect to the image."""
    d = Linear()
    plain, doubled = context(d), context(d, augment=lambda images: 2 * images)
    assert doubled.squared_gradient_norms(plain.real).tolist() == pytest.approx([100.0] * 4)
    options, form = FORMS[name]
    assert ALL[name](**options)(doubled).item() == pytest.approx(form(torch.full((4,), 100.0)).item(), rel=1e-6)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("discriminator", [Linear, Quadratic])
def test_two_parts_average_to_the_whole(name, discriminator):
    d, penalty = discriminator(), ALL[name](**FORMS[name][0])
    whole = penalty(context(d, 8)).item()
    parts = [penalty(context(d, 4, part=i, parts=2)).item() for i in range(2)]
    assert sum(parts) / 2 == pytest.approx(whole, rel=1e-6)


# ---- regularizers


class Shift(augment.Augmentation):
    def forward(self, images, random):
        return images + 1


def test_consistency_with_the_identity_is_zero():
    d = Quadratic()
    term = regularizers.Consistency(augment.Identity())(context(d))
    assert term.item() == 0.0


@BATCHES
def test_consistency_of_a_linear_discriminator(n):
    """T adds 1 to each value: D changes by the sum of w, 7."""
    d = Linear()
    term = regularizers.Consistency(Shift(), weight=2.0, fake_weight=3.0)(context(d, n))
    assert term.item() == pytest.approx(5 * 49)
    (gradient,) = torch.autograd.grad(term, d.w)
    assert gradient.tolist() == pytest.approx([5 * 2 * 7.0] * DIM)
    assert regularizers.Consistency(Shift(), weight=2.0, fake_weight=0.0)(context(d, n)).item() == pytest.approx(2 * 49)


@BATCHES
def test_lecam_follows_its_formula_and_moves_its_anchors(n):
    d = Linear()
    lecam = regularizers.LeCam(weight=0.5, decay=0.9)
    anchors = [0.0, 0.0]
    for update in range(3):
        c = context(d, n, update=update)
        real, fake = c.real_logits.adversarial, c.fake_logits.adversarial
        expected = 0.5 * ((real - anchors[1]).square().mean() + (fake - anchors[0]).square().mean())
        assert lecam(c).item() == pytest.approx(expected.item(), rel=1e-6)
        anchors = [0.9 * a + 0.1 * m.mean().item() for a, m in zip(anchors, (real, fake), strict=True)]
        assert lecam.anchors.tolist() == pytest.approx(anchors, rel=1e-6)
    assert "anchors" in lecam.state_dict()
    late = regularizers.LeCam(start=5)
    assert late(context(d, n, update=4)).item() == 0.0
    assert late(context(d, n, update=5)).item() > 0


@BATCHES
def test_mode_seeking_of_a_linear_generator(n):
    """G(z) = z * 2, repeated: every pair is twice as far apart in images as in latents."""

    class Double(nn.Module):
        def forward(self, z):
            return (2 * z).repeat(1, 2)[:, :, None, None]

    c = context(Linear(), n, "generator", Double())
    c = PenaltyContext(**{**vars(c), "fake": Double()(c.latents)})
    term = regularizers.ModeSeeking(weight=3.0, epsilon=0.5)(c)
    assert term.item() == pytest.approx(3 / 2.5, rel=1e-5)
    assert regularizers.ModeSeeking.network == "generator"


@BATCHES
def test_auxiliary_classifier_is_the_cross_entropy(n):
    labels = torch.arange(n) % 3
    c = context(Linear(), n, labels=labels)
    scores = torch.randn(n, 3, dtype=torch.float64)
    c = PenaltyContext(
        **{
            **vars(c),
            "real_logits": Logits(c.real[:, 0, 0, 0], scores),
            "fake_logits": Logits(c.fake[:, 0, 0, 0], 2 * scores),
        }
    )

    def nats(table):
        rows = zip(table.tolist(), labels.tolist(), strict=True)
        return sum(math.log(sum(math.exp(s) for s in row)) - row[y] for row, y in rows) / n

    ce = [nats(scores), nats(2 * scores)]
    both = regularizers.AuxiliaryClassifier(weight=2.0, generator_weight=5.0)
    assert both(c).item() == pytest.approx(2 * sum(ce))
    assert regularizers.AuxiliaryClassifier(weight=2.0, fakes=False)(c).item() == pytest.approx(2 * ce[0])
    as_generator = PenaltyContext(**{**vars(c), "network": "generator", "real_logits": None})
    assert both(as_generator).item() == pytest.approx(5 * ce[1])


# ---- laws over all


@pytest.mark.parametrize("name", ALL)
def test_rebuilt_from_its_description_and_its_state(name):
    made = ALL[name]()
    described = describe(made, "r")
    again = ALL[name](**{k: v for k, v in described["init_args"].items() if not isinstance(v, dict)})
    again.load_state_dict(made.state_dict())
    assert describe(again, "r") == described


@pytest.mark.parametrize("name", ALL)
def test_bad_options(name):
    parameters = inspect.signature(ALL[name]).parameters
    with pytest.raises(UserError, match=rf"model.regularizers.{name}.every: 0 was found"):
        ALL[name](every=0)
    for option in {"gamma", "weight", "fake_weight", "generator_weight", "sigma", "start"} & set(parameters):
        with pytest.raises(UserError, match=rf"model.regularizers.{name}.{option}: -1.* was found"):
            ALL[name](**{option: -1.0})


@pytest.mark.parametrize("name", sorted(set(ALL) - {"AuxiliaryClassifier"}))
def test_draws_nothing_but_from_the_context(name):
    torch.manual_seed(0)
    d = mlp.Discriminator((DIM, 1, 1), width=8).double()
    g = nn.Sequential(nn.Linear(3, DIM), nn.Unflatten(1, (DIM, 1, 1)))
    options = {"transform": augment.InstanceNoise()} if name == "Consistency" else {}
    before, values = torch.get_rng_state(), []
    for _ in range(2):
        made: Regularizer = copy.deepcopy(ALL[name](**options))
        c = context(d, 4, "generator" if made.network == "generator" else "discriminator", g)
        c = PenaltyContext(**{**vars(c), "fake": g(c.latents) if made.network == "generator" else c.fake})
        values.append(made(c).item())
    assert values[0] == values[1]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("every", [0, 1.5])
def test_every_is_a_whole_number(every):
    with pytest.raises(UserError, match=f"regularizers.R1.every: {every} was found, a whole number"):
        penalties.R1(every=every)
