"""AdaLoRA against peft's, step by step."""

import copy
import functools
import types
import warnings

import peft
import pytest
import torch
from lightning import Trainer
from support import gan, lm
from support.adapters import fit, inputs, move, small
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.data.images.toy import Toy2D
from lit_gen.training.adapters import peft_files
from lit_gen.training.adapters.adalora import AdaLoRA, keep
from lit_gen.training.adapters.change import all_adapted
from lit_gen.training.adapters.triplets import FACTORS
from lit_gen.training.ema import EMA

LAYERS = ["conv", "fc"]
SCHEDULE = {"init_r": 5, "target_r": 2, "tinit": 3, "tfinal": 4, "deltaT": 2, "beta1": 0.8, "beta2": 0.7}
OPTIONS = {**SCHEDULE, "lora_alpha": 3, "target_modules": LAYERS, "orth_reg_weight": 0.4}
STEPS = 20


class Scored(nn.Module):
    """A network whose output has a loss, to which peft adds its penalty."""

    def __init__(self):
        super().__init__()
        self.inner = small()

    def forward(self, x):
        return types.SimpleNamespace(loss=self.inner(x).square().sum())


def theirs(network, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.get_peft_model(network, peft.AdaLoraConfig(**{**OPTIONS, "total_step": STEPS, **options}))


def ours(network, **options):
    adapter = AdaLoRA(**{**OPTIONS, **options})
    trained = adapter.apply(network)
    changes = [layer.adapters["default"] for _, layer in all_adapted(network)]
    adapter.prepare(changes, STEPS)
    return adapter, trained, changes


def their_layers(model):
    return [m for _, m in model.named_modules() if hasattr(m, "lora_E")]


@pytest.mark.parametrize(("tinit", "tfinal"), [(0, 0), (3, 4), (12, 7)])
def test_the_budget_is_pefts_at_every_step(tinit, tfinal):
    allocator = theirs(small(), tinit=tinit, tfinal=tfinal).base_model.rankallocator
    adapter, _, changes = ours(small(), tinit=tinit, tfinal=tfinal)
    budgets = [adapter.budget(step, len(changes)) for step in range(1, STEPS + 1)]
    assert budgets == [allocator.budget_schedule(step)[0] for step in range(1, STEPS + 1)]
    assert budgets[-1] == 4


def test_every_weight_and_rank_is_pefts_at_every_step():
    """With its penalty, its optimizer's step before the allocation, and clipped gradients."""
    model = theirs(Scored())
    network = Scored()
    adapter, trained, changes = ours(network)
    with torch.no_grad():
        for mine, their in zip(changes, their_layers(model), strict=True):
            for name in FACTORS:
                getattr(mine, name).copy_(getattr(their, name)["default"])
    # not ranknum, by which peft divides, and to which its set_adapter lets gradients
    their_parameters = [p for name, p in model.named_parameters() if "lora_" in name]
    optimizers = [torch.optim.Adam(parameters, lr=0.02) for parameters in (trained, their_parameters)]
    patterns = set()
    for step in range(1, STEPS + 1):
        x = inputs(4) + step * (inputs(4) > 0)
        x = x.remainder(7)
        (network(x).loss + adapter.penalty(changes)).backward()
        model.base_model(x).loss.backward()  # of the class that adds the penalty
        for parameters, optimizer in zip((trained, their_parameters), optimizers, strict=True):
            nn.utils.clip_grad_norm_(parameters, 0.1)  # the norm is 0.05 to 0.5
            optimizer.step()
        adapter.after_update(changes, step)
        model.base_model.update_and_allocate(step)
        for optimizer in optimizers:
            optimizer.zero_grad()
        for mine, their in zip(changes, their_layers(model), strict=True):
            for name in FACTORS:
                torch.testing.assert_close(getattr(mine, name), getattr(their, name)["default"], rtol=1e-8, atol=1e-11)
        averages = model.base_model.rankallocator.exp_avg_unc
        for layer, mine in zip(LAYERS, changes, strict=True):
            for name in FACTORS if averages else ():  # peft forgets them at the last allocation
                theirs_now = averages[f"inner.{layer}.{name}.default"]
                torch.testing.assert_close(getattr(mine, f"uncertainty_{name[-1]}"), theirs_now, rtol=1e-6, atol=1e-12)
        kept = [change.kept.tolist() for change in changes]
        expected = model.peft_config["default"].rank_pattern
        assert kept == ([[True] * 5] * 2 if expected is None else list(expected.values())), step
        patterns.add(str(kept))
        assert adapter.scalars(changes) == {"rank": sum(map(sum, kept))}
    assert len(patterns) > 3
    assert sum(map(sum, kept)) == 4
    assert kept[0] != kept[1], "ranks are of the layers' importance"


def test_at_the_start_nothing_has_changed_and_only_the_diagonal_learns():
    network = small()
    before = network(inputs())
    ours(network)
    assert torch.equal(network(inputs()), before)
    network(inputs()).square().sum().backward()
    for _, layer in all_adapted(network):
        change = layer.adapters["default"]
        assert change.lora_A.any()
        assert not change.lora_A.grad.any()
        assert not change.lora_B.grad.any()
        assert change.lora_E.grad.all()


def test_equal_importance_keeps_the_budget():
    _, _, changes = ours(small())
    keep(changes, 3)
    assert [int(change.kept.sum()) for change in changes] == [0, 3]
    keep(changes, 10)
    assert all(change.kept.all() for change in changes)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_merged_equals_unmerged(dtype, most):
    network = small(dtype)
    adapter, _, changes = ours(network)
    move(network, 0.1)
    changes[0].kept[1] = False
    changes[0].drop()
    expected = network(inputs())
    adapter.merge(network)
    assert (network(inputs()) - expected).abs().max() < most
    adapter.unmerge(network)
    adapter.fold(network)
    assert (network(inputs()) - expected).abs().max() < most
    assert not [name for name in network.state_dict() if "adapters" in name]


def test_a_step_that_was_left_out_does_not_spoil_the_averages():
    _, _, changes = ours(small())
    for parameter in changes[0].parameters():
        parameter.grad = torch.full_like(parameter, torch.inf)
    changes[0].observe(0.8, 0.7)
    assert torch.isfinite(changes[0].importance()).all()


@pytest.mark.filterwarnings("ignore:The following rank_pattern keys:RuntimeWarning")  # also of peft's own folders
@pytest.mark.filterwarnings("ignore:Adapter 'default'")  # of the layer that keeps no triplet
@pytest.mark.parametrize("dropped", [False, True])
def test_peft_reads_ours_and_ours_reads_pefts(tmp_path, dropped):
    network = small()
    adapter, _, changes = ours(network, modules_to_save=["head"])
    move(network)
    if dropped:
        changes[0].kept[:3] = False
        changes[1].kept[:] = False
        [change.drop() for change in changes]
    peft_files.save(adapter, network, tmp_path / "ours")
    model = peft.PeftModel.from_pretrained(small(), tmp_path / "ours")
    assert model.peft_config["default"].peft_type == "ADALORA"
    torch.testing.assert_close(model(inputs()), network(inputs()), rtol=1e-10, atol=1e-12)
    model.save_pretrained(tmp_path / "theirs")
    again = small()
    read = peft_files.attach(again, tmp_path / "theirs")
    torch.testing.assert_close(again(inputs()), network(inputs()), rtol=1e-10, atol=1e-12)
    for mine, other in zip((layer for _, layer in all_adapted(again)), changes, strict=True):
        assert torch.equal(mine.adapters["default"].kept, other.kept)
        assert torch.equal(mine.adapters["default"].lora_E, other.lora_E)
    for one in (read, adapter):
        one.target_modules, one._steps = sorted(one.target_modules), 0  # peft writes a set
    assert read == adapter


def test_pefts_own_folder_after_its_training(tmp_path):
    model = theirs(small(), tinit=0, tfinal=0)
    with torch.no_grad():
        for i, layer in enumerate(their_layers(model)):
            layer.lora_E["default"] += torch.arange(5.0)[:, None] + i
    model.peft_config["default"].rank_pattern = {
        "conv.lora_E.default": [True, False, True, True, False],
        "fc.lora_E.default": [False, True, True, True, True],
    }
    expected_parts = {"conv": [0, 2, 3], "fc": [1, 2, 3, 4]}
    for layer, kept in zip(their_layers(model), expected_parts.values(), strict=True):
        layer.lora_E["default"].data[[i for i in range(5) if i not in kept]] = 0
    expected = model(inputs())
    model.save_pretrained(tmp_path)
    network = small()
    peft_files.attach(network, tmp_path)
    torch.testing.assert_close(network(inputs()), expected, rtol=1e-10, atol=1e-12)


def test_files_of_other_ranks(tmp_path):
    network = small()
    adapter, _, changes = ours(network)
    changes[0].kept[:3] = False
    peft_files.save(adapter, network, tmp_path)
    path = tmp_path / peft_files.CONFIG
    good = path.read_text(encoding="utf-8")
    for old, new, told in [
        ('"init_r": 5', '"init_r": 6', "rank_pattern: conv.lora_E: .* was found, 6 of true or false"),
        ("false,", "true,", "it holds .2, 27. for conv.lora_A, where this network's adapter has .5, 27."),
        ('"deltaT": 2', '"deltaT": "2"', "deltaT: '2' was found"),
    ]:
        text = good.replace(old, new) if old != "false," else good.replace("        false,\n", "        true,\n")
        text = text.replace("      false,\n", "      true,\n") if old == "false," else text
        assert text != good
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=told):
            peft_files.attach(small(), tmp_path)
    path.write_text(good, encoding="utf-8")
    lora = small()
    adapter, _, _ = ours(lora, target_r=1)
    peft_files.load(adapter, lora, tmp_path)
    other = small()
    adapter, _, _ = ours(other, init_r=4)
    with pytest.raises(UserError, match="init_r: 5 was found, where this network's adapter has 4"):
        peft_files.load(adapter, other, tmp_path)


