"""A committed loss curve: a refactor reproduces it exactly where it was recorded, and nearly elsewhere.

Record anew, after a change that is meant to change the numbers:  python tests/test_golden.py
"""

import csv
import json
from pathlib import Path

import pytest
import torch

from lit_gen.cli import entry

GOLDEN = Path(__file__).parent / "golden"
OPTIONS = [
    "fit", "--config=gan_mlp.yaml", "--trainer.logger.TensorBoardLogger=false", "--trainer.accelerator=cpu",
    "--trainer.max_steps=40", "--trainer.log_every_n_steps=1", "--samples.enabled=false", "--checkpoint.enabled=false",
    "--model.generator.width=64", "--model.discriminator.width=64",
    "--model.discriminator.dropout=0", "--run_root=golden-run",
    "--run_name=r", "--run_id=one",
]  # fmt: skip
COLUMNS = ("train/discriminator_loss", "train/generator_loss", "train/real_logit", "train/fake_logit")


def machine():
    return {"torch": str(torch.__version__).split("+")[0], "cpu": torch.backends.cpu.get_cpu_capability(), "threads": 1}


def record():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert entry.run(OPTIONS) == 0
    torch.set_num_threads(threads)
    with Path("golden-run/r/one/metrics.csv").open(encoding="utf-8") as file:
        return [[float(row[c]) for c in COLUMNS] for row in csv.DictReader(file) if row[COLUMNS[0]]]


def test_gan_curve():
    golden = json.loads((GOLDEN / "gan.json").read_text(encoding="utf-8"))
    found = record()
    if golden["machine"] == machine():
        assert found == golden["curve"]
    for step, (a, b) in enumerate(zip(found[:20], golden["curve"][:20], strict=True)):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-4), f"step {step + 1}"
    assert len(found) == 40


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), "columns": COLUMNS, "curve": record()}, indent=0)
    (GOLDEN / "gan.json").write_text(text + "\n", encoding="utf-8")
