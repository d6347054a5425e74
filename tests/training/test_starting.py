"""A run that begins with the weights of another one."""

import functools
import shutil

import pytest
import torch
from support import gan, lm
from support.adapters import fit, move
from torch import nn

from lit_gen.core.errors import UserError, note
from lit_gen.data.images.toy import Toy2D
from lit_gen.models.lm.transformer import Transformer
from lit_gen.runs.opened import load
from lit_gen.training.adapters.lora import LoRA
from lit_gen.training.ema import EMA
from lit_gen.training.finetune import FineTune
from lit_gen.training.starting import START, begin_with

EMA_ = EMA(decay=0.5)
STILL = functools.partial(torch.optim.SGD, lr=0.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run with an average: its file and its model."""
    folder = tmp_path_factory.mktemp("base")
    model = lm.build(lm.corpus(), ema=EMA_)
    fit(model, lm.corpus(), folder)
    return next((folder / "checkpoints").glob("*.ckpt")), model


@pytest.fixture(autouse=True)
def told_anew():
    note.cache_clear()


def network(**options):
    torch.manual_seed(7)
    return Transformer(lm.corpus().vocab_size, 16, **{"n_layer": 1, "n_head": 2, "n_embd": 16, **options})


def begun(file, folder, own=None, **options):
    """A model after a fit from ``file`` that moves nothing."""
    model = lm.build(lm.corpus(), STILL, network=own or network(), ema=EMA_, finetune=FineTune(str(file), **options))
    fit(model, lm.corpus(), folder)
    return model


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_both_sets_of_weights_begin_with_those_asked_for(base, weights, tmp_path, capsys):
    file, trained = base
    model = begun(file, tmp_path, weights=weights)
    expected = trained.weighted("network", weights).state_dict()
    assert not torch.equal(trained.ema_network.wte.weight, trained.network.wte.weight)
    for part in (model.network, model.ema_network):
        assert all(torch.equal(value, expected[name]) for name, value in part.state_dict().items())
    which = {"ema": "averaged", "raw": "raw"}[weights]
    assert f"model.finetune.start: the {which} weights of {file}" in capsys.readouterr().err
    assert model.tokenizer.sha256 == trained.tokenizer.sha256


def test_a_resumed_run_does_not_read_the_start_again(base, tmp_path):
    file = shutil.copy(base[0], tmp_path / "start.ckpt")
    whole, half = (lm.build(lm.corpus(), finetune=FineTune(str(file))) for _ in range(2))
    fit(whole, lm.corpus(), tmp_path / "whole", steps=4)
    fit(half, lm.corpus(), tmp_path / "half", steps=2)
    (tmp_path / "start.ckpt").unlink()
    saved = tmp_path / "half/checkpoints/step=00000002.ckpt"
    resumed = lm.build(lm.corpus(), finetune=FineTune(str(file)))
    fit(resumed, lm.corpus(), tmp_path / "more", steps=4, ckpt_path=saved)
    for name, p in whole.named_parameters():
        assert torch.equal(p, resumed.get_parameter(name)), name
    again = load(saved).model
    fit(again, lm.corpus(), tmp_path / "again", steps=1)  # nor does a fit of a loaded model


def test_other_names_are_refused_or_told(base, tmp_path, capsys):
    file, trained = base
    with pytest.raises(
        UserError,
        match=r"start: .* lacks \d+ weights \(network.blocks.1.*, \.\.\.\); with --model.finetune.partial true, what",
    ) as refused:
        begun(file, tmp_path, own=network(n_layer=3))
    assert str(refused.value).count("network.blocks") == 10
    own = network(n_layer=2)
    initial = {name: value.clone() for name, value in own.state_dict().items()}
    model = begun(file, tmp_path, own=own, partial=True)
    taken = trained.ema_network.state_dict()
    for part in (model.network, model.ema_network):
        for name, value in part.state_dict().items():
            assert torch.equal(value, taken.get(name, initial[name])), name
    told = capsys.readouterr().err
    assert f"{file.name} lacks {len(initial) - len(taken)} weights (network.blocks.1." in told


def test_names_that_the_model_has_not(tmp_path, capsys):
    deep = tmp_path / "deep"
    fit(lm.build(lm.corpus(), network=network(n_layer=2)), lm.corpus(), deep)
    file = next((deep / "checkpoints").glob("*.ckpt"))
    with pytest.raises(
        UserError, match=r"has \d+ weights \(network.blocks.1.*\), which this model does not have; with --model"
    ):
        begun(file, tmp_path)
    begun(file, tmp_path / "run", partial=True)
    assert f" of {file.name} are left out" in capsys.readouterr().err


def test_other_shapes_are_refused_unless_they_are_reset(base, tmp_path, capsys):
    file, trained = base
    own = network()
    own.wpe = nn.Embedding(32, 16)
    with pytest.raises(
        UserError, match=r"holds \(16, 16\) for network.wpe.weight, where this model has \(32, 16\); --"
    ):
        begun(file, tmp_path, own=own, partial=True)
    own = network()
    own.wpe = nn.Embedding(32, 16)
    initial = own.wpe.weight.detach().clone()
    model = begun(file, tmp_path, own=own, reset=["wpe.*"])
    assert torch.equal(model.network.wpe.weight, initial)
    assert torch.equal(model.ema_network.wpe.weight, initial)
    assert torch.equal(model.network.wte.weight, trained.ema_network.wte.weight)
    assert "model.finetune.reset: 1 weight (network.wpe.weight) as they are built" in capsys.readouterr().err


def test_files_that_are_no_start(base, tmp_path):
    file, _ = base
    with pytest.raises(UserError, match=r"^model.finetune.start: .*nowhere does not exist; a checkpoint or a run"):
        begun(tmp_path / "nowhere", tmp_path)
    content = torch.load(file, weights_only=True)
    content["state_dict"]["ema_network.wte.weight"][0, 0] = float("nan")
    torch.save(content, tmp_path / "nan.ckpt")
    with pytest.raises(UserError, match=r"^model.finetune.start: .* wte.weight is NaN or infinite"):
        begun(tmp_path / "nan.ckpt", tmp_path)
    model = gan.build(ema=None)
    fit(model, Toy2D(size=64, batch_size=16), tmp_path / "gan", steps=1)
    other = next((tmp_path / "gan/checkpoints").glob("*.ckpt"))
    with pytest.raises(UserError, match=r"has no weight of network; it is of lit_gen.models.gan.module.GAN"):
        begun(other, tmp_path, partial=True)
    adapted = move(lm.build(lm.corpus(), adapter=LoRA(r=2)))
    fit(adapted, lm.corpus(), tmp_path / "adapted", steps=1)
    with pytest.raises(UserError, match="is of a run with an adapter"):
        begun(next((tmp_path / "adapted/checkpoints").glob("*.ckpt")), tmp_path, partial=True)


def test_a_discriminator_has_no_average(tmp_path, capsys):
    trained = gan.build(ema=EMA_)
    fit(trained, Toy2D(size=64, batch_size=16), tmp_path / "base")
    file = next((tmp_path / "base/checkpoints").glob("*.ckpt"))
    torch.manual_seed(9)
    model = gan.build(ema=EMA_, optimizer=STILL, finetune=FineTune(str(file)))
    for p in model.parameters():
        p.data.add_(1)
    fit(model, Toy2D(size=64, batch_size=16), tmp_path / "run")
    for name, expected in (("generator", trained.ema_generator), ("discriminator", trained.discriminator)):
        for key, value in getattr(model, name).state_dict().items():
            assert torch.equal(value, expected.state_dict()[key]), (name, key)
    assert f"start: the averaged (generator) weights of {file}" in capsys.readouterr().err


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_an_adapter_of_a_start(base, dora, tmp_path):
    """It changes nothing yet: DoRA's lengths are those of the new weights."""
    file, trained = base
    own = network()
    model = lm.build(lm.corpus(), STILL, network=own, adapter=LoRA(r=2, use_dora=dora), finetune=FineTune(str(file)))
    fit(model, lm.corpus(), tmp_path)
    tokens = torch.arange(9)[None]
    torch.testing.assert_close(model.nll(tokens), trained.nll(tokens), rtol=1e-5, atol=1e-5)


def test_a_tied_weight_is_reset_under_both_names(base):
    file, _ = base
    whole = nn.ModuleDict(
        {"wte": nn.Embedding(lm.corpus().vocab_size, 16), "other": nn.Embedding(1, 1), "wpe": nn.Embedding(16, 16)}
    )
    whole["other"].weight = whole["wte"].weight
    before = whole["wte"].weight.detach().clone()
    names = {"network": whole}, {"network": None}
    begin_with(START, str(file), *names, partial=True, resets=lambda _, key: key == "other.weight")
    assert torch.equal(whole["wte"].weight, before)
