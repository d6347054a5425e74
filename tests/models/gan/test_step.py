"""The step's options, each against what it promises, and the whole loop against simulations of a few lines."""

import functools
import math
import re
import warnings
from typing import ClassVar

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from support.gan import SGD, build, fit
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lit_gen.core.batches import Batches
from lit_gen.core.errors import NonFiniteLossError, UserError
from lit_gen.data.images.loaders import ImageSet, TrainLoader
from lit_gen.data.images.module import ImageData
from lit_gen.data.images.toy import Toy2D
from lit_gen.models.adversarial import ada, augment, losses, penalties, regularizers
from lit_gen.models.adversarial.context import Regularizer
from lit_gen.models.adversarial.game import Game
from lit_gen.models.gan import dcgan, mlp
from lit_gen.models.gan.module import GAN
from lit_gen.protocols.images import ImageBatch
from lit_gen.training import schedules
from lit_gen.training.ema import EMA

# ---- regularizers that look around; at the top level, where a checkpoint finds them


class Count(Regularizer):
    updates: ClassVar[list] = []

    def forward(self, context):
        self.updates.append(context.update)
        return context.fake_logits.adversarial.mean() * 0 + 1.5


class Note(penalties.R1):
    model = None
    noted: ClassVar[list] = []

    def forward(self, context):
        group = Note.model.optimizers()[1].optimizer.param_groups[0]
        Note.noted.append((self.gamma, group["lr"], group["betas"], Note.model.ema.half_life, Note.model.augment.sigma))
        return super().forward(context)


class Jitter(ada.ADA):  # only the controller: the transforms are for pictures
    def forward(self, images, random):
        return images + self.p * random.normal(*images.shape)


class Look(Regularizer):
    kinds: ClassVar[set] = set()

    def forward(self, context):
        inner = context.discriminator.layers[0](context.real.flatten(1))
        Look.kinds.update({context.real.dtype, context.fake.dtype, context.fake_logits.adversarial.dtype, inner.dtype})
        return context.score(context.real).mean()


# ---- Dirac-GAN: the training loop as a whole


class Theta(nn.Module):
    """The generator of the Dirac-GAN: always at theta."""

    latent_dim = 1

    def __init__(self, start: float = 1.0):
        super().__init__()
        self.start, self.theta = start, nn.Parameter(torch.tensor(start))

    def forward(self, z, labels=None):
        return self.theta.expand(len(z), 1, 1, 1)


class Psi(nn.Module):
    """The discriminator of the Dirac-GAN: psi * x."""

    def __init__(self, start: float = 1.0):
        super().__init__()
        self.start, self.psi = start, nn.Parameter(torch.tensor(start))

    def forward(self, x, labels=None):
        return self.psi * x.flatten()


class AtZero(ImageData):
    """The data of the Dirac-GAN: all zeros."""

    shape, num_classes = (1, 1, 1), None

    def load(self, split):
        return ImageSet(torch.zeros(64, 1, 1, 1))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


# dL_D/dpsi and dL_G/dtheta at (theta, psi), with real data at 0
SLOPES = {
    "wasserstein": (lambda t, p: t, lambda t, p: -p),
    "non_saturating": (lambda t, p: t * sigmoid(p * t), lambda t, p: -p * sigmoid(-p * t)),
}


@pytest.mark.parametrize("generator_first", [False, True])
@pytest.mark.parametrize(
    ("loss", "gamma", "every"),
    [("wasserstein", 0, 1), ("non_saturating", 0, 1), ("non_saturating", 0.3, 1), ("non_saturating", 0.1, 3)],
)
def test_dirac_gan_follows_its_simulation(tmp_path, loss, gamma, every, generator_first):
    """Mescheder et al., 2018, section 2.1, https://arxiv.org/abs/1801.04406: simultaneous updates in turn."""
    terms = [penalties.R1(gamma, every)] if gamma else []
    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    model = GAN(
        Theta(), Psi(), getattr(losses, loss), sgd, sgd, regularizers=terms, generator_first=generator_first,
        channels_last=False,
    )  # fmt: skip
    fit(model, 50, tmp_path, data=AtZero(batch_size=8))
    theta = psi = 1.0
    toward_psi, toward_theta = SLOPES[loss]
    for update in range(50):
        if generator_first:
            theta -= 0.1 * toward_theta(theta, psi)
        penalty = every * gamma * psi if update % every == 0 else 0  # R1: gamma/2 * psi^2
        psi -= 0.1 * (toward_psi(theta, psi) + penalty)
        if not generator_first:
            theta -= 0.1 * toward_theta(theta, psi)
    assert model.generator.theta.item() == pytest.approx(theta, abs=1e-6)
    assert model.discriminator.psi.item() == pytest.approx(psi, abs=1e-6)
    assert abs(theta) > 0.01  # still on its way: the comparison means something


