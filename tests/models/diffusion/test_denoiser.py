"""A network as a field: its loss, its guidance, and what it costs."""

import pytest
import torch
from support.draws import normal
from support.exact_diffusion import PATHS, ExactNetwork, Gaussian, between, floor
from support.meta import META, Strict
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.models.diffusion.denoiser import Denoiser, Guidance
from lit_gen.models.diffusion.parametrizations import Data, Noise, Preconditioned, Velocity, VPrediction
from lit_gen.models.diffusion.paths import DDPM, EDM, Linear, VariancePreserving
from lit_gen.models.diffusion.times import LogitNormal, LogNormal, Uniform
from lit_gen.models.diffusion.weightings import MinSNR, Simple

SHAPE = (2, 1, 2)
VARIANCES = torch.tensor([0.3, 0.5, 1.0, 2.0], dtype=torch.float64)


class Spy(nn.Module):
    """A linear network that notes what it was called with."""

    shape = SHAPE

    def __init__(self, num_classes=None, returns=None):
        super().__init__()
        self.gain = nn.Parameter(torch.full((4,), 0.3))
        self.num_classes, self.returns, self.seen = num_classes, returns, []

    def forward(self, x, level, *labels):
        self.seen.append((x, level, *labels))
        of_labels = labels[0].to(x.dtype)[:, None] if labels else 0
        out = x.flatten(1) * self.gain.to(x.dtype) + level[:, None] + of_labels
        return out.view(x.shape) if self.returns is None else self.returns


def conditional(path, parametrization, means=(-1.0, 2.0)):
    """Classes with equal variances; without a label, the Gaussian around 0."""
    fields = [Gaussian(path, torch.full(SHAPE, m), VARIANCES) for m in (*means, 0.0)]
    return Denoiser(ExactNetwork(parametrization, fields[-1], fields[:-1]), path, parametrization), fields


def test_the_network_gets_scaled_data_and_the_level():
    spy, path = Spy(), EDM()
    x, t = normal(3, *SHAPE), torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    Denoiser(spy, path, Preconditioned(0.5)).output(x, t)
    ((scaled, level),) = spy.seen
    torch.testing.assert_close(scaled, x / (0.25 + t**2).sqrt().view(-1, 1, 1, 1))
    torch.testing.assert_close(level, t.log() / 4)


def test_half_precision_of_a_network_ends_with_it():
    x, t = normal(3, *SHAPE).float(), torch.full((3,), 0.5)
    spy = Spy(returns=torch.ones(3, *SHAPE, dtype=torch.bfloat16))
    assert Denoiser(spy, Linear(), Velocity()).output(x, t).dtype == torch.float32
    assert Denoiser(spy, Linear(), Velocity()).denoised(x, t).dtype == torch.float32


@pytest.mark.parametrize(("returned", "told"), [(torch.ones(3, 4), r"float32 \(3, 4\)"), ((1, 2), "a tuple")])
def test_what_a_network_returns_is_looked_at(returned, told):
    denoiser = Denoiser(Spy(returns=returned), Linear(), Velocity())
    expected = rf"^model\.network: .*Spy.* returned {told}, \(3, 2, 1, 2\) is expected, the shape of its input"
    with pytest.raises(UserError, match=expected):
        denoiser.output(normal(3, *SHAPE), torch.full((3,), 0.5))


def test_labels_are_given_to_conditional_networks_alone():
    x, t, labels = normal(3, *SHAPE), torch.full((3,), 0.5), torch.tensor([0, 1, 0])
    spy, known = Spy(), Spy(num_classes=2)
    Denoiser(spy, Linear(), Velocity()).denoised(x, t, labels)
    Denoiser(known, Linear(), Velocity()).denoised(x, t, labels)
    assert len(spy.seen[0]) == 2
    assert known.seen[0][2] is labels
    with pytest.raises(UserError, match="a conditional network was called without labels"):
        Denoiser(known, Linear(), Velocity()).denoised(x, t)
    assert Denoiser(spy, Linear(), Velocity()).num_classes is None
    assert Denoiser(known, Linear(), Velocity()).num_classes == 2
    assert Denoiser(known, Linear(), Velocity()).shape == SHAPE


