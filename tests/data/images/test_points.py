"""Curved sets in the plane: scikit-learn's formulas, FFJORD's, and a uniform density."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import make_circles, make_moons
from support.gan import build, fit

from lit_gen.callbacks.evaluators.modes import Modes
from lit_gen.core.errors import UserError
from lit_gen.data.images.points import FORMS, Points2D
from lit_gen.protocols.data import Mixture

KINDS = tuple(FORMS)


def drawn(kind, **options):
    split = Points2D(kind, **{"size": 20_000, **options}).split("train")
    return split.images.flatten(1), split.labels


@pytest.mark.parametrize(("form", "theirs", "end"), [("moons", make_moons, True), ("circles", make_circles, False)])
def test_moons_and_circles_are_scikit_learns(form, theirs, end):
    options = {} if end else {"factor": 0.5}
    expected, labels = theirs(200, shuffle=False, **options)
    uniform = np.zeros((200, 3))
    uniform[:, 0] = np.tile(np.linspace(0, 1, 100, endpoint=end), 2)
    found = FORMS[form].draw(labels, uniform, np.zeros((200, 2)))
    assert np.abs(found - expected).max() < 1e-12


def test_torchcfms_moons_are_torchdyns_scaled():
    """torchdyn's generate_moons(n, noise=0.2): one uniform number for both coordinates of a point; then 3 x - 1."""
    angle, uniform = np.linspace(0, np.pi, 50), np.random.default_rng(0).random((100, 3))
    outer = np.stack([np.cos(angle), np.sin(angle)], 1)
    inner = np.stack([1 - np.cos(angle), 1 - np.sin(angle) - 0.5], 1)
    expected = 3 * (np.concatenate([outer, inner]) + uniform[:, 1:2] * 0.2) - 1
    uniform[:, 0] = np.tile(np.linspace(0, 1, 50), 2)
    found = FORMS["torchcfm_moons"].draw(np.repeat([0, 1], 50), uniform, np.zeros((100, 2)))
    assert np.abs(found - expected).max() < 1e-12


def test_the_noise_is_what_is_said_and_the_classes_are_even():
    for kind, sigma in (("moons", 0.05), ("circles", 0.08), ("spirals", 0.1), ("checkerboard", 0.3)):
        options = {"noise": 0.3} if kind == "checkerboard" else {}
        with_noise, labels = drawn(kind, **options)
        without, _ = drawn(kind, noise=0)
        assert (with_noise - without).std(0).tolist() == pytest.approx([sigma] * 2, rel=0.03)
        assert labels is None or labels.bincount().min() > 0.45 * len(labels)


def test_the_checkerboard_is_uniform_on_half_of_its_squares():
    xy, labels = drawn("checkerboard")
    assert labels is None
    assert xy.abs().max() <= 4
    column, row = (xy / 2).floor().long().add(2).T
    counts = torch.zeros(4, 4).index_put((row, column), torch.ones(len(xy)), accumulate=True) / len(xy)
    filled = (torch.arange(4)[:, None] + torch.arange(4)) % 2 == 0
    assert (counts[~filled] == 0).all()
    assert counts[filled] == pytest.approx(torch.full((8,), 1 / 8), abs=0.01)
    assert math.log(8 * 2 * 2) == pytest.approx(3.4657, abs=1e-4)  # nats, as the docs say


def ffjord(kind, classes, uniform, normal):
    """Their code, lib/toy_data.py, point by point."""
    if kind == "pinwheel":
        f = normal * np.array([0.3, 0.1])
        f[0] += 1
        angle = np.linspace(0, 2 * np.pi, 5, endpoint=False)[classes] + 0.25 * np.exp(f[0])
        return 2 * f @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    n = np.sqrt(uniform[0]) * 540 * (2 * np.pi) / 360
    arm = np.array([-np.cos(n) * n + uniform[1] * 0.5, np.sin(n) * n + uniform[2] * 0.5])
    return (-arm if classes else arm) / 3


@pytest.mark.parametrize("kind", ["pinwheel", "spirals"])
def test_arms_are_ffjords(kind):
    numbers = np.random.default_rng(0)
    classes = numbers.integers(0, FORMS[kind].classes, 50)
    uniform, normal = numbers.random((50, 3)), numbers.standard_normal((50, 2))
    expected = [ffjord(kind, *row) for row in zip(classes, uniform, normal, strict=True)]
    assert np.abs(FORMS[kind].draw(classes, uniform, normal) - np.array(expected)).max() < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_named_by_seed_split_and_index(kind):
    data, again = Points2D(kind, size=2000), Points2D(kind, size=500)
    train, val = data.split("train"), data.split("val")
    assert (data.shape, data.facts()["levels"], len(val)) == ((2, 1, 1), None, 200)
    assert data.num_classes == (None if train.labels is None else FORMS[kind].classes)
    assert train.images.dtype == torch.float32
    assert torch.equal(again.split("train").images, train.images[:500])
    assert not torch.equal(val.images, train.images[:200])
    assert not torch.equal(Points2D(kind, size=500, seed=1).split("train").images, train.images[:500])
    assert data.protocol == {"data": "Points2D", "kind": kind, "noise": FORMS[kind].noise, "size": 2000}


def test_modes_are_not_counted(tmp_path):
    data = Points2D("moons", size=1000, batch_size=16)
    assert not isinstance(data, Mixture)
    with pytest.raises(UserError, match=r"Modes: Points2D has no modes to count; Toy2D or StackedMNIST is expected"):
        fit(build(), 1, tmp_path, [Modes()], data=data)


def test_options_that_make_no_points():
    for options, said in (
        ({"size": 9}, "data.size: 9 was found, a whole number of at least 10 is expected"),
        ({"noise": -1}, "data.noise: -1 was found, a number of at least 0"),
        ({"noise": math.inf}, "data.noise: inf was found"),
        ({"flip": True}, "points have no sides"),
    ):
        with pytest.raises(UserError, match=said):
            Points2D(**options)
