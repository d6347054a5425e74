"""Augmentations: their laws, the closed form of every transform, ADA's controller and a golden picture of each.

Record the pictures anew, after a change that is meant to change them:  python tests/models/adversarial/test_augment.py
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_gen.core.errors import UserError
from lit_gen.core.images import grid, quantize, save_png
from lit_gen.core.randomness import Rows
from lit_gen.models.adversarial import ada, augment, warp
from lit_gen.models.adversarial.ada import ADA
from lit_gen.models.adversarial.augment import Augmentation, DiffAugment, Identity, InstanceNoise
from lit_gen.training.hparams import describe

GOLDEN = Path(__file__).parents[2] / "golden"
CPU = torch.device("cpu")
EACH = {
    "identity": Identity,
    "color": lambda: DiffAugment("color"),
    "translation": lambda: DiffAugment("translation"),
    "cutout": lambda: DiffAugment("cutout"),
    "diffaugment": DiffAugment,
    "instance_noise": InstanceNoise,
    "ada": lambda: ADA(target=None, initial_p=1.0),
    "ada_half": lambda: ADA(target=None, initial_p=0.5),
}
GOLDENS = {"diffaugment": ("diffaugment", 3), "ada": ("ada", 3), "ada_half": ("ada_half", 3), "ada_grey": ("ada", 1)}
each = pytest.mark.parametrize("name", EACH)


def rows(step=0, part=0, parts=1, purpose="augment"):
    return Rows(CPU, 0, purpose, step, part, parts)


def images(*shape, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=dtype) * 2 - 1


def value(*numbers):
    return torch.tensor(numbers, dtype=torch.float32)


# Laws


def test_every_augmentation_is_put_through_the_laws():
    classes = [*vars(augment).values(), *vars(ada).values()]
    found = {c for c in classes if isinstance(c, type) and issubclass(c, Augmentation)}
    assert found - {Augmentation} == {type(make()) for make in EACH.values()}


@each
@pytest.mark.parametrize("shape", [(4, 3, 16, 16), (3, 1, 9, 14), (1, 3, 2, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_shape_type_and_finiteness(name, shape, dtype):
    x = images(*shape).to(dtype)
    y = EACH[name]()(x, rows())
    assert (y.shape, y.dtype, y.device) == (x.shape, x.dtype, x.device)
    assert y.isfinite().all()


@each
def test_draws_are_named(name):
    x, module = images(8, 3, 16, 16), EACH[name]()
    assert torch.equal(module(x, rows()), module(x, rows()))
    for other in (rows(step=1), rows(purpose="other")):
        assert torch.equal(module(x, rows()), module(x, other)) == (name == "identity")


@each
def test_parts_of_a_batch_make_the_whole(name):
    x, module = images(8, 3, 16, 16), EACH[name]()
    parts = [module(half, rows(part=i, parts=2)) for i, half in enumerate(x.chunk(2))]
    torch.testing.assert_close(torch.cat(parts), module(x, rows()), rtol=0, atol=1e-6)


@each
def test_images_do_not_mix(name):
    x, module = images(4, 3, 8, 8), EACH[name]()
    changed = x.clone()
    changed[2] = 0.25
    same = [i for i in range(4) if torch.equal(module(x, rows())[i], module(changed, rows())[i])]
    assert same == [0, 1, 3]


@each
@pytest.mark.parametrize("channels", [1, 3])
def test_differentiable_twice(name, channels):
    x, module = images(2, channels, 6, 6, dtype=torch.float64).requires_grad_(), EACH[name]()
    assert torch.autograd.gradcheck(lambda t: module(t, rows()), x)

    def curved(t):
        return module(t, rows()).square()

    assert torch.autograd.gradgradcheck(curved, x, fast_mode=True)  # along random directions, not each pixel by itself


@each
def test_a_penalty_passes_through(name):
    """R1 through the augmentation: the weights' gradient of a gradient's norm."""
    x = images(4, 3, 8, 8).requires_grad_()
    weight = images(3, 8, 8).requires_grad_()
    logits = (EACH[name]()(x, rows()) * weight).flatten(1).sum(1).tanh()
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert weight.grad.isfinite().all()
    assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize("make", [Identity, lambda: DiffAugment(""), lambda: ADA()])
@pytest.mark.parametrize("channels", [1, 3])
def test_no_transform_is_bit_equal(make, channels):
    x = images(5, channels, 17, 12)
    assert torch.equal(make()(x, rows()), x)


@pytest.mark.parametrize("make", [DiffAugment, lambda: ADA(target=0.5, initial_p=0.25)])
def test_a_checkpoint_can_rebuild_it(make):
    described = describe(make(), "model.augment")
    assert described["class_path"].startswith("lit_gen.models.adversarial.a")
    again = type(make())(**described["init_args"])
    assert describe(again, "model.augment") == described


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"augment\.policy: 'colour' .* did you mean 'color'\?"):
        DiffAugment("colour,cutout")
    for option, wrong in (("translation", -0.1), ("cutout", 1.5), ("cutout", math.nan)):
        with pytest.raises(UserError, match=rf"augment\.{option}: {wrong}"):
            DiffAugment(**{option: wrong})
    for option, wrong in (("target", 2.0), ("speed_kimg", 0.0), ("interval", 0), ("initial_p", 1.5)):
        with pytest.raises(UserError, match=rf"augment\.{option}: {wrong}"):
            ADA(**{option: wrong})
    for module in (DiffAugment(), ADA()):
        with pytest.raises(UserError, match=r"augment: images of .*; not points, as \(2, 1, 1\)"):
            module(images(4, 2, 1, 1), rows())
    with pytest.raises(UserError, match=r"augment: images of 1 or 3 channels .* 4 were found"):
        ADA()(images(4, 4, 8, 8), rows())


# DiffAugment


def test_color_by_hand():
    x, found, draws = images(6, 3, 5, 7), DiffAugment("color")(images(6, 3, 5, 7), rows()), rows()
    b, s, c = (draws.uniform(6, 1, 1, 1).flatten().numpy() for _ in range(3))
    for i, image in enumerate(x.numpy().astype(np.float64)):
        image = image + b[i] - 0.5
        mean = image.mean(0)
        image = mean + (image - mean) * 2 * s[i]
        image = image.mean() + (image - image.mean()) * (c[i] + 0.5)
        np.testing.assert_allclose(found[i].numpy(), image, atol=1e-5)


def test_translation_shifts_by_whole_pixels_and_zeros_come_in():
    x = images(400, 2, 16, 8) + 3  # no pixel is zero
    y, u = DiffAugment("translation")(x, rows()), rows().uniform(400, 2)
    seen = set()
    for before, after, (a, b) in zip(x, y, u.tolist(), strict=True):
        down, right = math.floor(a * 5) - 2, math.floor(b * 3) - 1
        wanted = torch.zeros_like(before)
        for i in range(16):
            for j in range(8):
                if 0 <= i - down < 16 and 0 <= j - right < 8:
                    wanted[:, i, j] = before[:, i - down, j - right]
        assert torch.equal(after, wanted)
        seen.add((down, right))
    assert seen == {(i, j) for i in range(-2, 3) for j in range(-1, 2)}


@pytest.mark.parametrize(("size", "cut"), [(16, 8), (15, 8), (14, 7)])
def test_cutout_is_a_square_of_half_the_size(size, cut):
    x = images(600, 2, size, size) + 3
    y = DiffAugment("cutout")(x, rows())
    kept = y != 0
    assert torch.equal(y[kept], x[kept])
    assert torch.equal(kept[:, 0], kept[:, 1])
    areas = set()
    for hole in ~kept[:, 0]:
        row, column = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        height, width = int(row[-1] - row[0]) + 1, int(column[-1] - column[0]) + 1
        assert hole.sum() == height * width  # a full rectangle
        assert cut // 2 <= min(height, width) <= max(height, width) <= cut
        for at, length in ((row, height), (column, width)):  # smaller only at a border
            assert length == cut or at[0] == 0 or at[-1] == size - 1
        areas.add(height * width)
    assert max(areas) == cut**2


def test_policies_keep_their_order():
    x = images(4, 3, 16, 16)
    assert not torch.equal(DiffAugment("cutout,color")(x, rows()), DiffAugment("color,cutout")(x, rows()))
    assert torch.equal(DiffAugment(" color , cutout")(x, rows()), DiffAugment("color,cutout")(x, rows()))


# ADA's transforms

one = value(1.0, 1.0)


def test_flip_is_exact():
    x = images(2, 3, 7, 10)
    assert torch.equal(warp.resample(x, warp.inverse_scaling(-one, one)), x.flip(-1))
    assert torch.equal(warp.resample(x, warp.inverse_scaling(one, -one)), x.flip(-2))


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_quarter_turns_are_exact(size, turns):
    x, wanted = images(2, 3, size, size), torch.rot90(images(2, 3, size, size), turns, (2, 3))
    assert torch.equal(warp.resample(x, warp.inverse_turns(turns * one)), wanted)
    by_angle = warp.resample(x, warp.inverse_rotation(turns * math.pi / 2 * one))
    torch.testing.assert_close(by_angle, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("right", "down"), [(3, 0), (-2, 0), (0, 4), (2, -3), (25, 40)])
def test_whole_shifts_reflect_at_the_borders(right, down):
    x = images(2, 3, 9, 12)
    mirrored = np.pad(x.numpy(), ((0, 0), (0, 0), (40, 40), (40, 40)), mode="reflect")
    wanted = mirrored[:, :, 40 - down : 49 - down, 40 - right : 52 - right]
    found = warp.resample(x, warp.inverse_translation(right * one, down * one))
    np.testing.assert_array_equal(found.numpy(), wanted)


def test_fractions_are_bilinear():
    ramp = torch.arange(8.0).expand(2, 1, 8, 8)
    moved = warp.resample(ramp, warp.inverse_translation(0.25 * one, 0 * one))
    torch.testing.assert_close(moved[..., 1:], ramp[..., 1:] - 0.25)
    wide = warp.resample(ramp, warp.inverse_scaling(2 * one, one))
    torch.testing.assert_close(wide, 3.5 + (ramp - 3.5) / 2)


def test_resampling_is_grid_sample_up_to_the_border():
    x = images(8, 3, 12, 12)
    inverse = ADA(initial_p=1.0)._geometry(rows(), 8, 12, 12)
    size = warp.inverse_scaling(value(*[6.0] * 8), value(*[6.0] * 8))  # grid_sample counts in halves of the side
    normal = warp.compose(warp.compose(size, inverse), torch.linalg.inv(size))
    field = torch.nn.functional.affine_grid(normal[:, :2], [8, 3, 12, 12], align_corners=False)
    wanted = torch.nn.functional.grid_sample(x, field, align_corners=False)
    inside = (field.abs() <= 1 - 1 / 12).all(-1)[:, None].expand_as(x)
    assert 100 < inside.sum() < inside.numel()
    torch.testing.assert_close(warp.resample(x, inverse)[inside], wanted[inside], rtol=0, atol=2e-5)


def test_composition_is_in_order():
    x = images(2, 3, 8, 8)
    turn, move = warp.inverse_turns(one), warp.inverse_translation(2 * one, 0 * one)
    together = warp.resample(x, warp.compose(turn, move))
    assert torch.equal(together, warp.resample(warp.resample(x, turn), move))


def test_geometry_at_full_strength():
    """Area 4^N(0, 0.2^2), shifts of the size asked for, and nothing at p = 0."""
    inverse = ADA(initial_p=1.0)._geometry(rows(), 20_000, 64, 32)
    linear = inverse[:, :2, :2]
    area = -torch.linalg.det(linear).abs().log2()
    assert area.mean().abs() < 0.02
    assert area.std() == pytest.approx(2 * 0.2, rel=0.05)
    stretch = torch.linalg.svdvals(linear).log2()
    assert (stretch[:, 0] - stretch[:, 1]).square().mean().sqrt() == pytest.approx(2 * 0.2, rel=0.05)
    flipped = torch.linalg.det(linear) < 0
    assert flipped.float().mean() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(ADA()._geometry(rows(), 3, 8, 8), torch.eye(3).expand(3, 3, 3))


def test_drawn_shifts_have_the_papers_size():
    """With all else off, by the drawn uniforms, the shift is U(-1/8, 1/8) in whole pixels plus N(0, (1/8)^2)."""
    inverse = ADA(initial_p=1.0)._geometry(rows(), 20_000, 64, 32)
    # undo the linear part: the output's position of the input's center
    at = torch.linalg.solve(inverse[:, :2, :2], -inverse[:, :2, 2:])[:, :, 0]
    scale = math.exp((2 * 0.2 * math.log(2)) ** 2 / 2 + (2 * 0.2 * math.log(2)) ** 2 / 2)  # E of squared factors
    for axis, size in ((0, 32), (1, 64)):
        whole = ((2 * 0.125) ** 2 / 12) * size**2  # rotated: shared between the axes
        other = ((2 * 0.125) ** 2 / 12) * (96 - size) ** 2
        variance = (0.125 * size) ** 2 + scale * (whole + other) / 2
        assert at[:, axis].var() == pytest.approx(variance, rel=0.05)


def test_each_transform_happens_with_p():
    p = 0.3
    inverse = ADA(initial_p=p)._geometry(rows(), 20_000, 64, 64)
    moved = (inverse - torch.eye(3)).abs().amax((1, 2)) > 1e-6
    # flips and turns leave the image as it is in 1/2 and 1/4 of the cases, a whole shift in about (1/16)^2
    still = (1 - p / 2) * (1 - 0.75 * p) * (1 - p * (1 - 1 / 256)) * (1 - p) ** 4
    assert 1 - moved.float().mean() == pytest.approx(still, abs=0.01)
    color = ADA(initial_p=p)._color(rows(), 20_000, 3)
    changed = (color - torch.eye(4)).abs().amax((1, 2)) > 1e-6
    assert 1 - changed.float().mean() == pytest.approx((1 - p / 2) * (1 - p) ** 4, abs=0.01)


def test_neutral_colors_are_exact():
    for matrix in (
        warp.brightness(0 * one),
        warp.contrast(one),
        warp.luma_flip(0 * one),
        warp.hue_rotation(0 * one),
        warp.saturation(one),
    ):
        assert torch.equal(matrix, torch.eye(4).expand(2, 4, 4))


def test_colors_in_closed_form():
    x = images(2, 3, 4, 5)
    apply = warp.recolor
    close = {"rtol": 0, "atol": 1e-6}
    luma = x.mean(1, keepdim=True)
    torch.testing.assert_close(apply(x, warp.brightness(0.3 * one)), x + 0.3, **close)
    torch.testing.assert_close(apply(x, warp.contrast(1.7 * one)), x * 1.7, **close)
    torch.testing.assert_close(apply(x, warp.saturation(2.5 * one)), luma + (x - luma) * 2.5, **close)
    torch.testing.assert_close(apply(x, warp.saturation(0 * one)), luma.expand_as(x), **close)
    flipped = apply(x, warp.luma_flip(one))
    torch.testing.assert_close(flipped, x - 2 * luma, **close)
    torch.testing.assert_close(apply(flipped, warp.luma_flip(one)), x, **close)
    third = warp.hue_rotation(2 * math.pi / 3 * one)
    torch.testing.assert_close(apply(x, third), x.roll(1, 1), **close)  # red becomes green
    turned = apply(x, warp.hue_rotation(0.7 * one))
    torch.testing.assert_close(turned.mean(1, keepdim=True), luma, **close)
    torch.testing.assert_close(turned.norm(dim=1), x.norm(dim=1), **close)
    torch.testing.assert_close(apply(turned, warp.hue_rotation(-0.7 * one)), x, **close)


def test_one_channel_is_the_mean_of_grey():
    """As the authors' code: the mean over R, G and B of what a grey image becomes."""
    x, color = images(6, 1, 4, 4), ADA(initial_p=1.0)._color(rows(), 6, 1)
    grey = warp.recolor(x.expand(6, 3, 4, 4), color).mean(1, keepdim=True)
    torch.testing.assert_close(warp.recolor(x, color), grey, rtol=0, atol=1e-5)
    torch.testing.assert_close(warp.recolor(x[:2], warp.luma_flip(one)), -x[:2], rtol=0, atol=1e-6)


