"""The training step against closed forms and a hand-written loop."""

import copy
import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.draws import normal
from support.fitting import fit, rows
from support.image_to_image import Fixed, Patches, Small, build
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.core.randomness import Draws
from lit_gen.models.adversarial.ada import ADA
from lit_gen.models.adversarial.augment import DiffAugment
from lit_gen.models.adversarial.penalties import R1
from lit_gen.models.image_to_image.applying import Apart
from lit_gen.models.image_to_image.patchgan import PatchGAN
from lit_gen.models.image_to_image.terms import L1, L2
from lit_gen.training.schedules import Linear

VALUES = torch.tensor([[-0.9, -0.7, 0.8], [-0.2, 0.1, 0.9], [0.0, 0.6, 0.7], [-1.0, 0.2, 0.3]])
"""For each of four sources, three targets that are equally likely."""


class Lookup(nn.Module):
    """One number for each source."""

    multiple, scale, radius = 1, 1, 0

    def __init__(self, count=4):
        super().__init__()
        self.count, self.table = count, nn.Parameter(torch.zeros(count))

    def forward(self, x):
        return self.table[x.round().long()]


@pytest.mark.parametrize(("term", "best"), [(L1(), VALUES.median(1).values), (L2(), VALUES.mean(1))])
def test_l1_ends_in_the_conditional_median_and_l2_in_the_mean(tmp_path, term, best):
    sources = torch.arange(4.0).repeat_interleave(3).view(12, 1, 1, 1)
    data = Fixed([(sources, VALUES.view(12, 1, 1, 1))] * 300)
    rate = {"generator_optimizer.lr": Linear(1.0, 0.0, 300)}
    model = build(Lookup(), 1.0, torch.optim.SGD, reconstruction=[term], schedules=rate)
    fit(model, data, 300, tmp_path, log_every=100)
    assert torch.allclose(model.generator.table, best, atol=4e-3)
    assert (VALUES.median(1).values - VALUES.mean(1)).abs().min() > 0.05  # the two differ


TAPS = 5


def inside(made, target):
    """The squared error where the whole window lies within the signal."""
    return (made - target)[..., TAPS - 1 : 1 - TAPS].square().mean()


