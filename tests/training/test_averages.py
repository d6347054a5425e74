"""Averaged weights and scheduled numbers in the families that lightning optimizes: when they move, what is of them."""

import functools
import json

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import FSDPStrategy
from support import lm
from support.fitting import fit, rows
from support.vae import SHAPE, digits

import lit_gen
from lit_gen.callbacks.evaluators.latents import LatentDiagnostics
from lit_gen.callbacks.evaluators.likelihood import ImportanceNLL
from lit_gen.callbacks.evaluators.perplexity import Perplexity
from lit_gen.core import randomness
from lit_gen.core.errors import UserError
from lit_gen.models.likelihoods.gaussian import Gaussian
from lit_gen.models.vae import mlp
from lit_gen.models.vae.bottleneck import GaussianBottleneck
from lit_gen.models.vae.module import VAE
from lit_gen.models.vae.objectives import ELBO
from lit_gen.training.ema import EMA
from lit_gen.training.module import TrainingModule
from lit_gen.training.schedules import Cosine, Linear

ADAM = functools.partial(torch.optim.Adam, lr=3e-3)
NAMES = {"lm": ("network",), "vae": ("encoder", "decoder", "bottleneck", "likelihood")}
PER_STEP = {"lm": 8 * 16, "vae": 16}  # tokens, images; of two micro-batches