def test_drawn_colors_have_the_papers_strength():
    module = ADA(initial_p=1.0)
    grey = module._color(rows(), 20_000, 1)  # brightness, then contrast, then luma flip
    strong = grey[:, :3, :3].sum(2).mean(1)
    shift = grey[:, 0, 3] / strong.abs()
    assert (strong < 0).float().mean() == pytest.approx(0.5, abs=0.02)
    assert strong.abs().log2().std() == pytest.approx(0.5, rel=0.05)
    assert shift.std() == pytest.approx(0.2, rel=0.05)
    chroma = module._color(rows(), 20_000, 3)[:, :3, :3]
    red = chroma[:, :, 0] - chroma[:, :, 1]  # what (1, -1, 0), without luma, becomes
    size = (red.norm(dim=1) / math.sqrt(2)).log2()  # contrast and saturation
    assert size.std() == pytest.approx(math.hypot(0.5, 1.0), rel=0.05)
    hue = torch.atan2((red[:, 1] * 2 - red[:, 0] - red[:, 2]) / math.sqrt(3), red[:, 0] - red[:, 2])
    counts = torch.histc(hue, 8, -math.pi, math.pi)
    assert counts.min() > 0.9 * 20_000 / 8


# ADA's controller


def test_step_and_sign():
    module = ADA(target=0.6, speed_kimg=1, interval=2, initial_p=0.5)
    found = []
    for update, sign in enumerate((0.8, 0.5, 0.8, 0.3, 0.6, 0.6), start=1):
        module.observe(torch.tensor(sign), 16, update)
        found.append(round(float(module.p), 6))
    step = 16 * 2 / 1000  # mean signs 0.65 and 0.55, then exactly the target
    assert found == pytest.approx([0.5, 0.5 + step, 0.5 + step, 0.5, 0.5, 0.5], abs=1e-6)


