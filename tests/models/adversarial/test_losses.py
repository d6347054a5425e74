"""The closed form of every loss, found by introspection; the laws that they share are in laws/test_examine.py."""

import math

import pytest
import torch

from lit_gen.models.adversarial import losses

LOSSES = {name: getattr(losses, name) for name in losses.__all__ if name not in ("AdversarialLoss", "Logits")}
RELATIVISTIC = {"relativistic", "relativistic_average"}

# the discriminator's loss when it answers 0 everywhere, the generator's too
AT_ZERO = {
    "minimax": (2 * math.log(2), -math.log(2)),
    "non_saturating": (2 * math.log(2), math.log(2)),
    "least_squares": (0.5, 0.5),
    "hinge": (2.0, 0.0),
    "wasserstein": (0.0, 0.0),
    "relativistic": (math.log(2), math.log(2)),
    "relativistic_average": (2 * math.log(2), 2 * math.log(2)),
}


def by_hand(name, real, fake):
    """Each loss as plain Python sums, written from the papers."""
    n = len(real)
    sig = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    mean = lambda values: sum(values) / n  # noqa: E731
    mr, mf = mean(real), mean(fake)
    return {
        "minimax": (-mean([math.log(sig(r)) + math.log(1 - sig(f)) for r, f in zip(real, fake, strict=True)]),
                    mean([math.log(1 - sig(f)) for f in fake])),
        "non_saturating": (-mean([math.log(sig(r)) + math.log(1 - sig(f)) for r, f in zip(real, fake, strict=True)]),
                           -mean([math.log(sig(f)) for f in fake])),
        "least_squares": (mean([(r - 1) ** 2 / 2 for r in real]) + mean([f**2 / 2 for f in fake]),
                          mean([(f - 1) ** 2 / 2 for f in fake])),
        "hinge": (mean([max(0, 1 - r) for r in real]) + mean([max(0, 1 + f) for f in fake]), -mf),
        "wasserstein": (mf - mr, -mf),
        "relativistic": (-mean([math.log(sig(r - f)) for r, f in zip(real, fake, strict=True)]),
                         -mean([math.log(sig(f - r)) for r, f in zip(real, fake, strict=True)])),
        "relativistic_average": (
            -mean([math.log(sig(r - mf)) for r in real]) - mean([math.log(1 - sig(f - mr)) for f in fake]),
            -mean([math.log(1 - sig(r - mf)) for r in real]) - mean([math.log(sig(f - mr)) for f in fake])),
    }[name]  # fmt: skip


def test_every_loss_has_its_closed_form():
    assert set(LOSSES) == set(AT_ZERO)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("n", [1, 4, 64])
def test_value_is_the_papers(name, n):
    real, fake = torch.randn(n, dtype=torch.float64), torch.randn(n, dtype=torch.float64)
    found = LOSSES[name](real, fake)
    expected = by_hand(name, real.tolist(), fake.tolist())
    assert found.discriminator.item() == pytest.approx(expected[0], rel=1e-12)
    assert found.generator.item() == pytest.approx(expected[1], rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_value_at_the_known_optimum(name):
    found = LOSSES[name](torch.zeros(8), torch.zeros(8))
    assert (found.discriminator.item(), found.generator.item()) == pytest.approx(AT_ZERO[name], abs=1e-6)


def test_least_squares_optimum_is_one_half():
    assert losses.least_squares(torch.full((8,), 0.5), torch.full((8,), 0.5)).discriminator.item() == 0.25


@pytest.mark.parametrize("name", LOSSES)
def test_only_relativistic_losses_ignore_a_constant_shift(name):
    real, fake = torch.randn(16, dtype=torch.float64), torch.randn(16, dtype=torch.float64)
    before, after = LOSSES[name](real, fake), LOSSES[name](real + 3, fake + 3)
    same = [math.isclose(a.item(), b.item(), rel_tol=1e-12) for a, b in zip(before, after, strict=True)]
    # the Wasserstein critic's loss is a difference of means too, its generator's is not
    assert same == ([True, True] if name in RELATIVISTIC else [name == "wasserstein", False])


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"wasserstein"} - RELATIVISTIC))
def test_the_threshold_is_where_the_discriminator_cannot_tell(name):
    """On equal real and fake logits c the discriminator's loss is least at the threshold."""
    at = losses.threshold(LOSSES[name])
    values = {
        c: LOSSES[name](torch.full((4,), c), torch.full((4,), c)).discriminator.item() for c in (at - 2, at, at + 2)
    }
    assert values[at] == min(values.values())
    assert values[at - 2] == pytest.approx(values[at + 2])
