"""The laws of denoising networks: ours keep them, and each is broken by a network with one mistake."""

import pytest
import torch
from support.denoising_networks import CASES, build
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.laws import denoisers as laws
from lit_gen.laws.base import LawBroken, seeded
from lit_gen.laws.examine import LAWS, Setting, examine

SHAPE = (1, 2, 3)


@pytest.mark.parametrize(("cls", "shape", "options"), CASES)
def test_ours_keep_all(cls, shape, options):
    verdicts = list(examine(lambda: build(cls, shape, options), Setting("denoiser", shape)))
    assert [(v.outcome, v.found) for v in verdicts] == [("ok", "")] * len(LAWS["denoiser"])


class Network(nn.Module):
    """A perceptron of x, the level and the label."""

    def __init__(self, shape=SHAPE, num_classes=2):
        super().__init__()
        self.shape, self.num_classes = shape, num_classes
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 6)
        self.level, self.table = nn.Linear(1, 8), nn.Embedding(num_classes + 1, 8)

    def told(self, level, labels):
        return self.level(level[:, None]) + self.table(labels)

    def forward(self, x, level, labels):
        return self.last((self.first(x.flatten(1)) + self.told(level, labels)).sin()).view(x.shape)


class Points(Network):
    """Not conditional."""

    def __init__(self, shape=SHAPE):
        super().__init__(shape)
        del self.table
        self.num_classes = None

    def told(self, level, labels=None):
        return self.level(level[:, None])

    def forward(self, x, level):
        return super().forward(x, level, None)


class Flat(Network):
    def forward(self, x, level, labels):
        return super().forward(x, level, labels).flatten(1)


class Pair(Network):
    def forward(self, x, level, labels):
        return super().forward(x, level, labels), level


class Shapeless(Network):
    def __init__(self):
        super().__init__()
        del self.shape


class OfPositiveLevels(Network):
    def told(self, level, labels):
        return super().told(level.log(), labels)


class OfTwoLabels(Network):
    """An embedding that has no row for "no label"."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(2, 8)


class Spare(Network):
    def __init__(self):
        super().__init__()
        self.spare = nn.Parameter(torch.ones(()))

    def forward(self, x, level, labels):
        return super().forward(x, level, labels) + 0 * self.spare


class Blind(Network):
    def told(self, level, labels):
        return super().told(0 * level, labels)


class Unlabelled(Network):
    def told(self, level, labels):
        return super().told(level, 0 * labels)


class NoLabelIsTheLast(Network):
    def told(self, level, labels):
        return super().told(level, labels % 2)


class Centred(Network):
    def forward(self, x, level, labels):
        return super().forward(x - x.mean(0), level, labels)


class Noisy(Network):
    def forward(self, x, level, labels):
        return super().forward(x + 0.1 * torch.randn_like(x), level, labels)


class Forgetful(Network):
    def __init__(self, width=8):
        super().__init__()


class NotCopied(Network):
    def __deepcopy__(self, memo):
        return self


BROKEN = [
    (laws.output, Flat, r"an output of shape \(1, 6\) were found, \(1, 1, 2, 3\) is expected"),
    (laws.output, Pair, "a tuple was returned, a tensor of the input's shape is expected"),
    (laws.output, Shapeless, r"shape = \(\) was found, the data's \(1, 2, 3\) is expected as an attribute"),
    (laws.output, OfPositiveLevels, "NaN or infinity was found in the output"),
    (laws.output, OfTwoLabels, "index out of range"),
    (laws.gradients, Spare, "the gradient of network.spare is zero"),
    (laws.level_matters, Blind, "levels that differ by 0.1 give the same output"),
    (laws.labels_matter, Unlabelled, "labels 0 and 1 give the same output"),
    (laws.labels_matter, NoLabelIsTheLast, r"label 0 and no label \(2\) give the same output"),
    (laws.rows, Centred, "other rows change a sample by"),
    (laws.evaluation, Noisy, "two evaluations of the same input differ"),
    (laws.rebuilding, Forgetful, "does not keep its constructor argument 'width'"),
    (laws.copying, NotCopied, "the copy shares 7 parameters with the network"),
]


@pytest.mark.parametrize(("law", "cls", "told"), BROKEN)
def test_it_can_be_broken(law, cls, told):
    with seeded(), pytest.raises((LawBroken, UserError, IndexError), match=told):
        law(cls, Setting("denoiser", SHAPE))


def test_every_law_is_broken_by_something():
    assert set(LAWS["denoiser"]) == {law for law, _, _ in BROKEN}


@pytest.mark.parametrize("cls", [Network, Points])
def test_a_plain_network_keeps_all(cls):
    verdicts = list(examine(cls, Setting("denoiser", SHAPE)))
    assert [(v.outcome, v.found) for v in verdicts] == [("ok", "")] * len(LAWS["denoiser"])
