"""The training step of a VAE as a system: what is minimised, logged, saved, drawn and refused."""

import csv
import functools
import math

import pytest
import torch
from lightning import Trainer

import lit_gen.loading
from lit_gen import randomness, schedules
from lit_gen.callbacks.checkpoint import Checkpoint
from lit_gen.data.mnist import MNIST
from lit_gen.data.toy import Toy2D
from lit_gen.errors import NonFiniteLossError, UserError
from lit_gen.protocols import ImageGenerator, LatentVariableModel
from lit_gen.runs import MetricsCSV
from lit_gen.vae import likelihoods, mlp
from lit_gen.vae.bottleneck import GaussianBottleneck
from lit_gen.vae.module import VAE
from lit_gen.vae.objectives import ELBO, IWAE

SHAPE = (1, 28, 28)


def digits(**options):
    return MNIST(embedded=True, **{"batch_size": 16, "binarize": "threshold", **options})


def build(likelihood=None, objective=None, shape=SHAPE, optimizer=None, conditioning="none", **options):
    torch.manual_seed(0)
    classes = None if conditioning == "none" else 10
    encoder = mlp.Encoder(shape, width=16, conditioning=conditioning, num_classes=classes)
    decoder = mlp.Decoder(shape, width=16, conditioning=conditioning, num_classes=classes)
    likelihood = likelihoods.Bernoulli() if likelihood is None else likelihood
    optimizer = optimizer or functools.partial(torch.optim.Adam, lr=1e-3)
    made = {"objective": objective} if objective is not None else {}
    return VAE(encoder, decoder, GaussianBottleneck(3), likelihood, optimizer=optimizer, **made, **options)


def fit(model, data, steps, folder, ckpt_path=None, log_every=1, **options):
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=[MetricsCSV(str(folder))],
        callbacks=[Checkpoint(every=0, keep=0)],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=log_every,
        default_root_dir=folder,
        check_val_every_n_epoch=None,
        **{"limit_val_batches": 0, **options},
    )
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return trainer


def rows(folder):
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def test_the_loss_is_distortion_and_weighted_rate(tmp_path):
    fit(build(objective=ELBO(beta=schedules.Linear(0.0, 1.0, 4))), digits(), 4, tmp_path)
    for i, row in enumerate(rows(tmp_path)):
        assert row["train/beta_effective"] == pytest.approx(i / 4)
        expected = row["train/distortion"] + row["train/beta_effective"] * row["train/rate"]
        assert row["train/loss"] == pytest.approx(expected, rel=1e-5)
        assert row["train/images_seen"] == 16 * (i + 1)


