"""The option ``finetune`` of every family's module: frozen parameters and rates of their own."""

import copy
import functools

import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from support import diffusion, flow, gan, image_to_image, lm, vae
from support.adapters import fit
from torch import nn
from torch.nn import functional as F

from lit_gen.core.errors import UserError
from lit_gen.data.images.degradations import GaussianNoise
from lit_gen.data.images.digits8 import Digits8
from lit_gen.data.images.toy import Toy2D
from lit_gen.data.pairs.degraded import Degraded
from lit_gen.models.flow.glow import Glow
from lit_gen.models.gan import mlp as gan_mlp
from lit_gen.models.gan.module import GAN
from lit_gen.models.likelihoods.bernoulli import Bernoulli
from lit_gen.models.vae import mlp
from lit_gen.models.vae.bottleneck import GaussianBottleneck
from lit_gen.models.vae.module import VAE
from lit_gen.runs.opened import load
from lit_gen.training.adapters.lora import LoRA
from lit_gen.training.ema import EMA
from lit_gen.training.finetune import FineTune
from lit_gen.training.optimizers import MuonAdamW
from lit_gen.training.schedules import Cosine, Linear

EMA_ = EMA(decay=0.5)


def of_lm(finetune):
    data = lm.corpus()
    return lm.build(data, finetune=finetune, ema=EMA_), data


def of_gan(finetune):
    adam = functools.partial(torch.optim.Adam, lr=1e-2)
    return gan.build(finetune=finetune, ema=EMA_, optimizer=adam), Toy2D(size=256, batch_size=32)


def of_diffusion(finetune):
    return diffusion.build(finetune=finetune, ema=EMA_), Digits8(batch_size=20)


def of_vae(finetune):
    torch.manual_seed(0)
    networks = [network(vae.SHAPE, width=8) for network in (mlp.Encoder, mlp.Decoder)]
    return VAE(*networks, GaussianBottleneck(3), Bernoulli(), finetune=finetune, ema=EMA_), vae.digits()


def of_flow(finetune):
    torch.manual_seed(0)
    model = flow.build(flow.scattered(Glow((1, 8, 8), steps=1, width=8)), finetune=finetune, ema=EMA_)
    model.initialized.fill_(True)  # as after training: the first batch sets norms otherwise
    return model, Digits8(batch_size=20)


def of_pairs(finetune):
    game = {"discriminator": image_to_image.Patches(2), "finetune": finetune, "ema": EMA_}
    return image_to_image.build(**game), Degraded(Digits8(batch_size=20), GaussianNoise(50))


FAMILIES = {
    "pairs": (of_pairs, ["generator.layers.0.*", "discriminator.*.0.bias"]),
    "lm": (of_lm, ["wte.weight", "network.blocks.0.mlp.*"]),
    "gan": (of_gan, ["discriminator.layers.0.*"]),  # FreezeD
    "diffusion": (of_diffusion, ["*.bias"]),
    "vae": (of_vae, ["encoder.*"]),
    "flow": (of_flow, ["*.first.weight"]),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_parameters_keep_every_bit_and_the_others_move(family, tmp_path):
    make, patterns = FAMILIES[family]
    model, data = make(FineTune(freeze=patterns))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    frozen = {name for name in before if not model.get_parameter(name).requires_grad and not name.startswith("ema_")}
    trainer = fit(model, data, tmp_path)
    assert 0 < len(frozen) < sum(not name.startswith("ema_") for name in before)
    for name, value in before.items():
        moved = not torch.equal(model.get_parameter(name), value)
        assert moved == (name.removeprefix("ema_") not in frozen), name
    held = {id(p) for optimizer in trainer.optimizers for g in optimizer.param_groups for p in g["params"]}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}
    assert all(model.get_parameter(name).grad is None for name in frozen)
    again = load(next((tmp_path / "checkpoints").glob("*.ckpt"))).model
    assert {n for n, p in again.named_parameters() if not p.requires_grad and not n.startswith("ema_")} == frozen