def test_an_embedding_is_not_adapted():
    with pytest.raises(UserError, match=r"target_modules: embed is .*; Linear, Conv2d are expected"):
        AdaLoRA(target_modules=["embed"]).apply(small())


@pytest.mark.parametrize(
    "options",
    [
        {"init_r": 0}, {"target_r": 13}, {"tinit": -1}, {"tfinal": -1}, {"deltaT": 0}, {"beta1": 1}, {"beta2": 0},
        {"orth_reg_weight": -0.1}, {"lora_alpha": 0}, {"lora_dropout": 1},
    ],
)  # fmt: skip
def test_options_out_of_range(options):
    with pytest.raises(UserError, match=f"^model.adapter.{next(iter(options))}: .* is expected$"):
        AdaLoRA(**options)


@pytest.mark.parametrize(("steps", "found"), [(-1, "null"), (5, "5")])
def test_a_fit_without_steps_to_reduce_the_ranks_in(steps, found, tmp_path):
    model = lm.build(lm.corpus(), adapter=AdaLoRA(init_r=3, target_r=1, tinit=2, tfinal=3, target_modules=["qkv"]))
    told = rf"^trainer.max_steps: {found} was found, a whole number above 5 \(model.adapter.tinit \+ tfinal\), in which"
    with pytest.raises(UserError, match=told):
        Trainer(
            accelerator="cpu", max_steps=steps, max_epochs=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        ).fit(model, datamodule=lm.corpus())  # fmt: skip


