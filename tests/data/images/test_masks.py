"""Holes: their sizes by hand, their places by index, and what they leave."""

import numpy as np
import pytest
import torch
from support.draws import normal

from lit_gen.core.errors import UserError
from lit_gen.data.images.degradations import Rows
from lit_gen.data.images.masks import Box, Center, FreeForm, Half, Holes

ALL = [Center(), Box(0.4), Half("left"), FreeForm()]
every_mask = pytest.mark.parametrize("mask", ALL, ids=lambda m: type(m).__name__)


def rows(*indices, **names):
    return Rows(0, "val", torch.tensor(indices), **names)


def test_rectangles_by_hand():
    def picture(mask):
        return ["".join(".#"[int(hidden)] for hidden in line) for line in mask.hole(np.random.default_rng(0), 5, 6)]

    assert picture(Center(0.5)) == ["......", ".###..", ".###..", "......", "......"]
    assert picture(Half("bottom")) == ["......"] * 3 + ["######"] * 2
    assert picture(Half("right")) == ["...###"] * 5
    assert picture(Half("top")) == ["######"] * 2 + ["......"] * 3
    assert sum(line.count("#") for line in picture(Box(0.4))) == 4


def test_a_box_is_at_every_place():
    places = {tuple(np.argwhere(Box(0.5).hole(np.random.default_rng(i), 4, 4))[0]) for i in range(300)}
    assert places == {(y, x) for y in range(3) for x in range(3)}


@every_mask
def test_what_is_hidden_is_zero_and_the_rest_is_as_it_was(mask):
    x = normal(5, 3, 28, 31).float()
    seen = Holes(mask)(x, rows(0, 1, 2, 3, 4))
    assert seen.mask.shape == (5, 1, 28, 31)
    assert set(seen.mask.unique().tolist()) == {0, 1}
    assert torch.equal(seen.images, torch.where(seen.mask > 0, torch.zeros(()), x))
    assert all(0 < share < 1 for share in seen.mask.flatten(1).mean(1).tolist())


@every_mask
def test_a_hole_depends_on_the_index_only(mask):
    x, holes = torch.zeros(3, 1, 28, 28), Holes(mask)
    found = holes(x, rows(4, 70, 2)).mask
    assert torch.equal(holes(x[:1], rows(70)).mask, found[1:2])
    random = not isinstance(mask, Center | Half)
    assert torch.equal(found[0], found[1]) is not random
    assert torch.equal(holes(x, rows(4, 70, 2, step=1)).mask, found) is not random


def test_free_forms_hide_more_with_more_strokes():
    def share(mask):
        return Holes(mask)(torch.zeros(64, 1, 32, 32), rows(*range(64))).mask.mean().item()

    few, many = share(FreeForm(1, 2)), share(FreeForm(8, 10, 0.3, 0.2))
    assert 0.005 < few < many / 4 < 0.2


def test_what_hides_everything_is_refused():
    with pytest.raises(UserError, match=r"mask: center 0\.9 hides a whole image of 1x1 pixels"):
        Holes(Center(0.9))(torch.zeros(1, 1, 1, 1), rows(0))
    with pytest.raises(UserError, match=r"mask: free form .* hides a whole image of 1x1"):
        Holes(FreeForm())(torch.zeros(1, 1, 1, 1), rows(0))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: Center(1), r"mask\.share: 1 was found, a number between 0 and 1"),
        (lambda: Box(0), r"mask\.share: 0"),
        (lambda: Half("up"), r"mask\.side: 'up' was found, left, right, top or bottom"),
        (lambda: FreeForm(strokes=0), r"mask\.strokes: 0"),
        (lambda: FreeForm(brush=2), r"mask\.brush: 2"),
    ],
)
def test_options_out_of_range_are_refused(call, told):
    with pytest.raises(UserError, match=told):
        call()