@pytest.mark.parametrize(
    ("path", "parametrization", "target"),
    [
        (DDPM(10, "cosine"), Noise(), lambda x, e, t: e),
        (Linear(), Velocity(), lambda x, e, t: e - x),
        (VariancePreserving(), Data(), lambda x, e, t: x),
    ],
)
def test_errors_are_means_over_the_dimensions_of_a_row(path, parametrization, target):
    spy, t = Spy(), between(path, 3)
    x, e = normal(3, *SHAPE), normal(3, *SHAPE, seed=1)
    found = Denoiser(spy, path, parametrization).errors(x, e, t)
    rows = [spy(path.between(x, e, t)[i : i + 1], path.level(t)[i : i + 1])[0] for i in range(3)]
    expected = [(rows[i] - target(x[i], e[i], t[i])).square().mean() for i in range(3)]
    torch.testing.assert_close(found, torch.stack(expected))


def test_the_loss_of_edm_is_its_published_loss():
    """Weight (sigma^2 + s^2) / (sigma s)^2 on the error of D = c_skip y + c_out F(c_in y, ln(sigma) / 4)."""
    spy, t, s = Spy(), torch.tensor([0.01, 0.5, 7.0, 70.0], dtype=torch.float64), 0.5
    x, e = normal(4, *SHAPE), normal(4, *SHAPE, seed=1)
    sigma = t.view(-1, 1, 1, 1)
    y = x + sigma * e
    output = spy(y / (s**2 + sigma**2).sqrt(), t.log() / 4)
    estimate = s**2 / (sigma**2 + s**2) * y + sigma * s / (sigma**2 + s**2).sqrt() * output
    expected = ((sigma**2 + s**2) / (sigma * s) ** 2 * (estimate - x) ** 2).flatten(1).mean(1)
    torch.testing.assert_close(Denoiser(spy, EDM(), Preconditioned(s)).errors(x, e, t), expected)


@pytest.mark.parametrize(
    ("path", "parametrization"),
    [
        ("ddpm", Noise()),
        ("vp", VPrediction()),
        ("linear", Velocity()),
        ("edm", Preconditioned(0.5)),
        ("cosine", Data()),
    ],
)
def test_no_network_has_a_lower_loss_than_the_exact_one(path, parametrization):
    """The mean of 20,000 errors is the floor within five of its standard deviations."""
    path = PATHS[path]
    exact = Gaussian(path, normal(*SHAPE), VARIANCES)
    count = 20_000
    data = exact.mean.view(SHAPE) + VARIANCES.sqrt().view(SHAPE) * normal(count, *SHAPE, seed=1)
    t = between(path, 3)[1].expand(count)
    denoiser = Denoiser(ExactNetwork(parametrization, exact), path, parametrization)
    errors = denoiser.errors(data, normal(count, *SHAPE, seed=2), t)
    least = floor(parametrization, path, VARIANCES, t[:1])
    assert abs(float(errors.mean() - least)) < 5 * float(errors.std()) / count**0.5


@pytest.mark.parametrize(
    ("path", "parametrization"), [("vp", Noise()), ("linear", Velocity()), ("edm", Preconditioned())]
)
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_guidance_of_equal_variances_moves_the_mean(path, parametrization, scale):
    """To mu_none + scale (mu_label - mu_none), of data whose field is known."""
    path = PATHS[path]
    denoiser, _ = conditional(path, parametrization)
    x, t, labels = normal(5, *SHAPE), between(path), torch.tensor([0, 1, 1, 0, 1])
    field = denoiser.field(labels, Guidance(scale))
    for i, mean in enumerate((-1.0, 2.0)):
        expected, rows = Gaussian(path, torch.full(SHAPE, scale * mean), VARIANCES), labels == i
        for name in ("denoised", "velocity"):
            found = getattr(field, name)(x, t)[rows]
            torch.testing.assert_close(found, getattr(expected, name)(x[rows], t[rows]), rtol=1e-8, atol=1e-8)