def made(family, micro_batches=1, **options):
    """A small model and its data."""
    if family == "lm":
        data = lm.corpus(device_batch_size=8 // micro_batches)
        return lm.build(data, dropout=0.2, **options), data
    torch.manual_seed(0)
    encoder, decoder = mlp.Encoder(SHAPE, width=16), mlp.Decoder(SHAPE, width=16)
    model = VAE(encoder, decoder, GaussianBottleneck(3), Gaussian(), optimizer=ADAM, **options)
    return model, digits(binarize="grey", device_batch_size=16 // micro_batches)


def weights(model, family, prefix=""):
    networks = [getattr(model, f"{prefix}{name}") for name in NAMES[family]]
    return torch.cat([p.detach().flatten() for network in networks for p in network.parameters()])


class Noted(Callback):
    """Raw and averaged weights after each step, and the average when a log entry is written."""

    def __init__(self, family):
        self.family, self.after, self.logged = family, [], []

    def on_fit_start(self, trainer, module):
        log = module.log_scalars

        def noting(*arguments):
            self.logged.append(weights(module, self.family, "ema_"))
            log(*arguments)

        module.log_scalars = noting

    def on_train_batch_end(self, trainer, module, *args):
        self.after.append((weights(module, self.family), weights(module, self.family, "ema_")))


def half_life_of(samples):
    return lambda step: 0.5 ** (samples / min(100.0, 0.5 * samples * step)) if step else 0.0


OPTIONS = {
    "decay": (EMA(0.6), None, lambda family: lambda step: min(0.6, (1 + step) / (10 + step))),
    "half-life": (EMA(half_life=100, ramp=0.5), None, lambda family: half_life_of(PER_STEP[family])),
    "scheduled": (
        EMA(), {"ema.decay": Linear(0, 1, 10)}, lambda family: lambda step: min(step / 10, (1 + step) / (10 + step)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("family", NAMES)
def test_the_average_moves_once_per_step(tmp_path, family, option):
    ema, schedules, decay_in = OPTIONS[option]
    model, data = made(family, 2, ema=ema, schedules=schedules)
    average, decay, noted = weights(model, family), decay_in(family), Noted(family)
    assert torch.equal(average, weights(model, family, "ema_"))
    fit(model, data, 5, tmp_path, [noted])
    assert len(noted.after) == 5
    for step, (raw, found) in enumerate(noted.after):
        average = decay(step) * average + (1 - decay(step)) * raw
        torch.testing.assert_close(found, average, rtol=1e-5, atol=1e-7)
    assert not torch.equal(average, raw)
    assert all(torch.equal(a, b) for a, (_, b) in zip(noted.logged, noted.after, strict=True)), "log before move"


@pytest.mark.parametrize("family", NAMES)
def test_averages_are_frozen_in_evaluation_mode_and_saved(tmp_path, family):
    model, data = made(family, ema=EMA(0.5))
    fit(model, data, 2, tmp_path)
    model.train()
    averages = [getattr(model, f"ema_{name}") for name in NAMES[family]]
    assert not any(part.training for average in averages for part in average.modules())
    assert not any(p.requires_grad for average in averages for p in average.parameters())
    trained = {id(p) for group in model.optimizers().param_groups for p in group["params"]}
    assert trained == {id(p) for name in NAMES[family] for p in getattr(model, name).parameters()}
    assert model.ema == EMA(0.5)
    again = lit_gen.load(tmp_path / "checkpoints/step=00000002.ckpt").model
    assert again.averaged
    assert again.ema == EMA(0.5)
    assert torch.equal(weights(again, family, "ema_"), weights(model, family, "ema_"))
    without, _ = made(family)
    assert not without.averaged
    assert all(getattr(without, f"ema_{name}") is None for name in NAMES[family])


@pytest.mark.parametrize("family", NAMES)
def test_a_resumed_run_is_bit_equal(tmp_path, family):
    scheduled = {"ema.half_life": Linear(100, 1000, 6), "optimizer.lr": Cosine(3e-3, 1e-3, 6, warmup=2)}
    scheduled |= {"objective.beta": Linear(0, 1, 5)} if family == "vae" else {}
    options = {"log_every": 3}

    def run(folder, steps, **more):
        model, data = made(family, 2, ema=EMA(half_life=500), schedules=scheduled)
        fit(model, data, steps, tmp_path / folder, **options, **more)
        return model

    whole = run("whole", 8)
    run("parts", 4)  # between two log entries
    parts = run("parts", 8, ckpt_path=tmp_path / "parts/checkpoints/step=00000004.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


@pytest.mark.parametrize("family", NAMES)
def test_schedules_set_and_log_numbers_at_each_step(tmp_path, family):
    scheduled = {"optimizer.lr": Linear(1e-3, 0, 4)} | ({"objective.beta": Linear(2, 0, 4)} if family == "vae" else {})
    model, data = made(family, schedules=scheduled)
    assert {f"train/{name}" for name in scheduled} < set(model.announced(0))
    fit(model, data, 6, tmp_path)
    for step, row in enumerate(rows(tmp_path)):
        left = max(0.0, 1 - step / 4)
        assert row["train/optimizer.lr"] == row["train/lr"] == pytest.approx(1e-3 * left)
        if family == "vae":
            assert row["train/objective.beta"] == row["train/beta_effective"] == pytest.approx(2 * left)
            loss = row["train/distortion"] + 2 * left * row["train/rate"]
            assert row["train/loss"] == pytest.approx(loss, rel=1e-5)
    assert {group["lr"] for group in model.optimizers().param_groups} == {0.0}


@pytest.mark.parametrize(
    ("family", "options", "told"),
    [
        ("lm", {"schedule": Linear(1, 0, 4), "scheduled": "optimizer.lr"}, "optimizer.lr has a schedule already"),
        ("vae", {"schedule": Linear(1, 0, 4), "scheduled": "optimizer.lr"}, "optimizer.lr has a schedule already"),
        ("vae", {"objective": ELBO(Linear(0, 1, 4)), "scheduled": "objective.beta"}, "objective.beta has a schedule"),
        ("vae", {"objective": ELBO(capacity=Linear(0, 1, 4)), "scheduled": "objective.beta"}, "has no effect beside"),
        ("lm", {"scheduled": "ema.decay"}, r"ema.decay names no 'ema'"),
        ("lm", {"ema": EMA(), "scheduled": "ema.half_life"}, "ema.half_life is no number that can be set"),
        ("vae", {"scheduled": "objective.betta"}, "did you mean 'beta'?"),
        ("vae", {"scheduled": "optimiser.lr"}, "did you mean 'optimizer'?"),
    ],
)
def test_what_cannot_be_scheduled_is_refused_at_once(family, options, told):
    options = dict(options)
    with pytest.raises(UserError, match=rf"model.schedules: .*{told}"):
        made(family, schedules={options.pop("scheduled"): Linear(1, 0, 4)}, **options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"decay": -0.1}, r"model.ema.decay: -0.1 was found, a number in \[0, 1\)"),
        ({"decay": 1.0}, r"model.ema.decay: 1.0"),
        ({"half_life": 0.0}, "model.ema.half_life: 0.0 was found, a number above 0"),
        ({"ramp": 2.0}, r"model.ema.ramp: 2.0 was found, a number in \[0, 1\]"),
        ({"decay": None}, "model.ema: neither decay nor half_life was found"),
    ],
)
def test_numbers_out_of_range(options, told):
    with pytest.raises(UserError, match=told):
        EMA(**options)
    with pytest.raises(UserError, match=r"model.schedules.ema.decay.end: 2 was found"):
        made("lm", ema=EMA(), schedules={"ema.decay": Linear(0, 2, 4)})


def test_a_schedule_does_not_change_the_default_of_other_models(tmp_path):
    option = EMA(0.5)
    model, data = made("vae", ema=option, schedules={"ema.decay": Linear(0, 0.1, 4)})
    fit(model, data, 2, tmp_path)
    assert model.ema.decay == pytest.approx(0.025)
    assert option == EMA(0.5)


class Tied(TrainingModule):
    """Two networks with one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (torch.nn.Linear(2, 2, bias=False) for _ in range(2))
        self.second.weight = self.first.weight
        self.keep_average(EMA(0.75), "first", "second")


def test_a_weight_that_two_networks_share_moves_once():
    model = Tied()
    assert model.ema_first.weight is model.ema_second.weight
    before = model.first.weight.detach().clone()
    with torch.no_grad():
        model.first.weight += 1
    model.move_average(100)
    assert torch.allclose(model.ema_second.weight, before + 0.25)
    assert model.weighted("first", "ema") is model.ema_first
    assert model.weighted("first", "raw") is model.first


class Sharding:
    """As much of a trainer as says that its strategy shards weights."""

    accumulate_grad_batches = world_size = 1
    strategy = FSDPStrategy()


def test_sharded_weights_have_no_average():
    model, trainer = made("lm", ema=EMA())[0], Sharding()
    model.trainer = trainer
    with pytest.raises(UserError, match=r"model.ema: null is expected with FSDPStrategy, which shards the weights"):
        model.on_fit_start()


# ---- what is of which weights


def records(folder):
    return {path.stem.partition("-")[2]: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("eval/*")
            if path.suffix == ".json"}  # fmt: skip


def test_texts_and_perplexity_of_raw_weights_have_their_names(tmp_path):
    model, data = made("lm", ema=EMA(0.9))
    evaluators = [Perplexity(), Perplexity(weights="raw"), Perplexity(context=8, weights="raw")]
    fit(model, data, 6, tmp_path, evaluators)
    found = records(tmp_path)
    values = {name: value for record in found.values() for name, value in record["values"].items()}
    assert {"val/perplexity", "val/perplexity_raw", "val/loss_raw", "val/bits_per_byte_context8_raw"} < set(values)
    tokens = next(iter(data.windows("val", 16, 16, 4))).tokens
    for weights_, network in (("ema", model.ema_network), ("raw", model.network)):
        logits = network.eval()(tokens[:, :-1])
        expected = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
        torch.testing.assert_close(model.nll(tokens, weights_), expected)
    assert abs(values["val/loss"] - values["val/loss_raw"]) > 1e-3
    assert [found[f"val-perplexity{s}"]["protocol"]["weights"] for s in ("", "-raw")] == ["ema", "raw"]
    texts = [model.write(["a"], max_new_tokens=40, weights=w) for w in ("ema", "raw")]
    assert texts[0] == model.write(["a"], max_new_tokens=40)
    assert texts[0] != texts[1]


def test_validation_of_a_language_model_is_of_the_average(tmp_path):
    logged = []
    for folder, w in (("callback", "ema"), ("module", "raw")):  # the second one does not log val/loss
        model, data = made("lm", ema=EMA(0.9))
        options = {"limit_val_batches": 1.0, "val_check_interval": 6}
        trainer = fit(model, data, 6, tmp_path / folder, [Perplexity(weights=w)], **options)
        logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})
    assert logged[1]["val/loss"] == pytest.approx(logged[0]["val/loss"], rel=1e-6)
    assert abs(logged[1]["val/loss_raw"] - logged[0]["val/loss"]) > 1e-3


def test_images_bounds_and_latents_of_raw_weights_have_their_names(tmp_path):
    model, data = made("vae", ema=EMA(0.9))
    callbacks = [
        ImportanceNLL(samples=2, count=64), ImportanceNLL(samples=2, count=64, weights="raw"),
        LatentDiagnostics(), LatentDiagnostics(weights="raw"),
    ]  # fmt: skip
    trainer = fit(model, data, 6, tmp_path, callbacks, limit_val_batches=1.0, val_check_interval=6)
    found = records(tmp_path)
    values = {name: value for record in found.values() for name, value in record["values"].items()}
    for plain, raw in (
        ("val/nll_iw2_count64", "val/nll_iw2_count64_raw"),
        ("val/ess_iw2_count64", "val/ess_iw2_count64_raw"),
        ("val/kl_sum", "val/kl_sum_raw"),
    ):
        assert abs(values[plain] - values[raw]) > 1e-3 * abs(values[raw])
    announced = [f"val/{name}" for callback in callbacks for name in callback.announced(data)]
    assert set(values) == set(announced)
    assert {name: record["protocol"]["weights"] for name, record in found.items()} == {
        "val-nll-iw2-count64": "ema", "val-nll-iw2-count64-raw": "raw", "val-latents": "ema", "val-latents-raw": "raw",
    }  # fmt: skip
    indices = torch.arange(3)
    assert torch.equal(model.sample(indices), model.sample(indices, weights="ema"))
    assert not torch.allclose(model.sample(indices), model.sample(indices, weights="raw"))
    images = data.split("val").images.float() / 127.5 - 1
    noise = randomness.latents(0, torch.arange(1000), 3, "validation")
    with torch.no_grad():
        code = model.ema_bottleneck(model.ema_encoder(images), noise)
        elbo = model.ema_likelihood(model.ema_decoder(code.z)).log_prob(images) - code.nats
    assert float(trainer.callback_metrics["val/elbo"]) == pytest.approx(float(elbo.mean()), rel=1e-5)


def test_a_model_without_an_average_records_that_it_is_raw(tmp_path):
    for family, callback in (("lm", Perplexity()), ("vae", LatentDiagnostics())):
        model, data = made(family)
        fit(model, data, 1, tmp_path / family, [callback])
        (record,) = records(tmp_path / family).values()
        assert record["protocol"]["weights"] == "raw (the run keeps no average)"


def test_an_average_that_could_not_move_is_refused(tmp_path):
    """1 - decay is less than the spacing of bfloat16."""
    model, data = made("lm", ema=EMA())
    with pytest.raises(UserError, match=r"trainer\.precision: bf16-true was found, in which an average"):
        fit(model, data, 1, tmp_path, precision="bf16-true")
    assert not (tmp_path / "checkpoints").exists()


def test_a_half_life_needs_data_that_count():
    model, _ = made("vae", ema=EMA(half_life=100))
    model.trainer = type("Trainer", (), {"datamodule": object(), "world_size": 1})()
    with pytest.raises(UserError, match=r"model\.ema\.half_life: object does not say how many samples a step has"):
        model.move_average(0)


class Learned(ELBO, torch.nn.Module):
    """An objective with a number of its own, which is trained."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        ELBO.__init__(self)
        self.scale = torch.nn.Parameter(torch.zeros(()))

    def __call__(self, *arguments):
        terms = super().__call__(*arguments)
        return terms._replace(loss=terms.loss + (self.scale - 1) ** 2)


def test_parameters_of_an_objective_are_trained_and_averages_are_not():
    model, _ = made("vae", ema=EMA(), objective=Learned())
    trained = {id(p) for group in model.configure_optimizers().param_groups for p in group["params"]}
    named = dict(model.named_parameters())
    assert {name for name, p in named.items() if id(p) not in trained} == {n for n in named if n.startswith("ema_")}
    assert id(model.objective.scale) in trained
