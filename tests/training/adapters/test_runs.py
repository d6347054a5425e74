"""Two ranks equal one, and a killed and resumed run the undisturbed one, with an adapter and its average."""

import functools
import os
import shutil

import pytest
import torch
from support import kills, lm
from support.killed import train, two_ranks_equal_one

from lit_gen.callbacks.checkpoint import Checkpoint
from lit_gen.training.adapters.adalora import AdaLoRA
from lit_gen.training.adapters.lora import LoRA
from lit_gen.training.ema import EMA

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


LAYERS = {"target_modules": ["qkv", "down"], "modules_to_save": ["norm_f"]}
KINDS = {
    "dora": functools.partial(LoRA, r=2, use_dora=True, **LAYERS),
    "adalora": functools.partial(AdaLoRA, init_r=4, target_r=1, tinit=1, tfinal=1, **LAYERS),
}


def made(folder, kind, dropout=0.2, optimizer=lm.ADAMW):
    """With a norm that is trained whole, and gradients of two micro-batches."""
    data = lm.corpus(device_batch_size=4)
    adapter = KINDS[kind](lora_dropout=dropout)
    model = lm.build(data, optimizer=optimizer, adapter=adapter, ema=EMA(decay=0.9))
    options = {"max_steps": 8, "val_check_interval": 4, "check_val_every_n_epoch": None}
    return model, data, [Checkpoint(every=3, keep=1, monitor="val/loss", mode="min")], options


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_equal_one(kind, tmp_path):
    plain = functools.partial(made, kind=kind, dropout=0.0, optimizer=functools.partial(torch.optim.SGD, lr=0.1))
    weights = two_ranks_equal_one(plain, tmp_path, "checkpoints/step=00000008.ckpt")
    start = made(tmp_path, kind)[0].state_dict()
    trained = {key for key, value in weights.items() if not torch.equal(value, start[key])}
    expected = {key for key in weights if ".adapters." in key or ".norm_f." in key}
    if kind == "adalora":
        kept = [value for key, value in weights.items() if key.endswith(".kept") and not key.startswith("ema_")]
        assert sum(int(value.sum()) for value in kept) == len(kept), "the budget at the end is one triplet per layer"
        expected -= {key for key in expected - trained if key.endswith(".kept")}  # a layer may keep all of its own
    assert trained == expected, "what is frozen is equal bit by bit"


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_leaves_what_the_undisturbed_one_leaves(kind, tmp_path):
    family = functools.partial(made, kind=kind)
    log = tmp_path / "log"
    assert kills.in_child(lambda: train(family, tmp_path / "run"), log) == 0, log.read_text(encoding="utf-8")
    whole = kills.content(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")

    def act():
        kills.kill(Checkpoint, "_write", "after", 2)
        train(family, tmp_path / "run")

    assert kills.in_child(act, log) == kills.KILLED, log.read_text(encoding="utf-8")
    assert kills.in_child(lambda: train(family, tmp_path / "run", resume=True), log) == 0, log.read_text(
        encoding="utf-8"
    )
    assert not kills.differences(whole, kills.content(tmp_path / "run"))