def test_an_average_has_no_triplets_that_were_dropped(tmp_path, capfd):
    adapter = AdaLoRA(init_r=3, target_r=1, tinit=2, target_modules=["qkv"])
    model = lm.build(lm.corpus(), adapter=adapter, ema=EMA(decay=0.9))
    fit(model, lm.corpus(), tmp_path, 4)
    layers = {kind: dict(all_adapted(getattr(model, kind))) for kind in ("network", "ema_network")}
    ranks = []
    for name, layer in layers["ema_network"].items():
        change, raw = layer.adapters["default"], layers["network"][name].adapters["default"]
        assert torch.equal(change.kept, raw.kept)
        assert torch.equal(change.lora_E[:, 0] != 0, raw.kept)
        ranks.append(int(raw.kept.sum()))
    assert sum(ranks) == len(ranks)
    assert "ranks fall by" not in capfd.readouterr().err
    fit(model, lm.corpus(), tmp_path, 6)
    assert "trainer.max_steps: 6 was found, 4 before: AdaLoRA's ranks fall by 6 from here on" in capfd.readouterr().err


@pytest.mark.parametrize("family", ["lm", "lm in micro-batches", "gan"])
def test_a_fit_adds_the_penalty_once_per_update(family, tmp_path):
    """In the first step A and B have no other gradient, as E is zero."""
    adapter = AdaLoRA(3, 1, target_modules=["qkv"] if "lm" in family else "all-linear", orth_reg_weight=0.4)
    plain = functools.partial(torch.optim.SGD, lr=0.1)
    if family == "gan":
        model, data = gan.build(adapter=adapter, optimizer=plain), Toy2D(size=256, batch_size=32)
    else:
        data = lm.corpus(device_batch_size=4 if "micro" in family else None)
        model = lm.build(data, plain, adapter=adapter)
    other = copy.deepcopy(model)
    penalty = other.attached.adapter.penalty(other.attached.changes)
    penalty.backward()
    fit(model, data, tmp_path, 1)
    for mine, start in zip(model.attached.changes, other.attached.changes, strict=True):
        for name in ("lora_A", "lora_B"):
            before = getattr(start, name)
            torch.testing.assert_close(getattr(mine, name), before - 0.1 * before.grad, rtol=1e-5, atol=1e-7)
    assert {"train/orthogonality", "train/rank"} <= set(model.announced())
    scalars = model.attached.scalars()
    assert scalars == {"orthogonality": pytest.approx(float(penalty.detach())), "rank": len(model.attached.changes)}
