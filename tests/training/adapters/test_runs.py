"""Two ranks equal one, and a killed and resumed run the undisturbed one, with an adapter and its average."""

import functools
import os
import shutil

import pytest
import torch
from support import kills, lm
from support.killed import train, two_ranks_equal_one

from lit_gen.callbacks.checkpoint import Checkpoint
from lit_gen.training.adapters.lora import LoRA
from lit_gen.training.ema import EMA

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def made(folder, dropout=0.2, optimizer=lm.ADAMW):
    """DoRA with a norm that is trained whole, gradients of two micro-batches."""
    data = lm.corpus(device_batch_size=4)
    adapter = LoRA(r=2, lora_dropout=dropout, target_modules=["qkv", "down"], modules_to_save=["norm_f"], use_dora=True)
    model = lm.build(data, optimizer=optimizer, adapter=adapter, ema=EMA(decay=0.9))
    options = {"max_steps": 8, "val_check_interval": 4, "check_val_every_n_epoch": None}
    return model, data, [Checkpoint(every=3, keep=1, monitor="val/loss", mode="min")], options


def test_two_ranks_equal_one(tmp_path):
    plain = functools.partial(made, dropout=0.0, optimizer=functools.partial(torch.optim.SGD, lr=0.1))
    weights = two_ranks_equal_one(plain, tmp_path, "checkpoints/step=00000008.ckpt")
    start = made(tmp_path)[0].state_dict()
    trained = {key for key, value in weights.items() if not torch.equal(value, start[key])}
    expected = {key for key in weights if ".adapters." in key or ".norm_f." in key}
    assert trained == expected, "what is frozen is equal bit by bit"


def test_a_killed_run_leaves_what_the_undisturbed_one_leaves(tmp_path):
    log = tmp_path / "log"
    assert kills.in_child(lambda: train(made, tmp_path / "run"), log) == 0, log.read_text(encoding="utf-8")
    whole = kills.content(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")

    def act():
        kills.kill(Checkpoint, "_write", "after", 2)
        train(made, tmp_path / "run")

    assert kills.in_child(act, log) == kills.KILLED, log.read_text(encoding="utf-8")
    assert kills.in_child(lambda: train(made, tmp_path / "run", resume=True), log) == 0, log.read_text(encoding="utf-8")
    assert not kills.differences(whole, kills.content(tmp_path / "run"))
