"""Families outside the package: two generators with a cycle, and a VAE with an adversarial term.

That two ranks equal one is shown in tests/integration/test_ddp_cases.py.
"""

import functools
import json

import pytest
import torch
from support.fitting import fit, rows
from support.many_cases import OUTSIDE

import lit_gen
from lit_gen.callbacks.evaluators.fid import FID
from lit_gen.callbacks.samples import Samples
from lit_gen.core.errors import NonFiniteLossError, UserError
from lit_gen.data.images.mnist import MNIST

pytestmark = pytest.mark.filterwarnings("ignore:.*no `validation_step`")  # these families have none
ADAM = functools.partial(torch.optim.Adam, lr=1e-3)


def digits():
    return MNIST(embedded=True, batch_size=32)


def trained(name, folder, steps, **options):
    torch.manual_seed(0)
    model = OUTSIDE[name](ADAM)
    fit(model, digits(), steps, folder, log_every=2, **options)
    return model


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_family_learns_and_logs_its_terms(tmp_path, name):
    model = trained(name, tmp_path, 60)
    log = rows(tmp_path)
    assert [row["step"] for row in log] == [*range(2, 61, 2)]
    assert set(log[0]) == {"step", *(f"train/{term}" for term in model.monitor.names)}
    term, sign = {"cycle": ("train/cycle", -1), "adversarial VAE": ("train/elbo", 1)}[name]
    assert sign * (log[-1][term] - log[0][term]) > 0.1 * abs(log[0][term])


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_resumed_run_is_bit_equal(tmp_path, name):
    whole = trained(name, tmp_path / "whole", 7)
    trained(name, tmp_path / "part", 3)  # between two log entries
    part = trained(name, tmp_path / "part", 7, ckpt_path=tmp_path / "part/checkpoints/step=00000003.ckpt")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, part.state_dict()[key]), key
    assert rows(tmp_path / "whole")[1:] == rows(tmp_path / "part")[1:]


@pytest.mark.parametrize("name", OUTSIDE)
def test_it_is_drawn_measured_and_reloaded(tmp_path, name):
    callbacks = [FID(extractor="lenet-mnist", count=128, reference="val"), Samples(every=4)]
    model = trained(name, tmp_path, 4, callbacks=callbacks)
    (record,) = (tmp_path / "eval").glob("*.json")
    assert "val/fd128_lenet-mnist" in json.loads(record.read_text(encoding="utf-8"))["values"]
    assert (tmp_path / "samples/step=00000004.png").is_file()
    (path,) = (tmp_path / "checkpoints").glob("*.ckpt")
    assert torch.equal(lit_gen.load(path).sample(5), model.eval().sample(torch.arange(5)))


def test_each_update_moves_its_player_only(tmp_path, monkeypatch):
    moved, torch_step = [], torch.optim.Adam.step
    model = OUTSIDE["cycle"](ADAM)
    networks = ("generator", "inverse", "discriminator", "code_discriminator")

    def weights():
        return {name: torch.cat([p.detach().flatten() for p in getattr(model, name).parameters()]) for name in networks}

    def step(self, closure=None):
        before = weights()
        result = torch_step(self, closure)
        moved.append({name for name, now in weights().items() if not torch.equal(now, before[name])})
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    trainer = fit(model, digits(), 2, tmp_path)
    assert moved == [{"discriminator", "code_discriminator"}, {"generator", "inverse"}] * 2
    assert trainer.global_step == 2
    assert all(p.requires_grad for name in networks for p in getattr(model, name).parameters())


def test_a_bad_term_stops_the_run_by_name(tmp_path):
    model = OUTSIDE["adversarial VAE"](ADAM)
    with torch.no_grad():
        model.discriminator.layers[0].weight[0, 0] = torch.nan
    with pytest.raises(NonFiniteLossError, match="the discriminator_loss became NaN or infinite at step 1; no"):
        fit(model, digits(), 2, tmp_path)


def test_a_module_that_takes_a_batch_at_once_refuses_micro_batches(tmp_path):
    model = OUTSIDE["adversarial VAE"](ADAM)
    told = (
        r"device_batch_size: it makes 2 micro-batches of a batch, which AdversarialVAE takes at once; null or a larger"
    )
    with pytest.raises(UserError, match=told):
        fit(model, MNIST(embedded=True, batch_size=8, device_batch_size=4), 1, tmp_path)