@pytest.mark.parametrize(("sign", "end"), [(1.0, 1.0), (-1.0, 0.0)])
def test_clamped_and_at_the_papers_speed(sign, end):
    module, kimg = ADA(initial_p=0.5), 0.0
    while float(module.p) != end:
        module.observe(torch.tensor(sign), 5000, int(kimg / 5) + 1)
        kimg += 5
    assert kimg == pytest.approx(250, abs=20)  # half of the 500 that the whole way takes
    for update in range(1, 9):
        module.observe(torch.tensor(sign), 5000, update)
    assert float(module.p) == end


@pytest.mark.parametrize("stop", range(1, 9))
def test_resumes_in_the_middle_of_an_interval(stop):
    def run(module, updates):
        for update in updates:
            module.observe(torch.tensor(math.sin(update * 1.7)), 30 + update, update)

    whole, first, second = (ADA(target=0.1, speed_kimg=1, interval=3, initial_p=0.4) for _ in range(3))
    run(whole, range(1, 10))
    run(first, range(1, stop + 1))
    second.load_state_dict(first.state_dict())
    run(second, range(stop + 1, 10))
    assert whole.state_dict().keys() == {"p", "sign_sum", "image_sum"}
    assert all(torch.equal(whole.state_dict()[k], second.state_dict()[k]) for k in whole.state_dict())
    assert whole.p != 0.4


