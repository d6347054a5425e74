"""The metrics as torchmetrics' classes: our functions' numbers, however updates and processes divide the items."""

import importlib
import json
import math
import socket
import sys

import pytest
import torch
import torch.multiprocessing as mp
import torchmetrics.image
import torchmetrics.text
from support import kills
from support.dealt import dealt, measure, sets
from support.extractors import Mean
from torch import nn

from lit_gen.callbacks.evaluators.perplexity import score
from lit_gen.core.errors import UserError
from lit_gen.data.images.mnist import MNIST
from lit_gen.evaluation.extractors.load import load_extractor
from lit_gen.evaluation.features import extract
from lit_gen.metrics.frechet import frechet_distance
from lit_gen.metrics.importance import ImportanceWeights, summarize
from lit_gen.metrics.kernel import kernel_distance
from lit_gen.metrics.neighbors import precision_recall
from lit_gen.metrics.torchmetrics import (
    BitsPerByte,
    FrechetDistance,
    ImportanceWeightedNLL,
    KernelDistance,
    Perplexity,
    PrecisionRecall,
)
from lit_gen.protocols.text import TokenBatch

CLASSES = (FrechetDistance, KernelDistance, PrecisionRecall)


@pytest.fixture(scope="module")
def lenet():
    return load_extractor("lenet-mnist")


@pytest.fixture(scope="module")
def sides():
    images = MNIST(embedded=True).split("val").images
    generator = torch.Generator().manual_seed(0)
    noisy = images[:210].float() + 40 * torch.randn(210, 1, 28, 28, generator=generator)
    return noisy.clamp(0, 255).byte(), images[300:600]


def expected(cls, generated, real):
    if cls is FrechetDistance:
        return frechet_distance(generated.gaussian, real.gaussian)
    if cls is KernelDistance:
        found = kernel_distance(generated.features, real.features)
        return {"mean": found.mean, "std": found.std}
    return precision_recall(generated.features, real.features)._asdict()


def plain(computed):
    return {k: v.item() for k, v in computed.items()} if isinstance(computed, dict) else computed.item()


def gathered(metrics):
    """One metric with the states of all, as an all-gather puts them together."""
    first, *others = metrics
    for other in others:
        first.merge_state(other)
    return first


# ---- images


@pytest.mark.parametrize("cls", CLASSES)
def test_the_number_of_images_is_our_functions(cls, lenet, sides):
    metric = cls(lenet)
    for images, real in zip(sides, (False, True), strict=True):
        for block in images.split(64):
            metric.update(block, real)
    assert plain(metric.compute()) == expected(cls, *(extract(lenet, images) for images in sides))


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(("world", "batch"), [(1, 50), (2, 17), (3, 80)])
def test_indices_make_it_the_same_for_any_split(cls, world, batch, lenet, sides):
    ranks = []
    for rank in range(world):
        metric = cls(lenet)
        for images, real in zip(sides, (False, True), strict=True):
            for some in dealt(len(images), world, rank).split(batch):
                metric.update(images[some], real, some)
        ranks.append(metric)
    assert plain(gathered(ranks).compute()) == expected(cls, *(extract(lenet, images) for images in sides))


def test_without_indices_a_repeated_image_changes_the_number(lenet, sides):
    """The control of the test above."""
    metric = FrechetDistance(lenet)
    metric.update(torch.cat([sides[0], sides[0][:10]]), real=False)
    metric.update(sides[1], real=True)
    number = expected(FrechetDistance, *(extract(lenet, images) for images in sides))
    assert metric.compute().item() != pytest.approx(number, rel=1e-6)


def test_it_agrees_with_torchmetrics_own_frechet_distance(sides):
    ours, theirs = FrechetDistance(load_extractor(Mean())), torchmetrics.image.FrechetInceptionDistance(Mean())
    for images, real in zip(sides, (False, True), strict=True):
        ours.update(images, real)
        theirs.update(images, real)
    assert ours.compute().item() == pytest.approx(theirs.compute().item(), rel=1e-6)  # theirs returns float32


def test_the_extractor_is_in_no_checkpoint_and_a_reset_forgets(lenet, sides):
    metric = FrechetDistance(lenet)
    assert not metric.state_dict()
    assert not list(metric.parameters())
    metric.update(sides[0], real=True)
    metric.reset()
    metric.update(sides[0], real=False)
    with pytest.raises(UserError, match="FrechetDistance: no real rows were found"):
        metric.compute()


# ---- text


class Words:
    """Nats that follow from the tokens; what `score` needs of a model."""

    def nll(self, tokens, weights="ema"):
        return (tokens[:, 1:] * 0.37).sin().abs() + 0.01


