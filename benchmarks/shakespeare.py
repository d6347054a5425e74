"""What helps a small GPT on tiny Shakespeare: one change at a time from one base, several seeds.

    LIT_GEN_DATA=DIR python benchmarks/shakespeare.py --seeds 3 --steps 250

Prints a table: the validation loss over all of the held-out text, mean and range over the seeds, and the CPU time of
the command against the base's, all on one thread. The base is gpt_shakespeare_cpu_fast.yaml as it was when the log's
table was made; `benchmarks/nanogpt.py` compares that config as it is with nanoGPT.
"""

import argparse
import contextlib
import csv
import io
import statistics
import tempfile
import time
from pathlib import Path

import torch

from lit_gen.cli import entry

NETWORK = "--model.network.init_args."
MUON = "lit_gen.training.optimizers.MuonAdamW"
BASE = [
    f"{NETWORK}n_layer=4", f"{NETWORK}norm=rms", f"{NETWORK}activation=relu2", f"{NETWORK}tied=true",
    f"--model.optimizer={{class_path: {MUON}, init_args: {{lr: 1.0e-2, matrix_lr: null, betas: [0.9, 0.99], "
    "weight_decay: 0.1, momentum: 0.95, precision: bf16}}",
]  # fmt: skip
VARIANTS = {
    "base: 4 layers, rotary, RMS norm, ReLU², QK-norm, zero init, Muon": [],
    "learned positions": [f"{NETWORK}positions=learned"],
    "layer norm": [f"{NETWORK}norm=layer"],
    "GELU": [f"{NETWORK}activation=gelu"],
    "no QK-norm": [f"{NETWORK}qk_norm=false"],
    "GPT-2's initialization": [f"{NETWORK}init=gpt2"],
    "AdamW at 2e-3": ["--model.optimizer={class_path: torch.optim.AdamW, init_args: {lr: 2.0e-3, betas: [0.9, 0.99]}}"],
    "AdamW at 5e-3": ["--model.optimizer={class_path: torch.optim.AdamW, init_args: {lr: 5.0e-3, betas: [0.9, 0.99]}}"],
    "twice the batch, half the steps": ["--data.batch_size=24"],
    "cosine schedule": [],
    "all of it undone: the parity config's network and AdamW at 1e-3": [
        f"{NETWORK}positions=learned", f"{NETWORK}norm=layer", f"{NETWORK}activation=gelu", f"{NETWORK}qk_norm=false",
        f"{NETWORK}init=gpt2",
        "--model.optimizer={class_path: torch.optim.AdamW, init_args: {lr: 1.0e-3, betas: [0.9, 0.99]}}",
    ],
}  # fmt: skip


def schedule(name: str, steps: int) -> str:
    """The option for a schedule that ends at 0 after so many steps."""
    options = f"start: 1.0, end: 0.0, warmup: 10, steps: {steps - 10}"
    kind = "Cosine" if name == "cosine schedule" else "WarmupStableDecay"
    more = "" if kind == "Cosine" else ", decay: 0.8"
    return f"--model.schedule={{class_path: lit_gen.training.schedules.{kind}, init_args: {{{options}{more}}}}}"


def train(config: str, seed: int, options: list[str]) -> tuple[list[tuple[int, float]], float]:
    """Validation losses by step, and the CPU seconds that it took."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        common = ["--samples.enabled=false", "--checkpoint.enabled=false", f"--run_root={folder}", "--run_id=one"]
        before = time.process_time()
        code = entry.run(["fit", "--config", config, "--run_name=r", f"--seed_everything={seed}", *common, *options])
        assert code == 0
        with (Path(folder) / "r/one/metrics.csv").open(encoding="utf-8") as file:
            rows = [(int(r["step"]), float(r["val/loss"])) for r in csv.DictReader(file) if r.get("val/loss")]
        return rows, time.process_time() - before


def ablate(seeds: int, steps: int) -> None:
    """Print the table, a row at a time."""
    print(f"| {steps} steps of 768 tokens | loss | range of {seeds} seeds | time |\n|---|---|---|---|")
    base = 0.0
    for name, options in VARIANTS.items():
        count = steps // 2 if "half the steps" in name else steps
        every = ["--trainer.callbacks.Perplexity.every=0", f"--trainer.max_steps={count}", schedule(name, count)]
        runs = [train("gpt_shakespeare_cpu_fast.yaml", seed, [*every, *BASE, *options]) for seed in range(seeds)]
        losses, seconds = [rows[-1][1] for rows, _ in runs], statistics.median(s for _, s in runs)
        base = base or seconds
        spread = f"{min(losses):.3f} to {max(losses):.3f}"
        print(f"| {name} | {statistics.mean(losses):.3f} | {spread} | {seconds / base:.2f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=250)
    given = parser.parse_args()
    torch.set_num_threads(1)
    ablate(given.seeds, given.steps)
