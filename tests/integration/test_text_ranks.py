"""A language model on one, two and three ranks: the same training, the very same numbers, exact resume."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow  # every run is a program of its own

FIT = (
    "fit", "--config=gpt.yaml", "--trainer.logger.TensorBoardLogger=false", "--trainer.max_steps=12",
    "--trainer.log_every_n_steps=5", "--trainer.callbacks.Perplexity.every=6", "--data.path=grammar",
    "--data.grammar_characters=30001", "--data.block_size=16", "--model.network.n_layer=1",
    "--model.network.n_embd=16", "--model.network.n_head=2", "--model.ema.half_life=2000",
    "--samples.enabled=false", "--run_name=r",
)  # fmt: skip


def run(*arguments, world=1):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lit_gen", *arguments, "--trainer.accelerator=cpu", f"--trainer.devices={world}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def weights(identifier, step=12):
    return torch.load(f"runs/r/{identifier}/checkpoints/step={step:08d}.ckpt")["state_dict"]


def values(identifier, pattern):
    (record,) = Path(f"runs/r/{identifier}/eval").glob(pattern)
    return json.loads(record.read_text(encoding="utf-8"))["values"]


def test_two_ranks_with_half_the_batch_equal_one():
    sgd = "--model.optimizer={class_path: torch.optim.SGD, init_args: {lr: 0.5}}"
    run(*FIT, sgd, "--data.batch_size=8", "--run_id=1")
    run(*FIT, sgd, "--data.batch_size=8", "--data.device_batch_size=2", "--run_id=2", world=2)
    one, two = weights(1), weights(2)
    assert one.keys() == two.keys()
    assert any(name.startswith("ema_network.") for name in one)
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-5, atol=1e-6, msg=name)
    assert values(2, "*12-val-*") == pytest.approx(values(1, "*12-val-*"), rel=1e-5)
    logs = [Path(f"runs/r/{i}/metrics.csv").read_text(encoding="utf-8").splitlines() for i in (1, 2)]
    assert len(logs[0]) == len(logs[1])
    for a, b in zip(logs[0][1:], logs[1][1:], strict=True):
        assert [float(x or 0) for x in b.split(",")] == pytest.approx([float(x or 0) for x in a.split(",")], rel=1e-4)


def test_a_checkpoint_has_one_perplexity_on_any_number_of_ranks():
    """Of a further text too."""
    also = "--trainer.callbacks.Perplexity.also={more: {path: grammar, grammar_characters: 20001}}"
    run(*FIT, also, "--data.batch_size=8", "--run_id=one")
    found = []
    for world in (1, 2, 3):
        run("test", "--ckpt_path=runs/r/one", world=world)
        found.append(values("one", "*-test-perplexity.json"))
    assert found[0] == found[1] == found[2]
    for name in ("loss", "more/loss"):
        assert found[0][f"test/{name}"] == values("one", "*12-val-*")[f"val/{name}"]


def test_two_ranks_resume_bit_exactly():
    options = ("--data.batch_size=8", "--data.device_batch_size=2", "--model.network.dropout=0.2")
    run(*FIT, *options, "--run_id=whole", world=2)
    run(
        *FIT,
        *options,
        "--run_id=parts",
        "--trainer.max_steps=7",
        "--trainer.callbacks.Perplexity.at_end=false",
        world=2,
    )
    run("fit", "--resume=runs/r/parts", "--trainer.max_steps=12", "--trainer.callbacks.Perplexity.at_end=true", world=2)
    whole, parts = weights("whole"), weights("parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    logs = [Path(f"runs/r/{i}/metrics.csv").read_text(encoding="utf-8") for i in ("whole", "parts")]
    assert logs[0] == logs[1]