class Slope(Regularizer):
    """psi itself: its gradient is 1 everywhere."""

    def forward(self, context):
        return context.discriminator.psi


@pytest.mark.parametrize("every", [1, 2, 4])
def test_a_lazy_regularizer_pushes_as_much_as_a_full_one(tmp_path, every):
    """With theta at 0 the loss has no gradient: eight updates of rate 0.1 move psi by 0.8, however often they come."""
    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    model = GAN(
        Theta(0.0), Psi(), losses.wasserstein, functools.partial(torch.optim.SGD, lr=1e-30), sgd,
        regularizers=[Slope(every=every)], channels_last=False,
    )  # fmt: skip
    fit(model, 8, tmp_path, data=AtZero(batch_size=8))
    assert model.discriminator.psi.item() == pytest.approx(1 - 0.8, abs=1e-6)


# ---- n_critic and micro-batches


@pytest.fixture
def seen(monkeypatch):
    """What each evaluation of the losses was given: (side, update, real images, latents)."""
    noted, original = [], Game.terms

    def terms(self, side, real, labels, fakes, draws, *rest):
        noted.append((side, draws.update, real, fakes.latents))
        return original(self, side, real, labels, fakes, draws, *rest)

    monkeypatch.setattr(Game, "terms", terms)
    return noted


def test_every_critic_update_has_its_own_images_and_latents(tmp_path, seen):
    trainer = fit(build(n_critic=3), 4, tmp_path)
    assert [(side, update) for side, update, _, _ in seen] == [
        entry
        for step in range(4)
        for entry in [*(("discriminator", 3 * step + j) for j in range(3)), ("generator", step)]
    ]
    critic = [entry for entry in seen if entry[0] == "discriminator"]
    assert len({tuple(images.flatten().tolist()) for *_, images, _ in critic}) == 12, "twelve distinct real batches"
    assert len({tuple(z.flatten().tolist()) for *_, z in seen}) == 16
    assert len(torch.cat([images for *_, images, _ in critic]).flatten(1).unique(dim=0)) == 12 * 16
    assert trainer.global_step == 4
    assert trainer.lightning_module.images_seen == 4 * 3 * 16


@pytest.mark.parametrize("name", sorted(set(losses.__all__) - {"AdversarialLoss", "Logits", "relativistic_average"}))
def test_micro_batches_equal_the_big_batch(tmp_path, name):
    """Relativistic average takes means of a micro-batch: only it is another loss then."""
    terms = [penalties.GradientPenalty(0.1), penalties.R1(0.1), regularizers.ModeSeeking(0.1)]
    small, big = (build(getattr(losses, name), regularizers=terms, n_critic=2, ema=None) for _ in range(2))
    fit(small, 5, tmp_path / "small", data=Toy2D(size=1000, batch_size=16, device_batch_size=4))
    fit(big, 5, tmp_path / "big", data=Toy2D(size=1000, batch_size=16))
    for (key, a), b in zip(small.state_dict().items(), big.state_dict().values(), strict=True):
        if not key.startswith("monitor.first_bad"):
            assert torch.allclose(a, b, atol=1e-4), key  # rounding: up to 2.2e-5 on one CPU with torch 2.14


# ---- options


class Late(Regularizer):
    """NaN from the third update on."""

    def forward(self, context):
        return context.score(context.real).mean() * (math.nan if context.update >= 2 else 1)


