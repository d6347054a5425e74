"""Precision, recall, density, coverage, memorization; and all metrics against the offline tool."""

import ast
import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gen.core.errors import UserError
from lit_gen.metrics import balls, frechet, kernel, neighbors, pair
from lit_gen.metrics import inception_score as score
from lit_gen.metrics.frechet import Gaussian, frechet_distance
from lit_gen.metrics.inception_score import inception_score
from lit_gen.metrics.kernel import kernel_distance
from lit_gen.metrics.neighbors import density_coverage, memorization_ratio, precision_recall

PAIRED = {
    "kernel_distance": lambda a, b: kernel_distance(a, b, subsets=2),
    "precision_recall": precision_recall,
    "density_coverage": density_coverage,
    "memorization_ratio": lambda a, b: memorization_ratio(a, b, b),
}


@pytest.fixture(scope="module", autouse=True)
def _small_blocks():
    """Every matrix of distances falls into several blocks."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (balls, kernel, neighbors, pair):
            patch.setattr(module, "BLOCK", 16)
        yield


# the offline tool


@pytest.fixture(scope="module")
def offline():
    """Images, their features and logits, and what torch-fidelity finds for the same images and network."""
    import torch_fidelity
    from support.offline import Offline

    weight = torch.randn(64, 12, generator=torch.Generator().manual_seed(0)) / 128

    class Projection(Offline):
        def compute(self, images):
            features = (images.flatten(1).float() - 127.5) @ weight
            return {"features": features.tanh(), "logits": features[:, :5]}

    class Images(torch.utils.data.Dataset):
        def __init__(self, images):
            self.images = images

        def __len__(self):
            return len(self.images)

        def __getitem__(self, index):
            return self.images[index]

    torch_fidelity.register_feature_extractor("projection", Projection)
    generator = torch.Generator().manual_seed(1)
    sets = [torch.randint(0, high, (n, 1, 8, 8), generator=generator, dtype=torch.uint8) for n, high in
            ((300, 240), (260, 256))]  # fmt: skip
    told = torch_fidelity.calculate_metrics(
        input1=Images(sets[0]), input2=Images(sets[1]), cuda=False, isc=True, fid=True, kid=True, prc=True,
        feature_extractor="projection", kid_subset_size=100, kid_subsets=20, cache=False, save_cpu_ram=True,
        verbose=False,
    )  # fmt: skip
    network = Projection("projection", ["features", "logits"])
    features, logits = zip(*[map(torch.cat, zip(*map(network, x.split(64)), strict=True)) for x in sets], strict=True)
    return features, logits, told


def test_equal_to_the_offline_tool(offline):
    features, logits, told = offline
    found = kernel_distance(*features, subsets=20, subset_size=100)
    told_kid = told["kernel_inception_distance_mean"], told["kernel_inception_distance_std"]
    assert (found.mean, found.std) == pytest.approx(told_kid, rel=1e-5)  # its sums are float32; see test_kernel.py
    assert inception_score(logits[0]) == (told["inception_score_mean"], told["inception_score_std"])
    assert precision_recall(*features) == (told["precision"], told["recall"])
    assert precision_recall(*features).recall != precision_recall(*features).precision  # a swap would show
    distance = frechet_distance(*map(Gaussian.of, features))
    assert distance == pytest.approx(told["frechet_inception_distance"], rel=1e-6)


@pytest.mark.parametrize("module", [balls, frechet, kernel, neighbors, pair, score])
def test_the_offline_tool_is_imported_when_it_is_needed(module):
    """It takes seconds, and is none of a run's that has other metrics."""
    top = [ast.unparse(node) for node in ast.parse(inspect.getsource(module)).body]
    assert not [line for line in top if line.startswith(("import torch_fidelity", "from torch_fidelity"))]


# kernel distance


# score


# precision, recall, density, coverage


def far_apart():
    return torch.randn(60, 4), 1000 + torch.randn(50, 4)


def test_identical_sets():
    """Exactly so, although each sample lies on the spheres that end at it."""
    x = 100 + torch.randn(700, 16)
    assert precision_recall(x, x) == (1, 1)
    assert density_coverage(x, x) == (1, 1)
    assert density_coverage(x[torch.randperm(700)], x) == (1, 1)


def test_disjoint_sets():
    assert precision_recall(*far_apart()) == (0, 0)
    assert density_coverage(*far_apart()) == (0, 0)


def test_collapsed_generator_is_precise_and_recalls_nothing():
    real = torch.randn(500, 4)
    collapsed = real.mean(0) + 1e-3 * torch.randn(500, 4)
    precision, recall = precision_recall(collapsed, real)
    assert precision > 0.99
    assert recall < 0.02
    assert density_coverage(collapsed, real).coverage < 0.1


def test_one_law():
    found = density_coverage(*torch.randn(2, 3000, 3))
    assert found.density == pytest.approx(1, abs=0.05)
    assert found.coverage == pytest.approx(1 - 2**-5, abs=0.01)


def test_density_and_coverage_do_not_depend_on_where_the_features_are():
    x, y = ((4096 * torch.randn(200, 8, dtype=torch.float64)).round() / 4096 for _ in range(2))
    assert density_coverage(x + 2**20, y + 2**20) == density_coverage(x, y)