class Judge(nn.Module):
    """Points to logits, with a batch norm and a weight with spectral norm."""

    def __init__(self, affine=True):
        super().__init__()
        self.affine = affine
        self.first = nn.utils.parametrizations.spectral_norm(nn.Linear(2, 6))
        self.norm = nn.BatchNorm1d(6, affine=affine)
        self.second = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))
        self.last_norm = nn.BatchNorm1d(6)
        self.last = nn.Linear(6, 1)

    def forward(self, x, labels=None):
        x = self.norm(self.first(x.flatten(1))).relu()
        return self.last(self.last_norm(self.second(x)).relu()).flatten()


@pytest.mark.parametrize("affine", [True, False], ids=["gains", "no_gains"])
def test_the_statistics_of_frozen_layers_stay(affine, tmp_path):
    torch.manual_seed(0)
    options = FineTune(freeze=["discriminator.first.*", *(["discriminator.norm.*"] if affine else [])])
    networks = gan_mlp.Generator((2, 1, 1), latent_dim=3, width=8), Judge(affine)
    model = GAN(*networks, finetune=options, generator_optimizer=gan.ADAM, discriminator_optimizer=gan.ADAM)
    before = copy.deepcopy(dict(model.discriminator.named_buffers()))
    gan.fit(model, 3, tmp_path)
    moved = {n for n, b in model.discriminator.named_buffers() if not torch.equal(b, before[n])}
    still = {name for name in before if name.startswith(("first", "norm") if affine else "first")}
    assert moved == before.keys() - still
    model.train()
    assert model.discriminator.last_norm.training
    assert model.discriminator.norm.training == (not affine)


class Steps:
    """The batches of a fit, and the weights after it."""

    def __init__(self):
        self.batches = []

    def callback(self):
        return LambdaCallback(on_train_batch_start=lambda t, m, batch, i: self.batches.append(copy.deepcopy(batch)))


def by_hand(network, batches, rates, schedule):
    """AdamW of a language model, one group per parameter."""
    groups = [
        {"params": [p], "lr": 3e-3, "base": 3e-3 * rates(name), "weight_decay": 0.01 if p.ndim > 1 else 0.0}
        for name, p in network.named_parameters()
    ]
    optimizer = torch.optim.AdamW(groups)
    for step, batch in enumerate(batches):
        optimizer.zero_grad()
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * schedule(step)
        logits = network(batch.tokens[:, :-1]).flatten(0, 1)
        F.cross_entropy(logits, batch.tokens[:, 1:].flatten()).backward()
        optimizer.step()
    return network


def rates_of(name):
    return (0.1 if name.startswith("wte") else 1.0) * (0.5 if name.endswith("weight") else 1.0)