class Window(nn.Module):
    """A linear filter: two target samples of the ``taps`` sources around theirs."""

    multiple, scale = 1, 2

    def __init__(self, taps):
        super().__init__()
        self.taps, self.radius = taps, taps // 2
        self.filter = nn.Conv2d(1, 2, (1, taps), padding=(0, taps // 2), bias=False)
        nn.init.zeros_(self.filter.weight)

    def forward(self, x):
        return self.filter(x).permute(0, 2, 3, 1).reshape(len(x), 1, 1, -1)


def test_super_resolution_of_an_autoregressive_signal_reaches_the_linear_minimum(tmp_path):
    rho, pairs = 0.9, 16
    lags = np.abs(np.subtract.outer(np.arange(2 * pairs), np.arange(2 * pairs)))
    covariance = rho**lags  # of unit variance
    area = np.kron(np.eye(pairs), [[0.5, 0.5]])  # a source is the mean of two neighbours
    middle = pairs // 2
    seen = area[middle - TAPS // 2 : middle + TAPS // 2 + 1]
    cross, own = covariance[2 * middle : 2 * middle + 2] @ seen.T, seen @ covariance @ seen.T
    weights = np.linalg.solve(own, cross.T).T  # Wiener's filter
    least = float(np.mean(1 - np.einsum("ij,ij->i", weights, cross)))
    root = torch.from_numpy(np.linalg.cholesky(covariance))
    # draws whose sample covariance is that of the process: the least error is then exact
    drawn = normal(256, 2 * pairs)
    white = drawn @ torch.linalg.inv(torch.linalg.cholesky(drawn.T @ drawn / len(drawn))).T
    signals = white @ root.T
    small = signals @ torch.from_numpy(area).T
    data = Fixed([(small.float()[:, None, None], signals.float()[:, None, None])] * 500)
    rate = {"generator_optimizer.lr": Linear(0.1, 0.0, 500)}
    model = build(Window(TAPS), 0.1, reconstruction=[inside], schedules=rate, channels_last=False)
    fit(model, data, 500, tmp_path, log_every=500, limit_val_batches=1.0)
    found = [row["val/inside"] for row in rows(tmp_path) if "val/inside" in row][-1]
    assert found == pytest.approx(least, rel=1e-4)
    assert torch.allclose(model.generator.filter.weight[:, 0, 0].double(), torch.from_numpy(weights), atol=5e-3)
    repeated = float((signals - small.repeat_interleave(2, 1)).square().mean())
    assert least < 0.9 * repeated


def test_steps_of_pix2pix_equal_a_hand_written_loop(tmp_path):
    """Isola et al.: the discriminator sees source and image; the generator minimizes the game and 100 L1."""
    batches = [tuple(normal(4, 1, 8, 8, seed=2 * i + k).float().tanh() for k in range(2)) for i in range(3)]
    parts = Small(), Patches()
    generator, discriminator = copy.deepcopy(parts)
    model = build(parts[0], discriminator=parts[1], reconstruction=[L1(100)], channels_last=False)
    fit(model, Fixed(batches), 3, tmp_path)
    of_generator, of_discriminator = (torch.optim.Adam(n.parameters(), lr=1e-3) for n in (generator, discriminator))
    for source, target in batches:
        made = generator(source)
        real, fake = discriminator(torch.cat([source, target], 1)), discriminator(torch.cat([source, made.detach()], 1))
        ones, zeros = torch.ones_like(real), torch.zeros_like(fake)
        loss = F.binary_cross_entropy_with_logits(real, ones) + F.binary_cross_entropy_with_logits(fake, zeros)
        of_discriminator.zero_grad()
        loss.backward()
        of_discriminator.step()
        fake = discriminator(torch.cat([source, made], 1))
        loss = F.binary_cross_entropy_with_logits(fake, ones) + 100 * F.l1_loss(made, target)
        of_generator.zero_grad()
        loss.backward()
        of_generator.step()
    for mine, theirs in ((model.generator, generator), (model.discriminator, discriminator)):
        for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-6)


def test_before_the_game_begins_only_the_terms_count(tmp_path):
    pairs = [(normal(4, 1, 8, 8).float(), normal(4, 1, 8, 8, seed=1).float().tanh())]
    plain, late = build(Small()), build(Small(), discriminator=Patches(), adversarial_from=2, regularizers=[R1(1.0)])
    untouched = copy.deepcopy(late.discriminator.state_dict())
    fit(plain, Fixed(pairs), 2, tmp_path / "plain")
    fit(late, Fixed(pairs), 2, tmp_path / "late")
    for a, b in zip(plain.generator.parameters(), late.generator.parameters(), strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(x, untouched[k]) for k, x in late.discriminator.state_dict().items())
    assert not any("generator_loss" in key for row in rows(tmp_path / "late") for key in row)
    playing = build(Small(), discriminator=Patches(), adversarial_from=2, regularizers=[R1(1.0)])
    fit(playing, Fixed(pairs * 3), 3, tmp_path / "playing")
    assert not torch.equal(playing.discriminator.layers[0].weight, untouched["layers.0.weight"])
    assert {"train/generator_loss", "train/discriminator_loss", "train/r1"} <= rows(tmp_path / "playing")[-1].keys()


def test_the_adversarial_weight(tmp_path):
    pairs = [(normal(4, 1, 8, 8).float(), normal(4, 1, 8, 8, seed=1).float().tanh())]
    plain, without = build(Small()), build(Small(), discriminator=Patches(), adversarial_weight=0)
    for model, name in ((plain, "plain"), (without, "without")):
        fit(model, Fixed(pairs), 2, tmp_path / name)
    for a, b in zip(plain.generator.parameters(), without.generator.parameters(), strict=True):
        assert torch.equal(a, b)


def test_known_pixels_are_kept(tmp_path):
    mask = torch.zeros(4, 1, 8, 8)
    mask[:, :, 2:5, 3:6] = 1
    target = normal(4, 1, 8, 8).float().tanh()
    source = target * (1 - mask)
    for keep in (True, False):
        model = build(Small(2), keep_known=keep)
        fit(model, Fixed([(source, target)], mask), 2, tmp_path / str(keep))
        made = model.translate(source, mask=mask)
        assert torch.equal(made * (1 - mask), source) == keep
        assert not torch.equal(made * mask, source * mask)
        assert torch.equal(model.translate(target, mask=mask) * mask, made * mask)  # what is hidden is not seen
    with pytest.raises(UserError, match=r"mask: none was found, but the model fills in holes"):
        model.translate(source)


def test_an_output_does_not_depend_on_the_images_beside_it(tmp_path):
    model = build(Small(norm=nn.BatchNorm2d))
    fit(model, Fixed([(normal(4, 1, 9, 7).float(), normal(4, 1, 9, 7, seed=1).float().tanh())]), 2, tmp_path)
    images = normal(70, 1, 31, 45).float().tanh()
    model.train()
    made = model.translate(images)
    assert made.shape == images.shape
    assert model.generator.training  # modes are left as they were
    assert torch.equal(model.eval().translate(images), made)
    for i in (0, 65, 69):
        assert torch.equal(model.translate(images[i : i + 1])[0], made[i])
    assert torch.allclose(model.translate(images[:2], tile=8), made[:2], atol=1e-5)


@pytest.mark.parametrize("augment", [ADA(initial_p=1.0), DiffAugment()])
@pytest.mark.parametrize("channels", [1, 3])
def test_source_and_image_are_augmented_alike(augment, channels):
    images, mask = normal(4, channels, 16, 16).float().tanh(), torch.ones(4, 1, 16, 16)
    apart = Apart(augment, [channels, 1, channels])
    draws = Draws(0, 0, 0, 1)
    made = apart(torch.cat([images, mask, images], 1), draws.rows("augment", images.device))
    assert torch.equal(made[:, :channels], made[:, channels + 1 :])
    assert torch.equal(made[:, :channels], augment(images, draws.rows("augment", images.device)))
    assert not torch.equal(made[:, :channels], images)


class Wrong(nn.Module):
    """Returns no images, and no logits."""

    scale, radius = 1, 0

    def __init__(self, what, multiple=1):
        super().__init__()
        self.what, self.layer, self.multiple = what, nn.Conv2d(1, 1, 1), multiple

    def forward(self, x):
        x = self.layer(x)
        return {"images": x, "a tuple": (x, x), "numbers": x.mean((1, 2, 3)), "rows": x.flatten(1)}[self.what]


GAME = functools.partial(build, discriminator=Patches())
PAIRS = [(torch.zeros(4, 1, 8, 8), torch.zeros(4, 1, 8, 8))]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: build(reconstruction=[]), r"model\.reconstruction: no term was found"),
        (lambda: build(regularizers=[R1(1.0)]), r"model\.regularizers: it is of a model with a discriminator"),
        (lambda: build(adversarial_from=3), r"model\.adversarial_from: it is of a model with a discriminator"),
        (lambda: GAME(adversarial_weight=-1), r"model\.adversarial_weight: -1 was found"),
        (lambda: build(generator_clip=0), r"model\.generator_clip: 0 was found"),
        (
            lambda: GAME(concatenate=True, discriminator=nn.Sequential(nn.BatchNorm2d(2))),
            r"model\.concatenate: the discriminator has batch norm",
        ),
        (lambda: build(adversarial_weight=2), r"model\.adversarial_weight: it is of a model with a discriminator"),
        (lambda: GAME(discriminator=PatchGAN(1, 1, False, 16, 4)), r"model\.conditional: true was found, but .* false"),
        (lambda: build(reconstruction=[fit]), r"model\.reconstruction: .*takes 4 arguments, two, images made"),
        (lambda: build(Wrong("images", multiple="eight")), r"multiple = 'eight' was found, a whole number"),
        (lambda: build(Small(3)), r"model\.generator"),
        (lambda: build(Small(factor=2)), r"makes images \(1, 16, 16\) of sources \(1, 8, 8\), but the targets are"),
        (lambda: build(Wrong("a tuple")), r"model\.generator: .*Wrong.* returned a tuple, images"),
        (lambda: build(Wrong("numbers")), r"returned float32 \(\d+,\), images"),
        (
            lambda: GAME(discriminator=Patches(5)),
            r"model\.discriminator: .*it was given x \(2, 2, 8, 8\), source and image",
        ),
        (lambda: GAME(discriminator=Wrong("rows"), conditional=False), r"logits \(2,\), or"),
    ],
)
def test_mistakes_are_told_before_the_first_step(tmp_path, make, said):
    with pytest.raises(UserError, match=said):
        fit(make(), Fixed(PAIRS), 1, tmp_path)


