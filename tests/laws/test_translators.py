"""The laws of networks from images to images: ours keep them, and each is broken by a network with one mistake."""

import pytest
from support.image_networks import BOUNDED, UNBOUNDED, built
from torch import nn

from lit_gen.laws import translators as laws
from lit_gen.laws.base import LawBroken, seeded
from lit_gen.laws.examine import LAWS, Setting, examine

SETTING = Setting("translator", (2, 9, 12))
OURS = {name: case for name, case in (BOUNDED | UNBOUNDED).items() if name != "srresnet-8"}  # which takes a second


@pytest.mark.parametrize("case", OURS.values(), ids=OURS)
def test_ours_keep_all(case):
    verdicts = list(examine(lambda: built(case, 2), SETTING))
    assert [(v.outcome, v.found) for v in verdicts] == [("ok", "")] * len(LAWS["translator"])


class Small(nn.Module):
    """One convolution, then pixels repeated."""

    multiple, scale, radius = 2, 2, 1

    def __init__(self, kernel=3):
        super().__init__()
        self.kernel = kernel
        self.conv = nn.Conv2d(2, 3, kernel, padding=kernel // 2)

    def forward(self, x):
        return self.conv(x).repeat_interleave(2, 2).repeat_interleave(2, 3)


class Halved(Small):
    scale = 1


class WithoutRadius(Small):
    radius = "far"


class OfFractions(Small):
    multiple = 0.5


class OfVectors(Small):
    def forward(self, x):
        return super().forward(x).flatten(1)


class Infinite(Small):
    def forward(self, x):
        return super().forward(x) / 0


class Wide(Small):
    def __init__(self):
        super().__init__(5)


class Long(Small):
    """Sees more rows, not columns."""

    def forward(self, x):
        return super().forward(x + x.roll(3, 2))


class Everywhere(Small):
    radius = None

    def forward(self, x):
        return super().forward(x - x.mean([2, 3], keepdim=True))


BROKEN = [
    (Halved, "output", r"images for a source of 10x12 of shape \(1, 3, 20, 24\) were found, \(1, 3, 10, 12\) is"),
    (WithoutRadius, "output", "radius = far was found, a number of at least 0, or None where a pixel depends on the"),
    (OfFractions, "output", "multiple = 0.5 was found, a number of at least 1 is expected"),
    (OfVectors, "output", r"\(1, 1440\) was returned, images \(B, C, H, W\) are expected"),
    (Infinite, "output", "NaN or infinity"),
    (Wide, "radius", r"radius = 1 was found, but output pixel \(0, 0\) depends on source rows further away"),
    (Long, "radius", r"radius = 1 was found, but output pixel \(\d+, \d+\) depends on source rows further away"),
]


@pytest.mark.parametrize("cls", [Small, Everywhere])
def test_a_small_one_keeps_all(cls):
    assert {v.outcome for v in examine(cls, SETTING)} == {"ok"}


@pytest.mark.parametrize(("cls", "law", "said"), BROKEN)
def test_a_mistake_is_found(cls, law, said):
    with seeded(), pytest.raises(LawBroken, match=said):
        getattr(laws, law)(cls, SETTING)


def test_a_radius_that_no_image_holds_is_taken_on_trust():
    class Far(Small):
        radius = 10**6

    with seeded():
        laws.radius(Far, SETTING)
