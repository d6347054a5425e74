"""The training step of a VAE as a system: what is minimized, logged, saved, drawn and refused."""

import functools
import math

import pytest
import torch
from lightning import LightningDataModule, Trainer
from support.fitting import fit, rows
from support.vae import SHAPE, digits
from torch import nn
from torch.utils.data import DataLoader

import lit_gen.runs.opened
from lit_gen.callbacks.evaluators.likelihood import ImportanceNLL
from lit_gen.callbacks.latent_pictures import LatentPictures
from lit_gen.core import randomness
from lit_gen.core.errors import NonFiniteLossError, UserError
from lit_gen.core.images import to_float
from lit_gen.data.images.digits8 import Digits8
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.toy import Toy2D
from lit_gen.models.likelihoods.bernoulli import Bernoulli
from lit_gen.models.likelihoods.gaussian import Gaussian
from lit_gen.models.likelihoods.logistic import DiscretizedLogistic
from lit_gen.models.vae import mlp
from lit_gen.models.vae.bottleneck import GaussianBottleneck
from lit_gen.models.vae.module import VAE
from lit_gen.models.vae.objectives import ELBO, IWAE
from lit_gen.protocols.images import ImageBatch, ImageGenerator
from lit_gen.protocols.latents import LatentVariableModel
from lit_gen.training import schedules


def build(likelihood=None, objective=None, shape=SHAPE, optimizer=None, conditioning="none", **options):
    torch.manual_seed(0)
    classes = None if conditioning == "none" else 10
    encoder = mlp.Encoder(shape, width=16, conditioning=conditioning, num_classes=classes)
    decoder = mlp.Decoder(shape, width=16, conditioning=conditioning, num_classes=classes)
    likelihood = Bernoulli() if likelihood is None else likelihood
    optimizer = optimizer or functools.partial(torch.optim.Adam, lr=1e-3)
    made = {"objective": objective} if objective is not None else {}
    return VAE(encoder, decoder, GaussianBottleneck(3), likelihood, optimizer=optimizer, **made, **options)


def test_the_loss_is_distortion_and_weighted_rate(tmp_path):
    fit(build(objective=ELBO(beta=schedules.Linear(0.0, 1.0, 4))), digits(), 4, tmp_path)
    for i, row in enumerate(rows(tmp_path)):
        assert row["train/beta_effective"] == pytest.approx(i / 4)
        expected = row["train/distortion"] + row["train/beta_effective"] * row["train/rate"]
        assert row["train/loss"] == pytest.approx(expected, rel=1e-5)
        assert row["train/images_seen"] == 16 * (i + 1)


def test_the_held_out_bound_is_at_beta_one_whatever_is_minimized(tmp_path):
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


def test_bits_of_a_density_are_by_the_levels_of_the_data(tmp_path):
    model = build(Gaussian(0.5), shape=(1, 8, 8))
    trainer = fit(model, Digits8(batch_size=20), 1, tmp_path, limit_val_batches=1.0, val_check_interval=1)
    bits = -float(trainer.callback_metrics["val/elbo"]) / (64 * math.log(2)) + math.log2(17 / 2)
    assert float(trainer.callback_metrics["val/bits_per_dim"]) == pytest.approx(bits, rel=1e-6)


def test_it_learns(tmp_path):
    fit(build(), digits(), 60, tmp_path, log_every=20)
    losses = [row["train/loss"] for row in rows(tmp_path)]
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.parametrize(
    ("likelihood", "objective"),
    [
        (Bernoulli, ELBO(free_bits=0.1)),
        (Gaussian, IWAE(3, dreg=True)),
        (DiscretizedLogistic, ELBO(beta=schedules.Cyclical(0.0, 1.0, 8, cycles=2))),
    ],
)
def test_a_resumed_run_ends_as_the_undisturbed_one(tmp_path, likelihood, objective):
    options = {"log_every": 3}

    def made():
        data = digits(binarize="dynamic", batch_size=16, device_batch_size=8)
        return build(likelihood(), objective, schedule=schedules.Cosine(1.0, 0.0, 8)), data

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


