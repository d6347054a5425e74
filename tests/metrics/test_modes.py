"""Mode coverage against closed forms, naive loops, and what PacGAN's code says."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.core.randomness import BLOCK
from lit_gen.data.images.toy import GRID_SIGMA, RING_SIGMA, grid_centres, ring_centres
from lit_gen.metrics.modes import class_coverage, mixture_coverage, stacked_classes
from lit_gen.protocols.images import Features

SETS = {"ring": (ring_centres(), RING_SIGMA), "grid": (grid_centres(), GRID_SIGMA)}


def perfect(name, count):
    """Samples from the mixture itself, the same number of each mode."""
    centers, sigma = SETS[name]
    noise = torch.randn(count, 2, generator=torch.Generator().manual_seed(0))
    return centers.repeat(count // len(centers), 1) + sigma * noise


def kl(p, q):
    """The formula, over plain lists."""
    total = 0.0
    for a, b in zip(p, q, strict=True):
        if a > 0:
            total += a * math.log(a / b) if b > 0 else math.inf
    return total


# ---- mixtures


@pytest.mark.parametrize("name", SETS)
def test_a_perfect_sampler(name):
    centers, sigma = SETS[name]
    found = mixture_coverage(perfect(name, 200_000), centers, sigma)
    assert found.modes == len(centers)
    assert abs(found.high_quality - (1 - math.exp(-4.5))) < 1e-3  # 0.9889; 0.9946 per coordinate, 0.9973 in one
    assert found.reverse_kl == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("name", SETS)
def test_a_collapsed_sampler(name):
    centers, sigma = SETS[name]
    found = mixture_coverage(centers[3].repeat(100, 1), centers, sigma)
    assert (found.modes, found.high_quality) == (1, 1.0)
    assert found.reverse_kl == pytest.approx(math.log(len(centers)))
    half = mixture_coverage(centers[[0, 5]].repeat(50, 1), centers, sigma)
    assert (half.modes, half.high_quality) == (2, 1.0)
    assert half.reverse_kl == pytest.approx(math.log(len(centers) / 2))


@pytest.mark.parametrize("angle", [0.0, 0.3, math.pi / 4, 2.0])
def test_three_sigma_is_a_circle(angle):
    """At 45 degrees a square of half side 3 sigma would hold points as far as 4.2 sigma."""
    center, sigma = torch.tensor([[4.0, -2.0]]), 0.05
    way = torch.tensor([[math.cos(angle), math.sin(angle)]])
    for distance, good in ((2.999, 1), (3.001, 0)):
        found = mixture_coverage(center + distance * sigma * way, center, sigma)
        assert (found.modes, found.high_quality) == (good, float(good))
        assert found.reverse_kl == 0  # the only mode, whether the sample is good or not


def test_at_exactly_three_sigma_a_sample_is_not_good():
    points = torch.tensor([[3.0, 0.0], [0.0, -3.0]])
    assert mixture_coverage(points, torch.zeros(1, 2), 1.0).high_quality == 0
    assert mixture_coverage(points * (1 - 1e-6), torch.zeros(1, 2), 1.0).high_quality == 1


def test_bad_samples_count_for_the_divergence_but_find_no_mode():
    centers = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    points = torch.tensor([[0.0, 0.0], [0.1, 0.0], [6.0, 0.0], [0.0, 1.0]])  # the third lies at neither, nearer to one
    found = mixture_coverage(points, centers, 0.1)
    assert (found.modes, found.high_quality) == (1, 0.5)
    assert found.reverse_kl == pytest.approx(kl([0.75, 0.25], [0.5, 0.5]))


def test_a_sample_counts_for_its_nearest_mode_alone():
    centers = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])  # within 3 sigma of each other
    found = mixture_coverage(torch.tensor([[0.9, 0.0], [1.1, 0.0]]), centers, 1.0)
    assert (found.modes, found.high_quality) == (1, 1.0)
    assert found.reverse_kl == pytest.approx(math.log(3))


def test_small_sigmas_far_from_the_origin_do_not_cancel():
    """As |x|^2 - 2 x c + |c|^2, and in single precision, all distances here would be noise."""
    centers = 1e6 + 0.01 * torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0)).double()
    shift = torch.tensor([0.001, 0.0], dtype=torch.float64)
    found = mixture_coverage(centers + 2.9 * shift, centers, 0.001)
    assert (found.modes, found.high_quality, found.reverse_kl) == (64, 1.0, 0.0)
    assert mixture_coverage(centers + 3.1 * shift, centers, 0.001).high_quality == 0


def naive(points, centers, sigma, shares):
    good, found, counts = 0, set(), [0] * len(centers)
    for x, y in points.tolist():
        distances = [math.hypot(x - a, y - b) for a, b in centers.tolist()]
        nearest = distances.index(min(distances))
        counts[nearest] += 1
        if distances[nearest] < 3 * sigma:
            good += 1
            found.add(nearest)
    p, q = ([c / sum(x) for c in x] for x in (counts, shares))
    return len(found), good / len(points), kl(p, q)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 40), st.floats(0.01, 2), st.booleans(), st.integers(0, 10**6))
def test_mixtures_agree_with_the_naive_loop_in_any_order(n, k, sigma, weighted, seed):
    generator = torch.Generator().manual_seed(seed)
    points, centers = (2 * torch.randn(m, 2, generator=generator) for m in (n, k))
    shares = torch.rand(k, generator=generator) + 0.01 if weighted else None
    found = mixture_coverage(points, centers, sigma, shares)
    told = naive(points, centers, sigma, [1.0] * k if shares is None else shares.tolist())
    assert (found.modes, found.high_quality) == told[:2]
    assert found.reverse_kl == pytest.approx(told[2], abs=1e-12)
    shuffled = points[torch.randperm(n, generator=generator)]
    assert mixture_coverage(shuffled, centers, sigma, shares) == found
    assert mixture_coverage(points[:, :, None, None], centers, sigma, shares) == found
    order = torch.randperm(k, generator=generator)
    turned = mixture_coverage(points, centers[order], sigma, None if shares is None else shares[order])
    assert turned[:2] == found[:2]
    assert turned.reverse_kl == pytest.approx(found.reverse_kl, abs=1e-12)


def test_the_order_of_the_divergence():
    """KL(generated || real): what real data never has is infinitely wrong, what samples lack is not."""
    centers = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    only_first = centers[:1].repeat(4, 1)
    assert mixture_coverage(only_first, centers, 1.0).reverse_kl == pytest.approx(math.log(2))
    assert mixture_coverage(only_first, centers, 1.0, torch.tensor([1.0, 0.0])).reverse_kl == 0
    assert mixture_coverage(only_first, centers, 1.0, torch.tensor([0, 7])).reverse_kl == math.inf
    assert mixture_coverage(only_first, centers, 1.0, torch.tensor([1, 3])).reverse_kl == pytest.approx(math.log(4))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"points": torch.zeros(0, 2)}, "points: no samples were found"),
        ({"points": torch.zeros(4, 3)}, r"points: shape \(4, 3\) was found"),
        ({"points": torch.zeros(2)}, r"points: shape \(2,\) was found"),
        ({"points": torch.zeros(4, 2, 1)}, r"points: shape \(4, 2, 1\) was found"),
        ({"points": torch.tensor([[0.0, math.nan]])}, "points: NaN or infinity was found"),
        ({"points": torch.tensor([[0.0, math.inf]])}, "points: NaN or infinity was found"),
        ({"centers": torch.zeros(0, 2)}, r"centers: shape \(0, 2\) was found"),
        ({"centers": torch.zeros(2)}, r"centers: shape \(2,\) was found"),
        ({"centers": torch.full((2, 2), math.nan)}, "centers: NaN"),
        ({"sigma": 0.0}, r"sigma: 0.0 was found"),
        ({"sigma": -1.0}, r"sigma: -1.0 was found"),
        ({"sigma": math.nan}, "sigma: nan was found"),
        ({"sigma": math.inf}, "sigma: inf was found"),
        ({"reference": torch.ones(3)}, r"reference: shape \(3,\) was found, \(2,\)"),
        ({"reference": torch.zeros(2)}, "reference: shares of at least 0 are expected, and one above 0"),
        ({"reference": torch.tensor([2.0, -1.0])}, "reference: shares of at least 0"),
        ({"reference": torch.tensor([1.0, math.nan])}, "reference: NaN"),
    ],
)
def test_mixtures_refuse(change, told):
    arguments = {"points": torch.zeros(4, 2), "centers": torch.eye(2), "sigma": 1.0} | change
    with pytest.raises(UserError, match=told) as error:
        mixture_coverage(**arguments)
    assert "\n" not in str(error.value)


# ---- classes


def test_classes_in_closed_form():
    every = torch.arange(1000)
    assert class_coverage(every, 1000) == (1000, 0.0)
    assert class_coverage(every.repeat(26), 1000) == (1000, 0.0)
    one = class_coverage(torch.full((50,), 999), 1000)
    assert one.modes == 1
    assert one.kl == pytest.approx(math.log(1000))
    few = class_coverage(every[:250].repeat(3), 1000)
    assert few.modes == 250
    assert few.kl == pytest.approx(math.log(4))


def test_absent_classes_of_the_reference():
    classes = torch.tensor([0, 0, 1])
    assert class_coverage(classes, 3, torch.tensor([5, 5, 0])).kl == pytest.approx(kl([2 / 3, 1 / 3], [0.5, 0.5]))
    assert class_coverage(classes, 3, torch.tensor([5, 0, 5])).kl == math.inf
    assert class_coverage(classes, 3, torch.tensor([4, 2, 0])).kl == pytest.approx(0, abs=1e-15)


def test_the_floor_of_a_perfect_sampler():
    """(k - 1) / (2 n) nats: the figure that the docstring gives for 26,000 samples."""
    drawn = torch.randint(1000, (26_000,), generator=torch.Generator().manual_seed(0))
    found = class_coverage(drawn, 1000)
    assert found.modes == 1000
    assert abs(found.kl / (999 / 52_000) - 1) < 0.1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 11), min_size=1, max_size=60), st.lists(st.integers(0, 9), min_size=12, max_size=12))
def test_classes_agree_with_the_naive_loop_in_any_order(classes, reference):
    counts = [classes.count(c) / len(classes) for c in range(12)]
    for given_, shares in ((None, [1] * 12), (torch.tensor(reference), reference)):
        if not sum(shares):
            continue
        found = class_coverage(torch.tensor(classes), 12, given_)
        assert found.modes == len(set(classes))
        assert found.kl == pytest.approx(kl(counts, [s / sum(shares) for s in shares]), abs=1e-12)
        assert found.kl >= 0
        assert class_coverage(torch.tensor(sorted(classes)), 12, given_) == found


@pytest.mark.parametrize(
    ("classes", "reference", "told"),
    [
        (torch.zeros(0, dtype=torch.int64), None, "classes: no samples were found"),
        (torch.zeros(3), None, r"classes: torch.float32 \(3,\) was found, whole numbers"),
        (torch.zeros(3, dtype=torch.bool), None, r"classes: torch.bool"),
        (torch.zeros(3, 1, dtype=torch.int64), None, r"classes: torch.int64 \(3, 1\) was found"),
        (torch.tensor([0, 4]), None, "classes: 0 to 4 were found, 0 to 3 are expected"),
        (torch.tensor([-1, 3]), None, "classes: -1 to 3 were found, 0 to 3 are expected"),
        (torch.tensor([0, 3]), torch.ones(5), r"reference: shape \(5,\) was found, \(4,\)"),
        (torch.tensor([0, 3]), torch.zeros(4), "reference: shares of at least 0"),
    ],
)
def test_classes_refuse(classes, reference, told):
    with pytest.raises(UserError, match=told):
        class_coverage(classes, 4, reference)


# ---- stacked digits


def bright(images):
    """Classifies by the brightness of one pixel; logits as a network gives them."""
    return Features(torch.zeros(len(images), 1), nn.functional.one_hot(images[:, 0, 5, 5].long(), 10).float())


def stack(classes):
    images = torch.zeros(len(classes), 3, 28, 28, dtype=torch.uint8)
    images[:, 0, 5, 5], images[:, 1, 5, 5], images[:, 2, 5, 5] = classes // 100, classes // 10 % 10, classes % 10
    return images


@pytest.mark.parametrize("count", [1, BLOCK - 1, BLOCK, BLOCK + 1, 1000])
def test_the_class_is_100_r_10_g_b_and_blocks_are_whole(count):
    classes, seen = torch.randperm(1000)[:count], []

    def classify(images):
        seen.append((tuple(images.shape), images.dtype))
        return bright(images)

    found = stacked_classes(stack(classes), classify)
    assert torch.equal(found, classes)
    assert found.dtype == torch.int64
    assert seen == [((BLOCK, 1, 28, 28), torch.uint8)] * (3 * math.ceil(count / BLOCK))


def test_a_class_does_not_depend_on_how_many_others_there_are():
    """Down to the bits of the logits, which depend on a batch's shape."""
    network, logits = nn.Sequential(nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10)), []

    @torch.no_grad()
    def classify(images):
        logits.append(network(images / 255))
        return Features(logits[-1], logits[-1])

    images = torch.randint(256, (100, 3, 28, 28), dtype=torch.uint8)
    every = stacked_classes(images, classify)
    some = stacked_classes(images[:70], classify)
    assert torch.equal(some, every[:70])
    assert torch.equal(logits[3][:6], logits[9][:6])


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (torch.zeros(0, 3, 28, 28, dtype=torch.uint8), "images: no samples were found"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), r"images: torch.uint8 \(2, 1, 28, 28\) was found"),
        (torch.zeros(3, 28, 28, dtype=torch.uint8), r"images: torch.uint8 \(3, 28, 28\) was found"),
        (torch.zeros(2, 3, 28, 28), r"images: torch.float32 \(2, 3, 28, 28\) was found"),
    ],
)
def test_stacked_images_refused(images, told):
    with pytest.raises(UserError, match=told):
        stacked_classes(images, bright)


@pytest.mark.parametrize("logits", [None, torch.zeros(BLOCK, 1000), torch.zeros(1, 10)])
def test_what_is_no_classifier_of_digits_is_refused(logits):
    with pytest.raises(UserError, match=r"classify: .* \(64, 10\) is expected"):
        stacked_classes(stack(torch.arange(3)), lambda images: Features(torch.zeros(1), logits))
