"""The laws of networks from images to images: ours keep them, and each is broken by a network with one mistake."""

import pytest
import torch
from support.image_networks import BOUNDED, UNBOUNDED, built
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.laws import translators as laws
from lit_gen.laws.base import LawBroken, seeded
from lit_gen.laws.examine import LAWS, Setting, examine
from lit_gen.models.image_to_image.patchgan import PatchGAN

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


class Spare(Small):
    def __init__(self):
        super().__init__()
        self.spare = nn.Parameter(torch.ones(1))


class Comparing(Small):
    def forward(self, x):
        return super().forward(x - x.mean(0))


class Noisy(Small):
    def forward(self, x):
        return super().forward(x + torch.randn_like(x))


class Forgetful(Small):
    def __init__(self, kernel=3):
        super().__init__(kernel)
        del self.kernel


class NotCopied(Small):
    def __deepcopy__(self, memo):
        return self


BROKEN = [
    (laws.output, Halved, r"images for a source of 10x12 of shape \(1, 3, 20, 24\) were found, \(1, 3, 10, 12\) is"),
    (
        laws.output,
        WithoutRadius,
        "radius = far was found, a number of at least 0, or None where a pixel depends on the",
    ),
    (laws.output, OfFractions, "multiple = 0.5 was found, a number of at least 1 is expected"),
    (laws.output, OfVectors, r"\(1, 1440\) was returned, images \(B, C, H, W\) are expected"),
    (laws.output, Infinite, "NaN or infinity"),
    (laws.radius, Wide, r"radius = 1 was found, but output pixel \(0, 0\) depends on source rows further away"),
    (laws.radius, Long, r"radius = 1 was found, but output pixel \(\d+, \d+\) depends on source rows further away"),
    (laws.gradients, Spare, "spare has no part in the output"),
    (laws.rows, Comparing, "other rows change a sample by"),
    (laws.evaluation, Noisy, "two evaluations of the same input differ"),
    (laws.rebuilding, Forgetful, "does not keep its constructor argument 'kernel'"),
    (laws.copying, NotCopied, "the copy shares 2 parameters with the network"),
]


@pytest.mark.parametrize("cls", [Small, Everywhere])
def test_a_small_one_keeps_all(cls):
    assert {v.outcome for v in examine(cls, SETTING)} == {"ok"}


@pytest.mark.parametrize(("law", "cls", "told"), BROKEN)
def test_it_can_be_broken(law, cls, told):
    with seeded(), pytest.raises((LawBroken, UserError), match=told):
        law(cls, SETTING)


def test_every_law_is_broken_by_something():
    assert set(LAWS["translator"]) == {law for law, _, _ in BROKEN}


@pytest.mark.parametrize("options", [{"receptive": 16, "norm": "none"}, {"receptive": 1, "norm": "instance"}])
def test_a_patch_gan_keeps_those_of_discriminators(options):
    setting = Setting("discriminator", (2, 9, 12))
    verdicts = list(examine(lambda: built((PatchGAN, options)), setting))
    assert [(v.outcome, v.found) for v in verdicts] == [("ok", "")] * len(LAWS["discriminator"])


def test_a_radius_that_no_image_holds_is_taken_on_trust():
    class Far(Small):
        radius = 10**6

    with seeded():
        laws.radius(Far, SETTING)
