"""A VAE on one and two ranks: the same training where the bound needs means over the batch, the same numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow  # every run is a program of its own

FIT = (
    "fit", "--config=vae.yaml", "--trainer.logger.TensorBoardLogger=false", "--trainer.callbacks.FID=false",
    "--trainer.callbacks.MixtureFID=false", "--trainer.callbacks.ReconstructionFID=false",
    "--trainer.callbacks.LatentPictures=false", "--trainer.max_steps=8", "--trainer.log_every_n_steps=4",
    "--trainer.val_check_interval=4", "--trainer.callbacks.ImportanceNLL.samples=10",
    "--model.encoder=lit_gen.models.vae.mlp.Encoder", "--model.encoder.width=16",
    "--model.decoder=lit_gen.models.vae.mlp.Decoder", "--model.decoder.width=16", "--model.bottleneck.latent_dim=3",
    "--model.optimizer={class_path: torch.optim.SGD, init_args: {lr: 1.0e-4}}",
    "--model.ema={half_life: 100}", "--model.schedules={ema.half_life: {class_path: Linear, init_args: "
    "{start: 50, end: 100, steps: 8}}}", "--samples.enabled=false", "--run_name=r",
)  # fmt: skip
CASES = {
    "free bits": ["--model.objective={class_path: ELBO, init_args: {free_bits: 0.5}}"],
    "capacity, optimal sigma": [
        "--model.objective={class_path: ELBO, init_args: {beta: 1.0, gamma: 10, capacity: "
        "{class_path: lit_gen.training.schedules.Linear, init_args: {start: 1, end: 5, steps: 8}}}}",
        "--model.likelihood=Gaussian",
        "--data.binarize=grey",
    ],
    "importance weights": ["--model.objective={class_path: IWAE, init_args: {k: 3, dreg: true}}"],
}


def fit(*options, world=1):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    place = ("--trainer.accelerator=cpu", f"--trainer.devices={world}")
    command = [sys.executable, "-m", "lit_gen", *options, *place]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def values(identifier, pattern):
    found = {}
    for record in sorted(Path(f"runs/r/{identifier}/eval").glob(f"{pattern}.json")):
        found |= json.loads(record.read_text(encoding="utf-8"))["values"]
    return found


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_with_half_the_batch_equal_one(case):
    fit(*FIT, *CASES[case], "--data.batch_size=16", "--run_id=1")
    divided = ["--data.device_batch_size=4"] if case == "importance weights" else []  # rows of the others meet
    said = fit(*FIT, *CASES[case], "--data.batch_size=16", *divided, "--run_id=2", world=2)
    assert f"16 images per update = 2 ranks x {2 if divided else 1} micro-batch" in said
    assert "not as in one undivided batch" not in said
    one, two = (torch.load(f"runs/r/{i}/checkpoints/step=00000008.ckpt")["state_dict"] for i in (1, 2))
    assert one.keys() == two.keys()
    assert any(name.startswith("ema_decoder.") for name in one)
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-4, atol=1e-6, msg=name)
    assert values(2, "*8-val-*") == pytest.approx(values(1, "*8-val-*"), rel=1e-4)
    logs = [Path(f"runs/r/{i}/metrics.csv").read_text(encoding="utf-8").splitlines() for i in (1, 2)]
    assert logs[0][0] == logs[1][0]
    assert "val/elbo" in logs[0][0]
    assert ("train/effective_samples" in logs[0][0]) == (case == "importance weights")
    for a, b in zip(logs[0][1:], logs[1][1:], strict=True):
        assert [float(x or 0) for x in b.split(",")] == pytest.approx([float(x or 0) for x in a.split(",")], rel=1e-3)


def test_a_checkpoint_has_one_bound_on_any_number_of_ranks():
    fit(*FIT, "--data.batch_size=16", "--run_id=one")
    found, said = [], []
    for world in (1, 2, 3):  # 16 blocks of the 1,000 held-out digits, the last one ragged
        said.append(fit("test", "--ckpt_path=runs/r/one", world=world))
        found.append(values("one", "*-test-*"))
    assert found[0] == found[1] == found[2]
    assert {"test/nll_iw10", "test/active_units", "test/mutual_information"} <= set(found[0])
    assert said[0] == said[1] == said[2]
    assert "test/elbo" in said[0]