def test_guidance_within_an_interval_of_noise_alone():
    path = Linear()
    denoiser, fields = conditional(path, Velocity())
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)  # ratios 1/9, 1 and 9
    x, labels = normal(3, *SHAPE), torch.ones(3, dtype=torch.int64)
    field = denoiser.field(labels, Guidance(2.0, (0.5, 1.0)))
    guided = Gaussian(path, torch.full(SHAPE, 4.0), VARIANCES)
    expected = torch.stack([one.denoised(x, t)[i] for i, one in enumerate((fields[1], guided, fields[1]))])
    torch.testing.assert_close(field.denoised(x, t), expected, rtol=1e-8, atol=1e-8)
    assert field.calls(t).tolist() == [1, 2, 1]
    assert denoiser.field(labels, Guidance(2.0, (9.5, 100.0))).calls(torch.tensor([0.5, 1.0])).tolist() == [1, 1]
    assert denoiser.field(labels, Guidance(2.0, (2.0, float("inf")))).calls(torch.tensor([0.5, 1.0])).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("guidance", "calls"),
    [(None, 1), (Guidance(1.0), 1), (Guidance(2.0), 2), (Guidance(2.0, (5.0, 9.0)), 1), (Guidance(2.0, (0.9, 9.0)), 2)],
)
def test_calls_are_counted_as_they_are_made(guidance, calls):
    spy = Spy(num_classes=3)
    field = Denoiser(spy, Linear(), Velocity()).field(torch.tensor([0, 2]), guidance)
    x, t = normal(2, *SHAPE), torch.full((2,), 0.5)
    field.velocity(x, t)
    assert len(spy.seen) == calls
    assert field.calls(t).tolist() == [calls] * 2
    assert field.calls(t).dtype == torch.int64
    if calls == 2:
        assert spy.seen[1][2].tolist() == [3, 3]  # no label


def test_an_unconditional_field_makes_one_call():
    spy = Spy()
    field = Denoiser(spy, Linear(), Velocity()).field()
    x, t = normal(2, *SHAPE), torch.full((2,), 0.5)
    torch.testing.assert_close(field.velocity(x, t), spy(x, t))
    assert field.calls(t).tolist() == [1, 1]
    assert field.denoiser.field(None, Guidance(2.0)).calls(t).tolist() == [1, 1]
    assert field.path is field.denoiser.path


@pytest.mark.parametrize(
    ("path", "parametrization", "times", "weighting"),
    [
        (DDPM(20, "cosine"), VPrediction(), Uniform(), MinSNR()),
        (DDPM(20, "cosine"), Noise(), LogNormal(), Simple()),
        (Linear(), Velocity(), LogitNormal(), Simple()),
        (EDM(), Preconditioned(), LogNormal(), MinSNR()),
        (VariancePreserving(), Data(), LogNormal(), MinSNR()),
    ],
)
def test_a_training_step_reads_nothing_from_the_device(path, parametrization, times, weighting):
    """Nor makes float64 on it, also in its first step, which builds tables."""
    network = Spy().to(META)
    denoiser, (x, e) = Denoiser(network, path, parametrization), torch.ones(2, 3, *SHAPE, device=META)
    share = torch.zeros(3, device=META)
    with Strict() as strict:
        strict.may_read = False
        t = times(path, share)
        (weighting(path, parametrization, t) * denoiser.errors(x, e, t)).mean().backward()
        guided = Denoiser(Spy(2).to(META), path, parametrization).field(torch.zeros_like(share).long(), Guidance(2.0))
        assert guided.velocity(x, t).shape == x.shape
        assert guided.calls(t).is_meta
    assert network.gain.grad.is_meta
