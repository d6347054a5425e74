"""The training of a diffusion model as a system: what is minimized, logged, saved, drawn, scored and refused."""

import functools

import numpy as np
import pytest
import torch
from support.diffusion import SHAPE, build, network
from support.exported import rebuilt
from support.fitting import fit, rows
from torch import nn

import lit_gen.runs.opened
from lit_gen.core import randomness
from lit_gen.core.errors import NonFiniteLossError, UserError
from lit_gen.core.images import to_float
from lit_gen.data.images.digits8 import Digits8
from lit_gen.data.images.points import Points2D
from lit_gen.models.diffusion.coupling import OptimalTransport
from lit_gen.models.diffusion.likelihood.bound import Bound
from lit_gen.models.diffusion.parametrizations import Noise, Preconditioned, VPrediction
from lit_gen.models.diffusion.paths import DDPM, EDM
from lit_gen.models.diffusion.solvers.ode import Heun
from lit_gen.models.diffusion.solvers.sde import Ancestral, Stochastic
from lit_gen.models.diffusion.sources import Gaussians
from lit_gen.models.diffusion.times import LogNormal
from lit_gen.models.diffusion.weightings import MinSNR
from lit_gen.protocols.images import ImageGenerator, LatentInterpolator
from lit_gen.training.ema import EMA

WHOLE = {"limit_val_batches": 1.0, "check_val_every_n_epoch": None}
STILL = functools.partial(torch.optim.SGD, lr=0.0)
CPU = torch.device("cpu")


def digits(**options):
    return Digits8(**{"batch_size": 20, **options})


def batches(count):
    return [batch for batch, _ in zip(digits().train_dataloader(), range(count), strict=False)]


def test_the_numbers_are_those_of_flow_matching(tmp_path):
    """x_t = (1 - t) x_0 + t e, and the loss is the mean of ||F(x_t, t) - (e - x_0)||^2 / D."""
    model = build(optimizer=STILL)
    trainer = fit(model, digits(), 2, tmp_path, **WHOLE, val_check_interval=2)

    def errors(x, e, t):
        at = t.view(-1, 1, 1, 1)
        with torch.no_grad():
            return (model.network((1 - at) * x + at * e, t) - (e - x)).square().flatten(1).mean(1).double()

    for step, (batch, row) in enumerate(zip(batches(2), rows(tmp_path), strict=False)):
        draws = randomness.Draws(0, step, 0, 1)
        e, t = draws.rows("noise", CPU).normal(20, 64).view(20, *SHAPE), draws.rows("times", CPU).uniform(20)
        assert row["train/loss"] == pytest.approx(float(errors(batch.images, e, t).mean()), rel=1e-6)
    held_out, index = to_float(digits().split("val").images), torch.arange(350)
    t = torch.from_numpy((0.5 + np.arange(350) * (5**0.5 - 1) / 2) % 1).float()
    e = randomness.latents(0, index, 64, "held-out noise").view(-1, *SHAPE)
    found = float(trainer.callback_metrics["val/loss"])
    assert found == pytest.approx(float(errors(held_out, e, t).mean()), rel=1e-6)