def naive_density_coverage(generated, real, k):
    """The definitions, in loops."""
    radii = [sorted(math.dist(a, b) for j, b in enumerate(real) if j != i)[k - 1] for i, a in enumerate(real)]
    inside = [[math.dist(y, x) < r for x, r in zip(real, radii, strict=True)] for y in generated]
    density = sum(map(sum, inside)) / (k * len(generated))
    return density, sum(any(column) for column in zip(*inside, strict=True)) / len(real)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(8, 50), m=st.integers(8, 50), d=st.integers(1, 6), k=st.integers(1, 7), seed=st.integers(0, 10**6),
    ties=st.booleans(),
)  # fmt: skip
def test_density_and_coverage_are_the_papers(n, m, d, k, seed, ties):
    generator = torch.Generator().manual_seed(seed)
    generated, real = (torch.randn(rows, d, generator=generator) for rows in (n, m))
    if ties:  # integers: many samples at the same place, on many spheres
        generated, real = (3 * generated).round(), (3 * real).round()
    found = density_coverage(generated, real, k)
    assert found == pytest.approx(naive_density_coverage(generated.tolist(), real.tolist(), k), rel=1e-12)


# memorization


def test_fresh_images_have_ratio_one():
    for sizes in ((400, 400, 400), (300, 2000, 200), (100, 150, 900)):
        found = memorization_ratio(*(torch.randn(n, 4) for n in sizes))
        assert found == pytest.approx(1, abs=0.15), sizes


def test_ratio_by_hand():
    g, t, h = torch.randn(31, 3).tolist(), torch.randn(40, 3).tolist(), torch.randn(25, 3).tolist()
    near = lambda x, others: min(math.dist(x, y) for y in others if y is not x)  # noqa: E731
    median = lambda points: sorted(near(x, t) / near(x, h) for x in points)[len(points) // 2]  # noqa: E731
    found = memorization_ratio(*map(torch.tensor, (g, t, h)))
    assert found == pytest.approx(median(g) / median(h), rel=1e-6)


@pytest.mark.parametrize("noise", [0, 1e-4, 1e-2])
def test_copies_of_training_images_have_a_small_ratio(noise):
    train, held_out = 1000 + torch.randn(300, 8), 1000 + torch.randn(200, 8)
    found = memorization_ratio(train[:150] + noise * torch.randn(150, 8), train, held_out)
    assert found == 0 if noise == 0 else 0 < found < 2 * noise


def test_exact_copies_never_give_nan():
    train, held_out, fresh = torch.randn(50, 8), torch.randn(40, 8), torch.randn(30, 8)
    shared = torch.cat([held_out, train[:15]])  # images of both sets
    assert memorization_ratio(held_out, train, held_out) == math.inf
    assert memorization_ratio(torch.cat([train[:40], fresh]), train, held_out) == 0
    assert 0 < memorization_ratio(torch.cat([train[:20], held_out[:20], fresh]), train, held_out) < math.inf
    assert 0.5 < memorization_ratio(train[:15], train, shared) < 2  # 0 / 0: no nearer to one than to the other
    twice = torch.cat([held_out, held_out[:10]])
    assert 0 < memorization_ratio(fresh, train, twice) < math.inf


def test_held_out_images_must_be_fresh():
    train, fresh = torch.randn(50, 8), torch.randn(30, 8)
    with pytest.raises(UserError, match="of 40 held-out images most have an exact copy in the training set"):
        memorization_ratio(fresh, train, train[:40])
    with pytest.raises(UserError, match="of 60 held-out images most have an exact copy in their own set"):
        memorization_ratio(fresh, train, fresh.repeat(2, 1))


# mistakes


@pytest.mark.parametrize("name", PAIRED)
def test_nan_and_unequal_features_are_refused(name):
    good, bad = torch.randn(20, 4), torch.randn(20, 4)
    bad[3, 2] = math.nan
    with pytest.raises(UserError, match="generated features: found NaN or infinity in 1 of 20 rows"):
        PAIRED[name](bad, good)
    with pytest.raises(UserError, match=r"(real|train) features: found NaN"):
        PAIRED[name](good, bad)
    with pytest.raises(UserError, match=r"4 \(generated\), 5 \((real|train)\)"):
        PAIRED[name](good, torch.randn(20, 5))
    with pytest.raises(UserError, match=r"generated features: found shape \(20, 4, 1\)"):
        PAIRED[name](good[:, :, None], good)
    with pytest.raises(UserError, match=r"found 1 rows|found k = \d with 1 generated"):
        PAIRED[name](good[:1], good)


@pytest.mark.parametrize("function", [precision_recall, density_coverage])
def test_k_needs_more_samples_than_that(function):
    x, y = torch.randn(20, 3), torch.randn(4, 3)
    function(x, y, k=3)
    for a, b, k in ((x, y, 4), (y, x, 4), (x, x, 0)):
        with pytest.raises(UserError, match=f"found k = {k} with {len(a)} generated and {len(b)} real"):
            function(a, b, k=k)