def test_the_held_out_bound_is_at_beta_one_whatever_is_minimised(tmp_path):
    found = []
    for name, objective in (("beta", ELBO(beta=50.0)), ("free", ELBO(free_bits=3.0)), ("iwae", IWAE(4)), ("one", None)):
        data, model = digits(), build(objective=objective, optimizer=functools.partial(torch.optim.SGD, lr=0.0))
        trainer = fit(model, data, 1, tmp_path / name, limit_val_batches=1.0, val_check_interval=1)
        found.append({k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")})
    assert found[0] == found[1] == found[2] == found[3]
    assert found[0]["val/elbo"] == pytest.approx(-found[0]["val/distortion"] - found[0]["val/rate"])
    held_out = digits().split("val")
    images = held_out.images.float() / 127.5 - 1
    noise = randomness.latents(0, torch.arange(1000), 3, "validation")
    with torch.no_grad():
        code = model.encode(images, noise)
        elbo = model.decode(code.z).log_prob(images) - code.nats
    assert found[0]["val/elbo"] == pytest.approx(float(elbo.mean()), rel=1e-5)
    bits = -found[0]["val/elbo"] / (784 * math.log(2))
    assert found[0]["val/bits_per_dim"] == pytest.approx(bits, rel=1e-5)


def test_it_learns(tmp_path):
    fit(build(), digits(), 60, tmp_path, log_every=20)
    losses = [row["train/loss"] for row in rows(tmp_path)]
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.parametrize(
    ("likelihood", "objective"),
    [
        (likelihoods.Bernoulli, ELBO(free_bits=0.1)),
        (likelihoods.Gaussian, IWAE(3, dreg=True)),
        (likelihoods.DiscretizedLogistic, ELBO(beta=schedules.Cyclical(0.0, 1.0, 8, cycles=2))),
    ],
)
def test_a_resumed_run_ends_as_the_undisturbed_one(tmp_path, likelihood, objective):
    options = {"accumulate_grad_batches": 2, "log_every": 3}

    def made():
        schedule = schedules.Cosine(1.0, 0.0, 8)
        return build(likelihood(), objective, schedule=schedule), digits(binarize="dynamic", batch_size=8)

    whole, data = made()
    fit(whole, data, 8, tmp_path / "whole", **options)
    first, data = made()
    fit(first, data, 4, tmp_path / "parts", **options)  # between two log entries
    second, data = made()
    torch.manual_seed(99)
    fit(second, data, 8, tmp_path / "parts", ckpt_path=tmp_path / "parts/checkpoints/step=00000004.ckpt", **options)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_accumulated_micro_batches_are_one_batch(tmp_path):
    ends = []
    for folder, batch, accumulate in (("one", 16, 1), ("four", 4, 4)):
        model = build(optimizer=functools.partial(torch.optim.SGD, lr=1e-4))
        data = digits(batch_size=batch, binarize="dynamic")
        trainer = fit(model, data, 5, tmp_path / folder, accumulate_grad_batches=accumulate)
        assert trainer.global_step == 5
        ends.append(model.state_dict())
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=1e-4, atol=1e-6, msg=name)
    one, four = (rows(tmp_path / folder) for folder in ("one", "four"))
    for a, b in zip(one, four, strict=True):
        assert b == pytest.approx(a, rel=1e-4)


def test_draws_depend_on_their_index_alone(tmp_path):
    model = build(conditioning="concat")
    assert isinstance(model, ImageGenerator)
    assert isinstance(model, LatentVariableModel)
    labels = torch.arange(100) % 10
    whole = model.sample(torch.arange(100), labels=labels)
    assert whole.shape == (100, 1, 28, 28)
    assert whole.min() >= -1
    assert whole.max() <= 1
    some = torch.tensor([70, 3, 70])
    assert torch.equal(model.sample(some, labels=labels[some]), whole[some])
    assert not torch.equal(model.sample(some, labels=labels[some] + 1), whole[some])
    paths = model.interpolate(torch.arange(2), torch.arange(2, 4), 5)
    assert paths.shape == (2, 5, 1, 28, 28)


def test_a_checkpoint_alone_rebuilds_the_model(tmp_path):
    model = build(likelihoods.Gaussian("learned"), ELBO(beta=schedules.Linear(0.0, 2.0, 5)))
    fit(model, digits(binarize="grey"), 3, tmp_path)
    opened = lit_gen.loading.load(tmp_path / "checkpoints/step=00000003.ckpt")
    assert torch.equal(opened.sample(8), model.eval().sample(torch.arange(8)))
    assert opened.model.objective.beta.end == 2.0


def test_a_conditional_model_learns_the_shares_of_the_classes(tmp_path):
    model = build(conditioning="concat")
    fit(model, digits(), 2, tmp_path)
    assert model.label_counts.tolist() == [400.0] * 10


def test_points_have_a_gaussian(tmp_path):
    model = build(likelihoods.Gaussian(0.1), shape=(2, 1, 1))
    fit(model, Toy2D(size=500, batch_size=16), 3, tmp_path)
    assert model.sample(torch.arange(4)).shape == (4, 2, 1, 1)


@pytest.mark.parametrize("where", ["distortion", "rate"])
def test_a_term_that_is_not_finite_is_named(tmp_path, where):
    model = build()
    with torch.no_grad():
        if where == "rate":  # a posterior mean that overflows when squared
            model.encoder.layers[-1].bias.fill_(1e30)
        else:
            model.decoder.layers[-1].bias.fill_(math.nan)
    if where == "rate":
        model.decoder.register_forward_pre_hook(lambda _, args: (args[0] * 0, *args[1:]))
    with pytest.raises(NonFiniteLossError, match=f"the {where} became NaN or infinite at step 1"):
        fit(model, digits(), 2, tmp_path)


def test_a_held_out_term_that_is_not_finite_is_named(tmp_path):
    model, trainer = build(), Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    with torch.no_grad():
        model.decoder.layers[-1].bias.fill_(math.nan)
    with pytest.raises(NonFiniteLossError, match="val/distortion is NaN or infinite"):
        trainer.validate(model, datamodule=digits(), verbose=False)


def test_grey_images_are_no_bernoulli_draws(tmp_path):
    with pytest.raises(UserError, match=r"Bernoulli.*data\.binarize"):
        fit(build(), digits(binarize="grey"), 1, tmp_path)


def test_a_decoder_for_other_images_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"model\.decoder: it makes images of shape \(1, 32, 32\)"):
        fit(build(shape=(1, 32, 32)), digits(), 1, tmp_path)


def test_an_optimizer_that_cannot_be_made_is_named(tmp_path):
    with pytest.raises(UserError, match=r"model\.optimizer: .*learning rate"):
        fit(build(optimizer=functools.partial(torch.optim.Adam, lr=-1.0)), digits(), 1, tmp_path)
