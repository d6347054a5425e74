"""A committed loss curve: a refactor reproduces it exactly where it was recorded, and nearly elsewhere.

Record anew, after a change that is meant to change the numbers:  python tests/test_golden.py gan
"""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch

from lit_gen.cli import entry

GOLDEN = Path(__file__).parent / "golden"
TEXT = [
    "fit", "--config=gpt.yaml", "--trainer.logger.TensorBoardLogger=false", "--trainer.accelerator=cpu",
    "--trainer.max_steps=40", "--trainer.log_every_n_steps=1", "--samples.enabled=false", "--checkpoint.enabled=false",
    "--trainer.callbacks.Perplexity.every=0", "--data.path=grammar", "--data.grammar_characters=50000",
    "--data.block_size=32", "--data.batch_size=8", "--run_root=golden-run", "--run_name=r", "--run_id=text",
]  # fmt: skip
OPTIONS = [
    "fit", "--config=gan_mlp.yaml", "--trainer.logger.TensorBoardLogger=false", "--trainer.accelerator=cpu",
    "--trainer.max_steps=40", "--trainer.log_every_n_steps=1", "--samples.enabled=false", "--checkpoint.enabled=false",
    "--model.generator.width=64", "--model.discriminator.width=64",
    "--model.discriminator.dropout=0", "--run_root=golden-run",
    "--run_name=r", "--run_id=one",
]  # fmt: skip
VAE = [
    "fit", "--config=vae.yaml", "--trainer.logger.TensorBoardLogger=false", "--trainer.accelerator=cpu",
    "--trainer.max_steps=40", "--trainer.log_every_n_steps=1", "--samples.enabled=false", "--checkpoint.enabled=false",
    *(f"--trainer.callbacks.{name}=false" for name in ("FID", "MixtureFID", "ReconstructionFID", "LatentPictures",
                                                       "LatentDiagnostics", "ImportanceNLL")),
    "--model.encoder.width=8", "--model.decoder.width=8", "--data.batch_size=32",
    "--run_root=golden-run", "--run_name=r", "--run_id=vae",
]  # fmt: skip
COLUMNS = ("train/discriminator_loss", "train/generator_loss", "train/real_logit", "train/fake_logit")
CURVES = {
    "gan": (OPTIONS, "one", COLUMNS),
    "gpt": (TEXT, "text", ("train/loss", "train/gradient_norm")),
    "vae": (VAE, "vae", ("train/loss", "train/rate", "train/gradient_norm")),
}


def machine():
    return {"torch": str(torch.__version__).split("+")[0], "cpu": torch.backends.cpu.get_cpu_capability(), "threads": 1}


def record(name):
    options, identifier, columns = CURVES[name]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert entry.run(options) == 0
    torch.set_num_threads(threads)
    with Path(f"golden-run/r/{identifier}/metrics.csv").open(encoding="utf-8") as file:
        return [[float(row[c]) for c in columns] for row in csv.DictReader(file) if row[columns[0]]]


@pytest.mark.parametrize("name", CURVES)
def test_curve(name):
    golden = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    found = record(name)
    if golden["machine"] == machine():
        assert found == golden["curve"]
    for step, (a, b) in enumerate(zip(found[:20], golden["curve"][:20], strict=True)):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-4), f"step {step + 1}"
    assert len(found) == 40


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CURVES:
        curve = {"machine": machine(), "columns": CURVES[name][2], "curve": record(name)}
        (GOLDEN / f"{name}.json").write_text(json.dumps(curve, indent=0) + "\n", encoding="utf-8")