@pytest.mark.parametrize("generator_first", [False, True])
def test_what_is_announced_is_logged_whoever_is_first(tmp_path, generator_first):
    model, logged = build(generator_first=generator_first), {}
    model.log_scalars = lambda scalars, step=None: logged.update({model.trainer.global_step: set(scalars)})
    fit(model, 6, tmp_path, log_every=3)
    assert logged == {step: set(model.announced(0)) for step in (3, 6)}


@pytest.mark.parametrize("generator_first", [False, True])
def test_a_bad_loss_is_told_with_its_step(tmp_path, generator_first):
    model = build(generator_first=generator_first, regularizers=[Late()])
    with pytest.raises(NonFiniteLossError, match="the loss of the discriminator became NaN or infinite at step 3"):
        fit(model, 6, tmp_path)


def test_reused_fakes_are_made_once_and_give_the_same_gradient(tmp_path, monkeypatch):
    calls = []
    original = GAN._fakes
    monkeypatch.setattr(GAN, "_fakes", lambda self, side, *a: calls.append(side) or original(self, side, *a))
    model = build(reuse_fakes=True, ema=None)
    fit(model, 6, tmp_path / "reused")
    assert calls == ["generator"] * 6
    # a loop by hand: one batch of fakes for both updates
    from lit_gen.core import randomness

    torch.manual_seed(0)
    g, d = mlp.Generator((2, 1, 1), 3, width=8), mlp.Discriminator((2, 1, 1), width=8)
    og, od = SGD(g.parameters()), SGD(d.parameters())
    data = Toy2D(size=1000, batch_size=16)
    for step, batch in zip(range(6), data.train_dataloader(), strict=False):
        z = randomness.Rows(torch.device("cpu"), 0, "latents of the generator step", step).normal(16, 3)
        fake = g(z)
        od.zero_grad()
        losses.non_saturating(d(batch.images), d(fake.detach())).discriminator.backward()
        od.step()
        og.zero_grad()
        losses.non_saturating(torch.zeros(16), d(fake)).generator.backward()
        og.step()
    for a, b in zip(model.generator.parameters(), g.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("options", [{"n_critic": 3}, {"micro_batches": 2}, {"generator_first": True}])
def test_reused_fakes_with_other_options(tmp_path, monkeypatch, options):
    calls, original = [], GAN._fakes
    monkeypatch.setattr(GAN, "_fakes", lambda self, side, *a: calls.append(side) or original(self, side, *a))
    count = options.pop("micro_batches", 1)
    model = build(reuse_fakes=True, **options)
    before = [p.clone() for p in model.parameters()]
    fit(model, 3, tmp_path, data=Toy2D(size=1000, batch_size=16, device_batch_size=16 // count))
    assert calls.count("generator") == 3 * count
    assert calls.count("discriminator") == 3 * (options.get("n_critic", 1) - 1)
    assert not any(torch.equal(a, b) for a, b in zip(before, model.generator.parameters(), strict=False))


@pytest.mark.parametrize("loss", [losses.hinge, losses.relativistic])
def test_one_pass_for_real_and_generated_images_is_the_same(tmp_path, loss):
    two, one = build(loss), build(loss, concatenate=True)
    fit(two, 5, tmp_path / "two")
    fit(one, 5, tmp_path / "one")
    for key, value in two.state_dict().items():
        assert torch.allclose(value, one.state_dict()[key], atol=1e-6), key


def test_one_pass_is_refused_with_batch_norm():
    with pytest.raises(UserError, match=r"model.concatenate: the discriminator has batch norm"):
        GAN(dcgan.Generator((1, 28, 28), width=4), dcgan.Discriminator((1, 28, 28), width=4), concatenate=True)
    GAN(
        dcgan.Generator((1, 28, 28), width=4), dcgan.Discriminator((1, 28, 28), width=4, batch_norm=False),
        concatenate=True,
    )  # fmt: skip


def test_clipping_bounds_each_networks_step(tmp_path):
    """With SGD the step is the rate times the clipped gradient."""
    model = build(losses.wasserstein, generator_clip=0.01, discriminator_clip=0.02, ema=None)
    before = {side: [p.clone() for p in getattr(model, side).parameters()] for side in ("generator", "discriminator")}
    fit(model, 1, tmp_path)
    for side, bound in (("generator", 0.01), ("discriminator", 0.02)):
        moved = [b - a for a, b in zip(before[side], getattr(model, side).parameters(), strict=True)]
        assert torch.cat([m.flatten() for m in moved]).norm().item() == pytest.approx(0.1 * bound, rel=1e-3)


def test_a_clip_may_be_scheduled(tmp_path):
    lengths = []

    class Note(Callback):
        def on_train_batch_start(self, trainer, module, *args):
            self.before = [p.detach().clone() for p in module.generator.parameters()]

        def on_train_batch_end(self, trainer, module, *args):
            moved = [b - a for a, b in zip(self.before, module.generator.parameters(), strict=True)]
            lengths.append(torch.cat([m.flatten() for m in moved]).norm().item())

    scheduled = {"generator_clip": schedules.Linear(0.01, 0.02, 2)}
    fit(build(losses.wasserstein, generator_clip=1.0, schedules=scheduled), 3, tmp_path, [Note()])
    assert lengths == pytest.approx([0.001, 0.0015, 0.002], rel=1e-3)


def test_weights_stay_within_the_clip(tmp_path):
    model = build(losses.wasserstein, weight_clip=0.05)
    fit(model, 3, tmp_path)
    assert max(p.abs().max().item() for p in model.discriminator.parameters()) == pytest.approx(0.05)
    assert max(p.abs().max().item() for p in model.generator.parameters()) > 0.05


def test_lazy_regularizers_run_when_due_and_count_fully(tmp_path):
    term = Count(every=4)
    Count.updates.clear()
    model = build(regularizers=[term], n_critic=2)
    fit(model, 9, tmp_path, log_every=0, callbacks=[])
    assert term.updates == [0, 4, 8, 12, 16]
    model.monitor.settle()
    assert model.monitor.sums["count"] == pytest.approx(5 * 1.5)  # the log shows the term itself
    assert model.monitor.counts["count"] == 5


def test_a_regularizers_own_parameters_are_trained_with_its_network(tmp_path):
    class Scale(Regularizer):
        def __init__(self, network: str = "discriminator"):
            super().__init__()
            self.network, self.scale = network, nn.Parameter(torch.ones(()))

        def forward(self, context):
            return (self.scale * context.fake_logits.adversarial.mean()).square()

    for side in ("discriminator", "generator", "both"):
        term = Scale(side)
        model = build(regularizers=[term])
        optimizers = dict(zip(("generator", "discriminator"), model.configure_optimizers(), strict=True))
        owned = {s: any(p is term.scale for g in o.param_groups for p in g["params"]) for s, o in optimizers.items()}
        assert owned == {"discriminator": side != "generator", "generator": side == "generator"}


def test_schedules_set_numbers_at_each_step(tmp_path):
    def line(start, end):
        return schedules.Linear(start, end, 4)

    model = build(
        optimizer=torch.optim.Adam, regularizers=[Note(1.0)], augment=augment.InstanceNoise(), ema=EMA(half_life=1e4),
        schedules={
            "regularizers.Note.gamma": line(1, 0), "discriminator_optimizer.lr": line(0.1, 0.2),
            "discriminator_optimizer.beta2": line(0.9, 0.99), "ema.half_life": line(0, 400),
            "augment.sigma": line(1, 0),
        },
    )  # fmt: skip
    Note.model = model
    Note.noted.clear()
    fit(model, 6, tmp_path)
    for step, (gamma, rate, betas, half_life, sigma) in enumerate(Note.noted):
        t = min(step / 4, 1)
        assert gamma == pytest.approx(1 - t)
        assert rate == pytest.approx(0.1 + 0.1 * t)
        assert betas == pytest.approx((0.9, 0.9 + 0.09 * t))
        assert half_life == pytest.approx(400 * t)
        assert sigma == pytest.approx(1 - t)
    assert len(Note.noted) == 6


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("generater_optimizer.lr", "names no 'generater_optimizer'; did you mean 'generator_optimizer'?"),
        ("regularizers.R2.gamma", r"names no 'R2' \(there are R1\)"),
        ("regularizers.R1.gama", "is no number that can be set; did you mean 'gamma'?"),
        ("ema.half_live", "is no number that can be set; did you mean 'half_life'?"),
        ("ema.decay", "is no number that can be set"),
        ("ema_half_life", "is no number that can be set; it is ema.half_life now"),
        ("augment.p", "names no 'augment'"),
    ],
)
def test_a_schedule_of_nothing_is_refused_at_once(name, told):
    with pytest.raises(UserError, match=rf"model.schedules: {name}.*{told}"):
        build(regularizers=[penalties.R1()], schedules={name: schedules.Linear(1, 0, 4)}, ema=EMA(half_life=10.0))


def test_a_schedule_of_nothing_in_an_optimizer_is_refused_at_the_first_step(tmp_path):
    model = build(schedules={"generator_optimizer.lrr": schedules.Linear(1, 0, 4)})
    told = "generator_optimizer.lrr: the optimizer has no number 'lrr'; did you mean 'lr'?"
    with pytest.raises(UserError, match=re.escape(told)):
        fit(model, 1, tmp_path)


def test_schedules_of_the_papers():
    cosine, line = schedules.Cosine(2e-4, 5e-5, 100), schedules.Linear(2e-4, 0, 100, warmup=10)
    assert [cosine(s) for s in (0, 50, 100, 500)] == pytest.approx([2e-4, 1.25e-4, 5e-5, 5e-5])
    assert [line(s) for s in (0, 9, 10, 60, 110, 999)] == pytest.approx([2e-5, 2e-4, 2e-4, 1e-4, 0, 0])
    with pytest.raises(UserError, match="Linear with steps 0"):
        schedules.Linear(1, 0, 0)


# ---- the augmentation and its controller in the loop


def test_ada_is_steered_by_the_real_logits_of_every_update(tmp_path):
    data = Toy2D(size=1000, batch_size=16)

    control = Jitter(speed_kimg=0.32, interval=2, initial_p=0.5)
    model = build(augment=control, n_critic=2)
    fit(model, 1, tmp_path, data=data)
    assert abs(control.p.item() - 0.5) == pytest.approx(2 * 16 / 320)  # two updates of 16 images: one adjustment


class Reals(nn.Module):
    """A discriminator that gives every image a fixed logit."""

    def __init__(self, logit: float):
        super().__init__()
        self.logit, self.weight = logit, nn.Parameter(torch.zeros(()))

    def forward(self, x, labels=None):
        return self.logit + self.weight * x.flatten(1).sum(1)


@pytest.mark.parametrize(
    ("loss", "logit", "up"),
    [("hinge", 0.2, True), ("hinge", -0.2, False), ("least_squares", 0.2, False), ("least_squares", 0.8, True)],
)
def test_ada_goes_by_the_side_of_the_losses_boundary(tmp_path, loss, logit, up):
    """Least squares has its boundary at 1/2: real logits of 0.2 are taken for fake there."""
    control = Jitter(speed_kimg=0.32, interval=1, initial_p=0.5)
    still = functools.partial(torch.optim.SGD, lr=0.0)
    generator = mlp.Generator((2, 1, 1), 3, width=8)
    model = GAN(generator, Reals(logit), getattr(losses, loss), still, still, augment=control)
    fit(model, 1, tmp_path)
    assert (control.p.item() > 0.5) == up


@pytest.mark.parametrize("loss", [losses.wasserstein, losses.relativistic, losses.relativistic_average])
def test_ada_needs_a_loss_whose_zero_means_something(loss):
    with pytest.raises(UserError, match=r"model.augment: ADA steers by the sign"):
        build(loss, augment=ada.ADA())
    build(loss, augment=ada.ADA(target=None))


class Doubled(augment.Augmentation):
    """Doubles every image, and notes its draws."""

    draws: ClassVar[list] = []

    def forward(self, images, random):
        Doubled.draws.append(random.normal(1).item())
        return 2 * images


def test_all_images_reach_the_discriminator_through_the_augmentation_alone(tmp_path):
    """Real and generated ones, in both updates and in penalties; each call with draws of its own."""
    from lit_gen.core import randomness

    Doubled.draws.clear()
    model = build(losses.relativistic, regularizers=[penalties.R1(0.1)], augment=Doubled(), ema=None)
    data = Toy2D(size=1000, batch_size=16)
    fit(model, 5, tmp_path, data=data)
    assert len(Doubled.draws) == 5 * 5
    assert len(set(Doubled.draws)) == 5 * 5
    torch.manual_seed(0)
    g, d = mlp.Generator((2, 1, 1), 3, width=8), mlp.Discriminator((2, 1, 1), width=8)
    og, od = SGD(g.parameters()), SGD(d.parameters())
    for step, batch in zip(range(5), Toy2D(size=1000, batch_size=16).train_dataloader(), strict=False):
        zd, zg = (
            randomness.Rows(torch.device("cpu"), 0, f"latents of the {side} step", step).normal(16, 3)
            for side in ("discriminator", "generator")
        )
        x = batch.images.clone().requires_grad_()
        (slope,) = torch.autograd.grad(d(2 * x).sum(), x, create_graph=True)
        od.zero_grad()
        adversarial = losses.relativistic(d(2 * batch.images), d(2 * g(zd).detach())).discriminator
        (adversarial + 0.05 * slope.flatten(1).square().sum(1).mean()).backward()
        od.step()
        og.zero_grad()
        losses.relativistic(d(2 * batch.images), d(2 * g(zg))).generator.backward()
        og.step()
    for a, b in zip(model.generator.parameters(), g.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    for a, b in zip(model.discriminator.parameters(), d.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_generator_that_goes_first_sees_the_first_images(tmp_path, seen):
    fit(build(losses.relativistic, generator_first=True, n_critic=2), 2, tmp_path)
    for start in (0, 3):
        sides = [side for side, *_ in seen[start : start + 3]]
        assert sides == ["generator", "discriminator", "discriminator"]
        assert torch.equal(seen[start][2], seen[start + 1][2])


# ---- bfloat16


def test_under_bfloat16_every_update_sees_the_weights_of_the_one_before(tmp_path):
    """Autocast by itself would keep low-precision copies of the weights, so that one update saw those before the last.

    Lightning switches that cache off; this holds it to it.
    """
    from lit_gen.core import randomness

    options = {"n_critic": 2, "ema": None, "channels_last": False}
    model = build(losses.hinge, regularizers=[penalties.R1(0.1)], **options)
    fit(model, 4, tmp_path, precision="bf16-mixed")
    torch.manual_seed(0)
    g, d = mlp.Generator((2, 1, 1), 3, width=8), mlp.Discriminator((2, 1, 1), width=8)
    og, od = SGD(g.parameters()), SGD(d.parameters())
    lower = functools.partial(torch.autocast, "cpu", torch.bfloat16)
    loader = TrainLoader(Toy2D(size=1000).split("train"), Batches(16, updates=2), 0)
    for step, batch in zip(range(4), loader, strict=False):
        for j, real in enumerate(batch.images.chunk(2)):
            z = randomness.Rows(torch.device("cpu"), 0, "latents of the discriminator step", 2 * step + j).normal(16, 3)
            with lower(), torch.no_grad():
                fake = g(z)
            with lower():
                a, b = d(real).float(), d(fake).float()
            x = real.clone().requires_grad_()
            (slope,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)  # float32
            od.zero_grad()
            (F.relu(1 - a).mean() + F.relu(1 + b).mean() + 0.05 * slope.flatten(1).square().sum(1).mean()).backward()
            od.step()
        z = randomness.Rows(torch.device("cpu"), 0, "latents of the generator step", step).normal(16, 3)
        og.zero_grad()
        with lower():
            score = d(g(z)).float()
        (-score.mean()).backward()
        og.step()
    for a, b in [
        *zip(model.generator.parameters(), g.parameters(), strict=True),
        *zip(model.discriminator.parameters(), d.parameters(), strict=True),
    ]:
        assert torch.allclose(a, b, atol=1e-4)  # rounding; a stale copy of the weights makes 4e-3


def test_penalties_run_in_float32_under_bfloat16(tmp_path):
    Look.kinds.clear()
    fit(build(regularizers=[Look()]), 2, tmp_path, precision="bf16-mixed")
    assert Look.kinds == {torch.float32}


# ---- mistakes


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"n_critic": 0}, "model.n_critic: 0 was found, a whole number of at least 1"),
        ({"generator_clip": 0.0}, "model.generator_clip: 0.0 was found, a number above 0 or null"),
        ({"discriminator_clip": -1.0}, "model.discriminator_clip: -1.0"),
        ({"weight_clip": -1.0}, "model.weight_clip: -1.0"),
    ],
)
def test_numbers_out_of_range(options, told):
    with pytest.raises(UserError, match=told):
        build(**options)


