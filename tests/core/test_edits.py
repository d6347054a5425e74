"""Images to be changed: in the rows of the samples that are asked for, whatever company they are drawn in."""

import pytest
import torch
from support.draws import normal
from support.editor import Editor
from support.langevin import Langevin, Score

from lit_gen.core.errors import UserError

SHAPE = (2, 3, 4)


@pytest.fixture(scope="module")
def editor():
    return Editor(Score(SHAPE))


def images(count):
    return normal(count, *SHAPE).float().clamp(-1, 1)


def test_every_sample_is_of_its_own_image(editor):
    indices, given = torch.tensor([129, 3, 3, 70]), images(4)
    drawn = editor.sample(indices, images=given, strength=0.25)
    noise = editor.sample(indices, strength=1.0)
    torch.testing.assert_close(drawn, 0.75 * given + 0.25 * noise)
    assert torch.equal(drawn[2:3], editor.sample(indices[2:3], images=given[2:3], strength=0.25))


def test_one_image_is_of_all_samples_each_with_its_noise(editor):
    one = editor.sample(torch.arange(70), images=images(1))
    each = editor.sample(torch.arange(70), images=images(1).expand(70, -1, -1, -1))
    assert torch.equal(one, each)
    assert not torch.isclose(one[0], one[1]).all()


def test_a_mask_says_where(editor):
    mask = torch.zeros(2, 1, 3, 4)
    mask[0, :, 1], mask[1] = 1, 1
    drawn = editor.sample(torch.arange(2), images=images(1), mask=mask)
    free = editor.sample(torch.arange(2), images=images(1))
    assert torch.equal(drawn, torch.where(mask > 0, free, images(1)))
    same = editor.sample(torch.arange(2), images=images(1), mask=mask[:1])
    assert torch.equal(same[0], drawn[0])
    assert torch.equal(same[1], torch.where(mask[0] > 0, free[1], images(1)[0]))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"mask": torch.ones(1, 1, 3, 4)}, "mask: it was found without images"),
        ({"images": torch.zeros(3, *SHAPE)}, r"images: float32 \(3, 2, 3, 4\) was found, floats \(2, 2, 3, 4\) or "),
        ({"images": torch.zeros(1, 2, 4, 3)}, r"images: float32 \(1, 2, 4, 3\) was found"),
        ({"images": torch.zeros(1, *SHAPE, dtype=torch.uint8)}, r"images: uint8 .* floats"),
        ({"images": torch.full((1, *SHAPE), 1.5)}, r"images: numbers from 1.5 to 1.5 were found, \[-1.0, 1.0\]"),
        ({"images": torch.full((1, *SHAPE), torch.nan)}, "images: numbers from nan"),
        ({"images": torch.zeros(1, *SHAPE), "mask": torch.ones(1, 2, 3, 4)}, r"mask: .* \(1, 1, 3, 4\) are expected"),
        ({"images": torch.zeros(1, *SHAPE), "mask": -torch.ones(1, 1, 3, 4)}, "mask: numbers from -1 to -1"),
    ],
)
def test_what_is_no_edit_is_refused(editor, given, told):
    with pytest.raises(UserError, match=told):
        editor.sample(torch.arange(2), **given)


def test_a_model_that_edits_nothing_says_so():
    with pytest.raises(UserError, match="images: this model edits no images, it only draws new ones"):
        Langevin(Score(SHAPE)).sample(torch.arange(2), images=torch.zeros(1, *SHAPE))