@pytest.fixture(scope="module")
def windows():
    tokens = torch.randint(0, 50, (21, 33), generator=torch.Generator().manual_seed(1))
    scored = torch.ones(21, 32, dtype=torch.bool)
    scored[-1, 20:] = False
    return tokens, scored


@pytest.mark.parametrize(("world", "batch"), [(1, 21), (1, 4), (2, 5)])
def test_text_costs_what_the_evaluation_says(world, batch, windows):
    tokens, scored = windows
    nats, of_text, count = score(Words(), [TokenBatch(tokens, scored=scored, indices=torch.arange(21))], end_of_text=7)
    size, bytes_of = 4000, torch.full((21,), 190)
    bytes_of[0] += size - 21 * 190
    perplexities, bits = [], []
    for rank in range(world):
        perplexities.append(Perplexity())
        bits.append(BitsPerByte())
        for some in dealt(21, world, rank).split(batch):
            each = Words().nll(tokens[some])
            perplexities[-1].update(each, scored[some], some)
            is_text = scored[some] & (tokens[some, 1:] != 7)
            bits[-1].update(each, bytes_of[some], is_text, some)
    assert gathered(perplexities).compute().item() == math.exp(nats / count)
    assert gathered(bits).compute().item() == of_text / (math.log(2) * size)


def test_perplexity_agrees_with_torchmetrics_own():
    generator = torch.Generator().manual_seed(2)
    logits, target = torch.randn(6, 20, 11, generator=generator), torch.randint(0, 11, (6, 20), generator=generator)
    ours, theirs = Perplexity(), torchmetrics.text.Perplexity()
    theirs.update(logits, target)
    ours.update(nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction="none"))
    assert ours.compute().item() == pytest.approx(theirs.compute().item(), rel=1e-6)


def test_a_perplexity_beyond_float64_is_infinite():
    metric = Perplexity()
    metric.update(torch.full((1, 3), 1000.0))
    assert metric.compute().item() == math.inf


# ---- importance weights


@pytest.mark.parametrize(("world", "batch"), [(1, 40), (1, 7), (2, 6)])
def test_importance_weights_are_summarized_as_ours(world, batch):
    log_weights = 5 * torch.randn(40, 16, generator=torch.Generator().manual_seed(3)) - 90
    weights = ImportanceWeights.of(log_weights)
    found = summarize(weights.bound.tolist(), weights.effective_samples.tolist())
    ranks = []
    for rank in range(world):
        metric = ImportanceWeightedNLL()
        for some in dealt(39, world, rank).split(batch):
            metric.update(log_weights[some], some)
        ranks.append(metric)
    ranks[0].update(log_weights[39:], torch.tensor([39]))
    assert plain(gathered(ranks).compute()) == found._asdict()


# ---- processes


@pytest.mark.slow
def test_two_processes_compute_the_number_of_one(tmp_path, lenet):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    mp.start_processes(measure, (port, str(tmp_path)), nprocs=2, start_method="spawn")
    number = expected(KernelDistance, *(extract(lenet, images) for images in sets()))
    found = [json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]
    assert found == [number, number]


# ---- mistakes, and what is imported


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda m: m.update(torch.zeros(2, 3), indices=torch.zeros(3)), "indices: shape (3,) was found, (2,) is"),
        (lambda m: m.update(torch.zeros(2)), "nats, scored: shapes (2,) and (2,) were found"),
        (lambda m: m.update(torch.zeros(2, 3), torch.ones(2, 2) > 0), "nats, scored: shapes (2, 3) and (2, 2) were"),
        (lambda m: m.update(torch.zeros(1, 3)) or m.update(torch.zeros(1, 3), indices=torch.zeros(1)), "all or none"),
        (lambda m: m.update(torch.zeros(1, 3), torch.zeros(1, 3) > 0), "Perplexity: no token or byte was found"),
    ],
)
def test_mistakes(act, message):
    def whole(metric):
        act(metric)
        metric.compute()

    with pytest.raises(UserError) as error:
        whole(Perplexity())
    assert message in str(error.value)


def test_bytes_of_another_shape_are_refused():
    with pytest.raises(UserError, match="text_bytes: shape"):
        BitsPerByte().update(torch.zeros(2, 3), torch.ones(3))


def test_the_formulas_need_no_torchmetrics_and_the_classes_no_lightning(tmp_path):
    def act():
        for name in [n for n in sys.modules if n.split(".")[0] in ("lit_gen", "lightning", "torchmetrics")]:
            del sys.modules[name]
        importlib.import_module("lit_gen.metrics.frechet")
        assert "torchmetrics" not in sys.modules
        sys.modules["lightning"] = None
        importlib.import_module("lit_gen.metrics.torchmetrics")

    assert kills.in_child(act, tmp_path / "log") == 0, (tmp_path / "log").read_text(encoding="utf-8")