def test_the_weighting_and_the_times_are_used(tmp_path):
    """Min-SNR of noise prediction: min(SNR, 5) / SNR; EDM's levels: exp of N(-1.2, 1.2^2)."""
    ddpm = DDPM(100, beta_start=1e-3, beta_end=0.2)
    model = build(path=ddpm, parametrization=Noise(), weighting=MinSNR(5.0), optimizer=STILL)
    fit(model, digits(), 1, tmp_path / "ddpm")
    draws, batch = randomness.Draws(0, 0, 0, 1), batches(1)[0]
    e, u = draws.rows("noise", CPU).normal(20, 64).view(20, *SHAPE), draws.rows("times", CPU).uniform(20)
    t = 1 + (u * 100).floor()
    kept = torch.cumprod(1 - torch.linspace(1e-3, 0.2, 100, dtype=torch.float64), 0)[t.long() - 1].float()
    x = kept.sqrt().view(-1, 1, 1, 1) * batch.images + (1 - kept).sqrt().view(-1, 1, 1, 1) * e
    with torch.no_grad():
        errors = (model.network(x, t / 100) - e).square().flatten(1).mean(1)
    ratio = kept / (1 - kept)
    expected = (ratio.clamp(max=5) / ratio * errors).mean()
    assert rows(tmp_path / "ddpm")[0]["train/loss"] == pytest.approx(float(expected), rel=1e-5)

    model = build(path=EDM(), parametrization=Preconditioned(0.5), times=LogNormal(-1.2, 1.2), optimizer=STILL)
    fit(model, digits(), 1, tmp_path / "edm")
    sigma = (-1.2 + 1.2 * torch.special.ndtri(u.double())).exp().clamp(0.002, 80).float().view(-1, 1, 1, 1)
    x, total = batch.images + sigma * e, sigma.square() + 0.25
    with torch.no_grad():
        output = model.network(x / total.sqrt(), sigma.flatten().log() / 4)
    denoised = 0.25 / total * x + sigma * 0.5 / total.sqrt() * output
    weight = total / (sigma * 0.5).square()  # the paper's lambda(sigma)
    expected = (weight * (denoised - batch.images).square()).mean()
    assert rows(tmp_path / "edm")[0]["train/loss"] == pytest.approx(float(expected), rel=1e-4)


def test_it_learns_and_announces_what_it_logs(tmp_path):
    model = build()
    assert isinstance(model, ImageGenerator)
    assert isinstance(model, LatentInterpolator)
    fit(model, digits(), 60, tmp_path, log_every=20, **WHOLE, val_check_interval=20)
    found = [row["val/loss"] for row in rows(tmp_path) if "val/loss" in row]
    assert found[-1] < 0.9 * found[0]
    logged = {name for row in rows(tmp_path) for name in row} - {"step", "epoch"}
    assert {name for name in logged if "/" in name} == set(model.announced())


def test_samples_depend_on_their_index_alone(tmp_path):
    model = build(ema=EMA(0.9))
    fit(model, digits(), 3, tmp_path)
    drawn = model.sample(torch.arange(70))
    assert drawn.shape == (70, *SHAPE)
    assert drawn.abs().max() <= 1
    assert torch.equal(model.sample(torch.tensor([69, 3])), drawn[[69, 3]])
    assert not torch.equal(model.sample(torch.arange(70), weights="raw"), drawn)
    assert not torch.equal(model.sample(torch.arange(70), steps=5), drawn)
    assert torch.equal(model.sample(torch.arange(70), solver="euler", steps=4), drawn)
    paths = model.interpolate(torch.arange(2), torch.arange(2, 4), 5)
    assert torch.equal(paths[:, 0], drawn[:2])
    opened = lit_gen.runs.opened.load(tmp_path / "checkpoints/step=00000003.ckpt")
    assert torch.equal(opened.sample(8), model.eval().sample(torch.arange(8)))
    assert model.drawing_record()["drawer"]["calls"] == 4
    assert model.drawing_record(solver="heun", steps=5)["drawer"]["calls"] == 9
    measured = model.drawing_record(solver="adaptive")["drawer"]["calls"]
    assert measured > 9


def test_an_export_draws_without_lightning(tmp_path):
    model = build(solver=Heun(3))
    fit(model, digits(), 3, tmp_path)
    opened = lit_gen.runs.opened.load(tmp_path / "checkpoints/step=00000003.ckpt")
    opened.export(tmp_path / "generator.safetensors")
    generator = rebuilt(tmp_path / "generator.safetensors", "generator")
    with torch.no_grad():
        drawn = generator(randomness.latents(0, torch.arange(64), 64))
    assert torch.equal(drawn, opened.sample(64))