@pytest.mark.parametrize("objective", [ELBO(), IWAE(3)], ids=["elbo", "iwae"])
def test_micro_batches_are_one_batch(tmp_path, objective):
    ends = []
    for folder, most in (("one", None), ("four", 4)):
        model = build(objective=objective, optimizer=functools.partial(torch.optim.SGD, lr=1e-4))
        data = digits(batch_size=16, device_batch_size=most, binarize="dynamic")
        trainer = fit(model, data, 5, tmp_path / folder)
        assert trainer.global_step == 5
        ends.append(model.state_dict())
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=1e-4, atol=1e-6, msg=name)
    one, four = (rows(tmp_path / folder) for folder in ("one", "four"))
    assert ("train/effective_samples" in one[0]) == isinstance(objective, IWAE)
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


def test_drawing_leaves_the_mode_of_each_part():
    model = build()
    model.likelihood.eval()
    before = [part.training for part in model.modules()]
    model.sample(torch.arange(2))
    model.interpolate(torch.arange(1), torch.arange(1, 2), 3)
    assert [part.training for part in model.modules()] == before
    model.eval().sample(torch.arange(2))
    assert not any(part.training for part in model.modules())


def test_a_checkpoint_alone_rebuilds_the_model(tmp_path):
    model = build(Gaussian("learned"), ELBO(beta=schedules.Linear(0.0, 2.0, 5)))
    fit(model, digits(binarize="grey"), 3, tmp_path)
    opened = lit_gen.runs.opened.load(tmp_path / "checkpoints/step=00000003.ckpt")
    assert torch.equal(opened.sample(8), model.eval().sample(torch.arange(8)))
    assert opened.model.objective.beta.end == 2.0


def test_a_conditional_model_learns_the_shares_of_the_classes(tmp_path):
    model = build(conditioning="concat")
    fit(model, digits(), 2, tmp_path)
    assert model.label_counts.tolist() == [400.0] * 10


def test_points_have_a_gaussian(tmp_path):
    model = build(Gaussian(0.1), shape=(2, 1, 1))
    trainer = fit(model, Toy2D(size=500, batch_size=16), 3, tmp_path, limit_val_batches=1.0, val_check_interval=3)
    assert "val/elbo" in trainer.callback_metrics
    assert "val/bits_per_dim" not in trainer.callback_metrics  # they have no levels
    assert model.sample(torch.arange(4)).shape == (4, 2, 1, 1)


def broken(where):
    """A NaN of the encoder's passes through the decoder as well: both terms have it, the rate is where it began."""
    model = build()
    with torch.no_grad():
        (model.encoder if where == "rate" else model.decoder).layers[-1].bias.fill_(math.nan)
    return model


@pytest.mark.parametrize("where", ["distortion", "rate"])
def test_a_term_that_is_not_finite_is_named(tmp_path, where):
    model = broken(where)
    with pytest.raises(NonFiniteLossError, match=f"the {where} became NaN or infinite at step 1"):
        fit(model, digits(), 2, tmp_path)


def evaluator(**options):
    return Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, **options)


@pytest.mark.parametrize("where", ["distortion", "rate"])
def test_a_held_out_term_that_is_not_finite_is_named(where):
    with pytest.raises(NonFiniteLossError, match=f"val/{where} is NaN or infinite"):
        evaluator().validate(broken(where), datamodule=digits(), verbose=False)


def test_grey_images_are_no_bernoulli_draws(tmp_path):
    with pytest.raises(UserError, match=r"Bernoulli.*data\.binarize"):
        fit(build(), digits(binarize="grey"), 1, tmp_path)


GREY = r"Bernoulli: grey values were found \(for example -0.95\)"


def with_one_grey(split):
    data = digits()
    data.split(split).images[-1, 0, 0, 0] = 7
    return data


def test_grey_images_anywhere_in_the_training_set_are_found_before_the_first_step(tmp_path):
    with pytest.raises(UserError, match=GREY):
        fit(build(), with_one_grey("train"), 1, tmp_path)
    assert not (tmp_path / "metrics.csv").exists()


