"""Reconstruction terms against their formulas, and independent implementations."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from support.draws import normal
from torch import nn

from lit_gen.core.batches import Batches
from lit_gen.core.errors import UserError
from lit_gen.models.image_to_image.given_terms import reconstructions, term_names, value_of
from lit_gen.models.image_to_image.terms import L1, L2, SSIM, Charbonnier, FeatureDistance, TotalVariation

MADE, TARGET = normal(3, 2, 5, 4).clamp(-1, 1), normal(3, 2, 5, 4, seed=1).clamp(-1, 1)


@pytest.mark.parametrize(
    ("term", "formula"),
    [
        (L1(), np.abs),
        (L2(), np.square),
        (Charbonnier(epsilon=0.1), lambda d: np.sqrt(d**2 + 0.01)),
    ],
)
def test_pixels(term, formula):
    distances = formula(MADE.numpy() - TARGET.numpy())
    assert float(term(MADE, TARGET)) == pytest.approx(distances.mean(), rel=1e-12)
    mask = (normal(3, 1, 5, 4, seed=2) > 0).double()
    assert 0 < mask.sum() < mask.numel()
    for region, counted in (("holes", mask), ("known", 1 - mask)):
        term.region = region
        each = [row[:, where[0].astype(bool)].mean() for row, where in zip(distances, counted.numpy(), strict=True)]
        assert float(term(MADE, TARGET, mask)) == pytest.approx(np.mean(each), rel=1e-12)
        halves = [term(MADE[rows], TARGET[rows], mask[rows]) for rows in (slice(1), slice(1, None))]
        assert float(term(MADE, TARGET, mask)) == pytest.approx(float(halves[0] + 2 * halves[1]) / 3, rel=1e-12)
    with pytest.raises(UserError, match=r"region: known was found, but the data have no mask"):
        term(MADE, TARGET)


def test_an_image_without_a_pixel_of_the_region_counts_as_nothing():
    mask = torch.ones(3, 1, 5, 4, dtype=torch.double)
    mask[0] = 0
    term = L1(region="holes")
    assert float(term(MADE, TARGET, mask)) == pytest.approx(float((MADE - TARGET)[1:].abs().mean()) * 2 / 3)


def test_ssim_equals_scikit_images():
    made, target = (x.clamp(-1, 1) for x in (normal(2, 3, 16, 13, seed=3), normal(2, 3, 16, 13, seed=4)))
    target = 0.7 * made + 0.3 * target
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 2}
    each = [
        structural_similarity(a, b, channel_axis=0, **options)
        for a, b in zip(made.numpy(), target.numpy(), strict=True)
    ]
    assert float(SSIM()(made, target)) == pytest.approx(1 - np.mean(each), abs=2e-6)
    assert float(SSIM()(made, made)) == pytest.approx(0, abs=1e-6)
    with pytest.raises(UserError, match=r"SSIM: 5x4 pixels were found, its window has 11x11"):
        SSIM()(MADE, TARGET)


def test_total_variation():
    x = MADE.numpy()
    every = np.abs(np.diff(x, axis=2)).sum() + np.abs(np.diff(x, axis=3)).sum()
    assert float(TotalVariation()(MADE, TARGET)) == pytest.approx(every / x.size, rel=1e-12)


@pytest.mark.parametrize("squared", [True, False])
def test_feature_distance(squared):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(2, 3, 3).double()
            self.dropout = nn.Dropout(0.5)

        def forward(self, x):
            first = self.dropout(self.conv(x))
            return first, first.flatten(1).square()

    term = FeatureDistance(Two(), squared=squared).train()
    made = MADE.clone().requires_grad_()
    value = term(made, TARGET)
    a, b = term.extractor(MADE), term.extractor(TARGET)
    distance = torch.square if squared else torch.abs
    expected = sum(float(distance(x - y).mean().detach()) for x, y in zip(a, b, strict=True))
    assert float(value.detach()) == pytest.approx(expected, rel=1e-4)  # in float32
    assert torch.autograd.grad(value, made)[0].abs().sum() > 0
    assert not any(p.requires_grad for p in term.parameters())


def test_feature_distance_takes_a_classifier_of_the_package():
    from lit_gen.evaluation.extractors.lenet import load_lenet

    made = normal(2, 1, 28, 28).float().requires_grad_()
    value = FeatureDistance(load_lenet("lenet-mnist"))(made, torch.zeros(2, 1, 28, 28))
    assert torch.autograd.grad(value, made)[0].abs().sum() > 0


def test_names_and_own_functions():
    def brightness(made, target):
        return (made.mean() - target.mean()).abs()

    given = reconstructions([L1(), brightness, L1(2.0), TotalVariation(), SSIM()])
    assert term_names(given) == ["l1", "brightness", "l1_2", "total_variation", "ssim_loss"]
    for function, told in ((brightness, "brightness per rank"), (nn.functional.l1_loss, None)):
        assert reconstructions([function])[0].meets(Batches(8, world=2)) == told
        assert reconstructions([function])[0].meets(Batches(8)) is None
    assert float(value_of(given[1], MADE, TARGET, None)) == pytest.approx(abs(float(MADE.mean() - TARGET.mean())))
    for wrong, said in ((nn.Tanh(), "no subclass of Reconstruction"), (3, "is no function")):
        with pytest.raises(UserError, match=said):
            reconstructions([wrong])
    with pytest.raises(
        UserError, match=r"model.reconstruction: .*lambda.* returned a str, a scalar tensor is expected"
    ):
        value_of(reconstructions([lambda made, target: "each"])[0], MADE, TARGET, None)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: L1(-1), r"L1\.weight: -1 was found"),
        (lambda: L1(region="hole"), r"L1\.region: 'hole' was found.*mean 'holes'"),
        (lambda: Charbonnier(epsilon=0), r"Charbonnier\.epsilon: 0 was found"),
    ],
)
def test_options_out_of_range(make, said):
    with pytest.raises(UserError, match=said):
        make()