def test_a_conditional_model_and_its_guidance(tmp_path):
    model = build(network(SHAPE, 10), label_dropout=0.5, guidance_scale=2.0)
    fit(model, digits(), 3, tmp_path, **WHOLE, val_check_interval=3)
    assert model.label_counts.sum() == 1000
    ones, twos = (model.sample(torch.arange(5), labels=torch.full((5,), c)) for c in (1, 2))
    assert not torch.equal(ones, twos)
    assert model.drawing_record()["drawer"]["calls"] == 8
    assert model.drawing_record(guidance_scale=1.0)["drawer"]["calls"] == 4
    assert not torch.equal(model.sample(torch.arange(5), guidance_scale=1.0), model.sample(torch.arange(5)))
    with pytest.raises(UserError, match="a conditional network was called without labels"):
        model.denoiser().denoised(torch.zeros(2, *SHAPE), torch.full((2,), 0.5))


def test_stratified_times(tmp_path):
    model = build(stratified=True, optimizer=STILL)
    fit(model, digits(device_batch_size=5), 1, tmp_path)
    batch, draws = batches(1)[0], randomness.Draws(0, 0, 0, 1)
    e, t = draws.rows("noise", CPU).normal(20, 64).view(20, *SHAPE), model._shares(draws, 20)
    assert torch.equal((t * 20).floor().long().sort().values, torch.arange(20))
    at = t.view(-1, 1, 1, 1)
    with torch.no_grad():
        output = model.network((1 - at) * batch.images + at * e, t)
    expected = (output - (e - batch.images)).square().mean()
    assert rows(tmp_path)[0]["train/loss"] == pytest.approx(float(expected), rel=1e-5)


SEEN = []


class Watched(nn.Module):
    """Notes the labels that it gets."""

    def __init__(self):
        super().__init__()
        self.shape, self.num_classes, self.weight = SHAPE, 10, nn.Parameter(torch.ones(1))

    def forward(self, x, level, labels):
        SEEN.append(labels)
        return x * self.weight


def test_labels_are_left_out_by_row(tmp_path):
    SEEN.clear()
    model = build(Watched(), label_dropout=0.3)
    fit(model, digits(), 40, tmp_path)
    trained = [labels for labels in SEEN if len(labels) == 20]
    for step, (labels, batch) in enumerate(zip(trained, batches(40), strict=True)):
        dropped = randomness.Draws(0, step, 0, 1).rows("label dropout", CPU).uniform(20) < 0.3
        assert torch.equal(labels, torch.where(dropped, 10, batch.labels))


def test_pairs_are_those_of_the_coupling(tmp_path):
    model = build(coupling=OptimalTransport(), optimizer=STILL)
    fit(model, digits(device_batch_size=5), 1, tmp_path)
    draws, batch = randomness.Draws(0, 0, 0, 1), batches(1)[0]
    e = draws.rows("noise", CPU).normal(20, 64).view(20, *SHAPE)
    e = e[OptimalTransport().pair(batch.images, e)]
    assert not torch.equal(e, draws.rows("noise", CPU).normal(20, 64).view(20, *SHAPE))
    t = draws.rows("times", CPU).uniform(20).view(-1, 1, 1, 1)
    with torch.no_grad():
        output = model.network((1 - t) * batch.images + t * e, t.flatten())
    expected = (output - (e - batch.images)).square().mean()
    assert rows(tmp_path)[0]["train/loss"] == pytest.approx(float(expected), rel=1e-5)


class Wrong(nn.Module):
    """Returns what it is told to."""

    def __init__(self, found, shape=SHAPE):
        super().__init__()
        self.shape, self.found, self.weight = shape, found, nn.Parameter(torch.zeros(()))

    def forward(self, x, level):
        return self.found(x)


def smaller(x):
    return x[..., :4, :4]