@pytest.mark.parametrize("split", ["val", "test"])
def test_grey_images_anywhere_in_a_held_out_split_are_found(split):
    trainer, data = evaluator(), with_one_grey(split)
    evaluate = trainer.validate if split == "val" else trainer.test
    with pytest.raises(UserError, match=GREY):
        evaluate(build(), datamodule=data, verbose=False)
    with pytest.raises(UserError, match=GREY):
        build().log_weights(to_float(data.split(split).images[-2:].clone()), torch.zeros(2, 4, 3))


class Batches(LightningDataModule):
    """Batches that no split tells of: the second one has a grey pixel."""

    def __init__(self, first_grey):
        super().__init__()
        images = -torch.ones(64, *SHAPE)
        images[first_grey, 0, 0, 0] = 7 / 127.5 - 1
        self.loader = [ImageBatch(x, None, torch.arange(16)) for x in images.split(16)]

    def train_dataloader(self):
        return DataLoader(self.loader, batch_size=None)

    val_dataloader = train_dataloader


class Promising(Batches):
    """A split of binary images, and batches that are made otherwise."""

    def split(self, name):
        return ImageSet(torch.zeros(64, *SHAPE, dtype=torch.uint8))


@pytest.mark.parametrize(("data", "grey"), [(Batches, 40), (Promising, 3)])
def test_grey_images_in_batches_that_could_not_be_looked_at_before_are_found(tmp_path, data, grey):
    with pytest.raises(UserError, match=GREY):
        fit(build(), data(grey), 4, tmp_path)


def test_half_precision_has_the_same_bound_or_is_refused(tmp_path):
    options = {"limit_val_batches": 1.0, "val_check_interval": 2}
    found = []
    for precision in ("32-true", "bf16-true"):
        trainer = fit(
            build(), digits(), 2, tmp_path / precision, [ImportanceNLL(2, count=64), LatentPictures(images=64)],
            precision=precision, **options,
        )  # fmt: skip
        found.append({k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")})
    assert trainer.lightning_module.decoder.layers[0].weight.dtype == torch.bfloat16
    assert found[0].keys() == found[1].keys()
    assert found[1]["val/elbo"] == pytest.approx(found[0]["val/elbo"], rel=0.01)
    assert found[1]["val/nll_iw2_count64"] == pytest.approx(found[0]["val/nll_iw2_count64"], rel=0.01)
    told = "trainer.precision: bf16-true was found, which rounds all images but binary ones; bf16-mixed or 32-true"
    with pytest.raises(UserError, match=told):
        fit(build(Gaussian()), digits(binarize="grey"), 1, tmp_path / "grey", precision="bf16-true")


class Small(nn.Module):
    """A decoder of eight latents, which does not say so."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 784)

    def forward(self, z):
        return self.layer(z).unflatten(1, SHAPE)


def test_a_decoder_for_other_latents_is_refused(tmp_path):
    model = VAE(mlp.Encoder(SHAPE, width=16), Small(), GaussianBottleneck(16), Bernoulli())
    told = r"model.decoder: .*, line \d+, in Small.forward: .*64x16.* as model.bottleneck.latent_dim 16 has them"
    with pytest.raises(UserError, match=told):
        fit(model, digits(), 1, tmp_path)


def test_a_decoder_for_other_images_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"model\.decoder: Decoder makes images of shape \(1, 32, 32\)"):
        fit(build(shape=(1, 32, 32)), digits(), 1, tmp_path)


def test_an_optimizer_that_cannot_be_made_is_named(tmp_path):
    with pytest.raises(UserError, match=r"model\.optimizer: .*learning rate"):
        fit(build(optimizer=functools.partial(torch.optim.Adam, lr=-1.0)), digits(), 1, tmp_path)


def test_validation_is_without_autocast(tmp_path):
    """As every other evaluation: the bound of a run in bfloat16 is that of its float32 weights."""
    found = []
    for precision in ("32-true", "bf16-mixed"):
        trainer = Trainer(
            accelerator="cpu", precision=precision, logger=False, default_root_dir=tmp_path, limit_val_batches=2,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.validate(build(), datamodule=digits(), verbose=False)
        found.append(dict(trainer.callback_metrics))
    assert found[0]
    assert found[0] == found[1]