def test_without_a_target_p_stays_for_a_schedule_to_fill():
    module = ADA(target=None, initial_p=0.25, interval=1)
    module.observe(torch.tensor(1.0), 10_000, 1)
    assert module.p == 0.25
    module.p.fill_(0.0)
    assert torch.equal(module(images(2, 3, 4, 4), rows()), images(2, 3, 4, 4))


# Pictures


def picture(name):
    """A grid of a ramp with a disc, first as it is, then augmented 15 times."""
    make, channels = GOLDENS[name]
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    scene = torch.stack([0.8 * x, 0.8 * y, torch.full_like(x, -0.5)])
    scene = torch.where((x + 0.3) ** 2 + (y + 0.3) ** 2 < 0.15, torch.tensor([0.9, 0.8, 0.2])[:, None, None], scene)
    scene = scene[None] if channels == 3 else scene.mean(0)[None, None]
    augmented = EACH[make]()(scene.expand(15, -1, -1, -1), rows())
    return grid(quantize(torch.cat([scene, augmented])), columns=4)


@pytest.mark.parametrize("name", GOLDENS)
def test_golden_picture(name):
    golden = torch.from_numpy(np.array(Image.open(GOLDEN / f"augment_{name}.png")).astype(int))
    golden = golden[None] if golden.ndim == 2 else golden.movedim(2, 0)
    assert (picture(name).int() - golden).abs().max() <= 2


def test_instance_noise_is_normal_noise():
    still = torch.zeros(64, 2, 1, 1)
    noisy = InstanceNoise(0.3)(still, rows())
    assert torch.equal(noisy, 0.3 * rows().normal(64, 2, 1, 1))
    assert torch.equal(InstanceNoise(0.0)(still, rows()), still)
    with pytest.raises(UserError, match=r"augment.sigma: -1 was found"):
        InstanceNoise(-1)


if __name__ == "__main__":
    for golden_name in GOLDENS:
        save_png(picture(golden_name), GOLDEN / f"augment_{golden_name}.png")