RATES = {"wte.*": 0.1, "*.weight": 0.5}
SCHEDULES = {
    "constant": ({}, lambda step: 1.0),
    "factor": ({"schedule": Cosine(1.0, 0.1, 4, warmup=2)}, Cosine(1.0, 0.1, 4, warmup=2)),
    "number": ({"schedules": {"optimizer.lr": Linear(3e-3, 0, 4)}}, Linear(1.0, 0, 4)),
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_rates_are_those_of_a_hand_written_optimizer(kind, tmp_path):
    options, schedule = SCHEDULES[kind]
    model = lm.build(lm.corpus(), finetune=FineTune(rates=RATES), **options)
    network, seen = copy.deepcopy(model.network), Steps()
    fit(model, lm.corpus(), tmp_path, callbacks=[seen.callback()])
    expected = by_hand(network, seen.batches, rates_of, schedule)
    for name, p in model.network.named_parameters():
        torch.testing.assert_close(p, expected.get_parameter(name), rtol=1e-5, atol=1e-7, msg=name)


@pytest.mark.parametrize("optimizer", [lm.ADAMW, functools.partial(MuonAdamW, lr=3e-3, precision="fp32")])
def test_a_resumed_run_keeps_its_rates(optimizer, tmp_path):
    """4 steps are 2 and 2, with a schedule by name, which sets every group."""

    def make():
        options = FineTune(rates=RATES, freeze=["blocks.0.mlp.*"])
        return lm.build(lm.corpus(), optimizer, finetune=options, schedules={"optimizer.lr": Linear(3e-3, 0, 6)})

    whole = make()
    fit(whole, lm.corpus(), tmp_path / "whole", steps=4)
    fit(make(), lm.corpus(), tmp_path / "half", steps=2)
    resumed = make()
    file = tmp_path / "half/checkpoints/step=00000002.ckpt"
    trainer = fit(resumed, lm.corpus(), tmp_path / "more", steps=4, ckpt_path=file)
    for name, p in whole.named_parameters():
        assert torch.equal(p, resumed.get_parameter(name)), name
    for group in trainer.optimizers[0].param_groups:
        torch.testing.assert_close(group["lr"], Linear(3e-3, 0, 6)(3) * group["rate_factor"])
    assert {g["rate_factor"] for g in trainer.optimizers[0].param_groups} >= {0.05, 0.5}


def test_rates_of_both_players(tmp_path):
    """With plain gradient descent a factor is one of the first update."""

    def moved(rates):
        model = gan.build(finetune=FineTune(rates=rates), channels_last=False)
        before = copy.deepcopy(model.state_dict())
        gan.fit(model, 1, tmp_path)
        return {n: p - before[n] for n, p in model.named_parameters() if not n.startswith("ema_")}

    plain, changed = moved(None), moved({"discriminator.layers.0.weight": 4.0})
    for name, change in plain.items():
        if name.startswith("discriminator"):
            factor = 4.0 if name == "discriminator.layers.0.weight" else 1.0
            torch.testing.assert_close(changed[name], factor * change, rtol=1e-4, atol=1e-7)


def test_rates_of_an_adapter(tmp_path):
    """LoRA+ is a factor of B's rate (Hayou et al., 2024, https://arxiv.org/abs/2402.12354)."""
    options = {"adapter": LoRA(r=2), "finetune": FineTune(rates={"*.lora_B": 16.0})}
    trainer = fit(lm.build(lm.corpus(), **options), lm.corpus(), tmp_path, steps=1)
    assert {g["rate_factor"]: g["lr"] for g in trainer.optimizers[0].param_groups} == {1.0: 3e-3, 16.0: 16 * 3e-3}


@pytest.mark.parametrize("pattern", ["table.*", "network.head.weight"])
def test_a_tied_weight_is_matched_by_either_name(pattern):
    network = nn.ModuleDict({"table": nn.Embedding(5, 3), "head": nn.Linear(3, 5), "other": nn.Linear(3, 3)})
    network["head"].weight = network["table"].weight
    FineTune(freeze=[pattern]).apply({"network": network})
    assert {name for name, p in network.named_parameters() if not p.requires_grad} == {"table.weight"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"freeze": ["blocks.0.mpl.*"]},
            r"finetune.freeze: blocks.0.mpl.\* matches no name; the nearest are blocks.0.mlp",
        ),
        ({"freeze": ["*"]}, r"finetune.freeze: \* leaves nothing to train"),
        ({"rates": {"wtf": 2.0}}, r"finetune.rates: wtf matches no name; the nearest are wte"),
        ({"rates": {"*": 0.0}}, r"finetune.rates.\*: 0.0 was found, a number above 0 is expected"),
        ({"rates": {"wte.*": 2.0}, "freeze": ["wte.*"]}, r"finetune.rates: wte.\* matches only frozen parameters"),
        ({"partial": True}, r"finetune.partial: it was given without start"),
        ({"start": "x", "reset": ["wqe*"]}, r"finetune.reset: wqe\* matches no name"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(UserError, match=f"^model.{message}"):
        lm.build(lm.corpus(), finetune=FineTune(**options))


@pytest.mark.parametrize(
    ("adapter", "options", "message"),
    [
        ({}, {"freeze": ["wte.*"]}, "finetune.freeze: null is expected beside model.adapter"),
        ({"base": "a"}, {"start": "b"}, "finetune.start: it was found beside model.adapter.base; one of them"),
    ],
)
def test_what_an_adapter_does_itself(adapter, options, message):
    with pytest.raises(UserError, match=f"^model.{message}"):
        lm.build(lm.corpus(), adapter=LoRA(r=2, **adapter), finetune=FineTune(**options))


def test_the_logged_rate_is_the_one_without_factors(tmp_path):
    model = lm.build(lm.corpus(), finetune=FineTune(rates={"*": 0.5}))
    entries = []
    model.log_scalars = lambda scalars, step=None: entries.append(scalars)
    fit(model, lm.corpus(), tmp_path, log_every_n_steps=1)
    assert [entry["train/lr"] for entry in entries] == [3e-3] * 3