def bounded(levels):
    return build(path=DDPM(10, "cosine"), parametrization=VPrediction(), likelihood=Bound(levels))


BAD = {
    "model.likelihood.levels: null was found, but the data have 17 levels": lambda: (bounded(None), digits()),
    "model.likelihood.levels: 256 was found, but the data have 17 levels": lambda: (bounded(256), digits()),
    r"model.network: MLP is of data of shape \(1, 4, 4\), but the data set has \(1, 8, 8\)": lambda: (
        build(network((1, 4, 4))), digits()
    ),
    "model.network.num_classes: 3 was found, the data set has 10 classes": lambda: (
        build(network(SHAPE, 3)), digits()
    ),
    "model.network.num_classes: 3 was found, the data set has no labels": lambda: (
        build(network((2, 1, 1), 3)), Points2D("checkerboard")
    ),
    r"model.network: .*Wrong \(.*\) returned float32 \(2, 1, 4, 4\), \(2, 1, 8, 8\) is expected": lambda: (
        build(Wrong(smaller)), digits()
    ),
}  # fmt: skip


@pytest.mark.parametrize("sentence", BAD, ids=range(len(BAD)))
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_what_cannot_be_is_told_before_the_first_step(tmp_path, sentence):
    model, data = BAD[sentence]()
    with pytest.raises(UserError, match=sentence):
        fit(model, data, 2, tmp_path)
    assert not list(tmp_path.rglob("*.ckpt"))


MADE = {
    r"model.network: Linear has no shape \(C, H, W\)": lambda: build(nn.Linear(2, 2)),
    "model.parametrization: Noise was found, but the path Linear": lambda: build(parametrization=Noise()),
    "model.label_dropout: 0.1 was found, but the network is unconditional": lambda: build(label_dropout=0.1),
    "model.guidance_scale: 3 was found, but the network is unconditional": lambda: build(guidance_scale=3.0),
    "model.guidance_scale: 3 was found, but the network is never trained without labels": lambda: build(
        network(SHAPE, 10), guidance_scale=3.0
    ),
    r"model.guidance_interval: \[2.0, 1.0\] was found": lambda: build(guidance_interval=(2.0, 1.0)),
    "model.solver: Ancestral adds noise, but with model.coupling OptimalTransport": lambda: build(
        solver=Ancestral(4), coupling=OptimalTransport()
    ),
    "model.solver: Stochastic adds noise, but with model.source Gaussians": lambda: build(
        network((2, 1, 1)), solver=Stochastic(4), source=Gaussians()
    ),
    "model.guidance_scale: nan was found, a number such as": lambda: build(guidance_scale=float("nan")),
}


@pytest.mark.parametrize("sentence", MADE, ids=range(len(MADE)))
def test_what_cannot_be_is_told_where_it_is_made(sentence):
    with pytest.raises(UserError, match=sentence):
        MADE[sentence]()


def test_what_a_sample_cannot_be():
    model = build()
    with pytest.raises(UserError, match="--guidance_scale: 3 was found, but the network is unconditional"):
        model.sample(torch.arange(2), guidance_scale=3.0)
    with pytest.raises(UserError, match="steps"):
        model.sample(torch.arange(2), steps=0)
    with pytest.raises(UserError, match="solver"):
        model.sample(torch.arange(2), solver="oiler")
    with pytest.raises(UserError, match=r"model\.likelihood: null was found"):
        model.log_prob(torch.zeros(2, *SHAPE), torch.arange(2))


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
@pytest.mark.filterwarnings("ignore")
def test_a_precision_of_other_times_is_refused(tmp_path, precision):
    with pytest.raises(UserError, match=f"trainer.precision: {precision} was found.*32-true or bf16-mixed is expected"):
        fit(build(), digits(), 1, tmp_path, precision=precision)


class Few(nn.Module):
    """Knows its classes, and not the label of none."""

    def __init__(self):
        super().__init__()
        self.shape, self.num_classes, self.table = SHAPE, 10, nn.Embedding(10, 1)

    def forward(self, x, level, labels):
        return x * self.table(labels)[:, :, None, None]