def two(real, fake):
    return real.mean() - fake.mean()


class Critic(Regularizer):
    network = "critic"


@pytest.mark.parametrize(
    ("term", "told"),
    [
        (two, "two .*takes 2 arguments, one context is expected"),
        (nn.Linear(2, 2), "Linear is no function and no subclass of Regularizer"),
        (3, "int is no function"),
        (Critic(), "Critic .*has network 'critic', one of 'discriminator', 'generator', 'both' is expected"),
    ],
)
def test_what_is_no_regularizer_is_refused_at_once(term, told):
    with pytest.raises(UserError, match=f"model.regularizers: .*{told}"):
        build(regularizers=[term])


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_other_precisions_are_refused(tmp_path, precision):
    with pytest.raises(UserError, match=f"trainer.precision: {precision} was found, 32-true or bf16-mixed"):
        fit(build(), 1, tmp_path, precision=precision)


def test_parts_that_do_not_go_together_are_refused():
    with pytest.raises(UserError, match=r"model.weight_clip does not bound weights under spectral norm"):
        GAN(mlp.Generator((2, 1, 1)), mlp.Discriminator((2, 1, 1), spectral_norm=True), weight_clip=0.1)
    with pytest.raises(UserError, match=r"augment.p is steered by ADA's target"):
        build(augment=ada.ADA(), schedules={"augment.p": schedules.Linear(0, 1, 5)})
    d = dcgan.Discriminator((1, 28, 28), width=4, batch_norm=False, minibatch_std=True)
    with pytest.raises(UserError, match=r"model.concatenate: .* minibatch deviation"):
        GAN(dcgan.Generator((1, 28, 28), width=4), d, concatenate=True)