@pytest.mark.parametrize(
    ("images", "mask", "said"),
    [
        (torch.zeros(2, 3, 8, 8), None, r"images: float32 \(2, 3, 8, 8\) was found, \(n, 1, h, w\) is expected"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), None, r"images: uint8 .* floats"),
        (torch.zeros(8, 8), None, r"images: float32 \(8, 8\)"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8), r"mask: it was found, but the model was trained on data"),
    ],
)
def test_images_that_the_model_does_not_take(tmp_path, images, mask, said):
    model = build()
    fit(model, Fixed(PAIRS), 1, tmp_path)
    with pytest.raises(UserError, match=said):
        model.translate(images, mask=mask)


def test_data_without_pairs(tmp_path):
    from lit_gen.data.images.toy import Toy2D

    with pytest.raises(UserError, match=r"data: Toy2D has no pairs of images; .*PairedImages, and Degraded"):
        fit(build(), Toy2D(), 1, tmp_path)


def test_padding_to_many_times_the_pixels_is_said(tmp_path, capsys):
    from lit_gen.models.image_to_image.unet import UNet

    fit(build(UNet(1, 1, width=4, depth=5)), Fixed(PAIRS), 1, tmp_path)
    assert "sources are padded from 8x8 to 32x32 pixels, multiples of 32" in capsys.readouterr().err


def test_weights_are_scheduled(tmp_path):
    names = {"reconstruction.l1.weight": Linear(4.0, 0.0, 2), "adversarial_weight": Linear(1.0, 0.0, 2)}
    model = build(reconstruction=[L1(3)], discriminator=Patches(), schedules=names)
    fit(model, Fixed(PAIRS * 2), 2, tmp_path)
    assert (model.reconstruction[0].weight, model.adversarial_weight) == (2.0, 0.5)  # of the second step
    with pytest.raises(UserError, match=r"reconstruction\.l2\.weight names no 'l2' \(there are l1\)"):
        build(schedules={"reconstruction.l2.weight": Linear(4.0, 0.0, 2)})