def test_the_label_of_no_class_is_tried_before_the_first_step(tmp_path):
    with pytest.raises(UserError, match=r"model\.network: .*Few.* index out of range"):
        fit(build(Few(), label_dropout=0.1), digits(), 1, tmp_path / "dropped")
    fit(build(Few()), digits(), 1, tmp_path / "kept")


class Diverging(nn.Module):
    """Finite in training alone."""

    def __init__(self):
        super().__init__()
        self.shape, self.weight = SHAPE, nn.Parameter(torch.ones(1))

    def forward(self, x, level):
        return x * self.weight if self.training else x * torch.inf


def test_a_held_out_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(NonFiniteLossError, match="val/loss is NaN or infinite at step 1"):
        fit(build(Diverging()), digits(), 1, tmp_path, **WHOLE, val_check_interval=1)


def test_paths_between_samples_need_a_solver_without_noise():
    model = build(path=DDPM(10, beta_end=0.5), parametrization=VPrediction(), solver=Ancestral(10))
    with pytest.raises(UserError, match="--interpolate: Ancestral adds noise"):
        model.interpolate(torch.arange(2), torch.arange(2, 4), 5)
    paths = model.interpolate(torch.arange(2), torch.arange(2, 4), 5, solver="ddim")
    torch.testing.assert_close(paths[:, 0], model.sample(torch.arange(2), solver="ddim"))
    assert model.drawing_record(solver="ddpm")["drawer"]["calls"] == 10
    assert model.drawing_record(solver="dpm++")["drawer"]["calls"] == 10  # its own 20 are more than there are
    with pytest.raises(UserError, match="--steps: 200 was found, at most 10, the steps of"):
        model.sample(torch.arange(2), steps=200)


def test_the_likelihood_is_that_of_the_held_out_data(tmp_path):
    model = bounded(17)
    trainer = fit(model, digits(), 1, tmp_path, **WHOLE, val_check_interval=1)
    images = to_float(digits().split("val").images)
    nats = Bound(17).log_prob(model.denoiser(), images, torch.arange(350), 0).double()
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert found["val/nll"] == pytest.approx(-float(nats.mean()), rel=1e-6)
    assert found["val/bits_per_dim"] == pytest.approx(found["val/nll"] / (64 * np.log(2)), rel=1e-6)
    assert {"val/nll", "val/bits_per_dim"} < set(model.announced())
    opened = lit_gen.runs.opened.load(tmp_path / "checkpoints/step=00000001.ckpt")
    torch.testing.assert_close(opened.log_prob(images[:70]).double(), nats[:70], rtol=1e-5, atol=1e-3)
    assert model.scoring_record() | {"likelihood": "bound", "levels": 17, "calls": 10} == model.scoring_record()
    with pytest.raises(UserError, match="none of the 17 levels from -1 to 1"):
        model.log_prob(images[:2] + 0.05, torch.arange(2))


def test_images_are_edited():
    model = build(network(), solver=Heun(4))
    given = torch.full((1, *SHAPE), 0.25)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    filled = model.sample(torch.arange(3), images=given, mask=mask)
    torch.testing.assert_close(filled[..., :4], given[..., :4].expand(3, -1, -1, -1))
    assert filled[..., 4:].std(0).min() > 0
    near, far = (model.sample(torch.arange(3), images=given, strength=s) for s in (0.25, 1.0))
    assert (near - given).abs().mean() < (far - given).abs().mean()
    torch.testing.assert_close(far, model.sample(torch.arange(3)))  # nothing of the image is left at the noisy end
    with pytest.raises(UserError, match="images: this model edits no images"):
        build(network((2, 1, 1)), source=Gaussians()).sample(torch.arange(3), images=torch.zeros(1, 2, 1, 1))