def test_a_loader_of_other_batches_is_refused(tmp_path):
    def collate(rows):
        return ImageBatch(torch.stack(rows), None, torch.arange(len(rows)))

    trainer = Trainer(
        accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, limit_val_batches=0,
    )  # fmt: skip
    warnings.filterwarnings("ignore", message=".*(does not have many workers|have no `val_dataloader`).*")
    with pytest.raises(UserError, match=r"a step got 16 rows for 5 equal parts"):
        trainer.fit(build(n_critic=5), DataLoader(torch.randn(64, 2, 1, 1), 16, collate_fn=collate))


def vector(context):
    return context.real_logits.adversarial


def constant(context):
    return torch.zeros(())


def number(context):
    return 1.0


def other(context):
    return next(context.generator.parameters()).square().sum()


@pytest.mark.parametrize(
    ("term", "told"),
    [
        (vector, r"vector .*returned a tensor of shape \(16,\), a scalar tensor is expected"),
        (constant, "constant .*returned a value without a gradient"),
        (number, "number .*returned 1.0, a scalar tensor"),
        (other, "other .*returned a value without a gradient for the network it belongs to"),
    ],
)
def test_a_regularizer_that_is_none(tmp_path, term, told):
    with pytest.raises(UserError, match=rf"model.regularizers: .*{told}"):
        fit(build(regularizers=[term]), 1, tmp_path)
