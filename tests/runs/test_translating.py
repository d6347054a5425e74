"""Images through a run that is opened in a notebook, and what is no image or mask of it."""

from pathlib import Path

import pytest
import torch
from support.draws import normal
from support.langevin import Langevin, Score
from support.translator import Scale, Translator

from lit_gen.core.errors import UserError
from lit_gen.runs.opened import Run

IMAGES = normal(2, 1, 6, 5).float().clamp(-1, 1)
HOLES = torch.zeros(2, 1, 6, 5)
HOLES[:, :, 2:4] = 1


def opened(**options):
    return Run(Path("x.ckpt"), Translator(Scale(-0.5), **options).eval())


def test_images_are_changed_with_the_options_that_are_given():
    run = opened(factor=2)
    made = run.translate(IMAGES, weights="raw", tile=3, border=1)
    assert torch.equal(made, -0.5 * IMAGES.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert run.translate(3 * IMAGES).abs().max() > 1, "noise goes beyond [-1, 1]"
    assert run.model.calls == [
        ((2, 1, 6, 5), "raw", 3, 1, False, False),
        ((2, 1, 6, 5), "ema", None, None, False, False),
    ]
    assert not made.requires_grad


@pytest.mark.parametrize("kind", [torch.float32, torch.bool, torch.uint8, torch.int64])
def test_holes_are_filled_in_whatever_the_masks_type(kind):
    made = opened(masked=True).translate(IMAGES, mask=HOLES.to(kind))
    assert torch.equal(made, torch.where(HOLES > 0, 1.0, -0.5 * IMAGES))


@pytest.mark.parametrize(
    ("told", "options", "images", "asked"),
    [
        ("images: a list was found, float (n, C, h, w) in [-1, 1] is expected", {}, [1], {}),
        ("images: uint8 (2, 1, 6, 5) was found, float", {}, IMAGES.byte(), {}),
        ("images: float32 (1, 6, 5) was found, float", {}, IMAGES[0], {}),
        ("images: float32 (0, 1, 6, 5) was found, float", {}, IMAGES[:0], {}),
        ("images: float32 (2, 3, 6, 5) was found, 1 channels are", {}, IMAGES.expand(-1, 3, -1, -1), {}),
        ("images: values from 0 to 255 were found", {}, torch.tensor([0.0, 255]).expand(1, 1, 2, 2), {}),
        ("images: values from nan to nan were found", {}, IMAGES * torch.nan, {}),
        ("tile: 0 was found, a whole number of at least 1", {}, IMAGES, {"tile": 0}),
        ("border: -1 was found, a whole number of at least 0", {}, IMAGES, {"tile": 2, "border": -1}),
        ("border: 2 pixels around each tile were asked for; tile is", {}, IMAGES, {"border": 2}),
        ("mask: the model was trained without holes", {}, IMAGES, {"mask": HOLES}),
        ("mask: the model fills in holes; (n, 1, h, w) is expected", {"masked": True}, IMAGES, {}),
        ("mask: float32 (1, 1, 6, 5) was found, zeros and ones", {"masked": True}, IMAGES, {"mask": HOLES[:1]}),
        ("mask: float32 (2, 1, 6, 5) was found, zeros and ones", {"masked": True}, IMAGES, {"mask": HOLES / 2}),
        ("mask: it hides a whole image", {"masked": True}, IMAGES, {"mask": torch.ones_like(HOLES)}),
    ],
)
def test_what_is_no_image_or_mask_of_the_model_is_refused(told, options, images, asked):
    run = opened(**options)
    with pytest.raises(UserError) as found:
        run.translate(images, **asked)
    assert told in str(found.value)
    assert run.model.calls == []


def test_other_models_say_what_they_do():
    run = Run(Path("x.ckpt"), Langevin(Score((1, 2, 2))))
    with pytest.raises(UserError, match=r"x\.ckpt: Langevin changes no images, it draws them: lit-gen sample RUN"):
        run.translate(IMAGES)
    with pytest.raises(UserError, match="Translator does not draw images; it changes them: lit-gen transform RUN"):
        opened().sample(3)
    with pytest.raises(UserError, match=r"x\.ckpt: Linear changes no images$"):
        Run(Path("x.ckpt"), torch.nn.Linear(1, 1)).translate(IMAGES)
