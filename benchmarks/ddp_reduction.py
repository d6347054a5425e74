"""Two ways to train a GAN on several ranks: our one flat all-reduce per optimizer, and DDP with unused parameters.

    python benchmarks/ddp_reduction.py [--steps 200] [--repeats 5] [--width 32]

Runs both in turn on two CPU processes (gloo), on the same networks and batches, times the steps after the first twenty
inside rank 0, and prints the ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = """
import sys, time, json, torch
from contextlib import nullcontext
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from lit_gen.core import distributed as parallel
from lit_gen.data.images.mnist import MNIST
from lit_gen.models.gan.module import GAN
from lit_gen.models.gan import dcgan

way, steps, width, out = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]

class Unused(GAN):
    def _without_gradient_sync(self):
        return nullcontext()

class Clock(Callback):
    def on_train_batch_end(self, trainer, module, *args):
        if trainer.global_step == 20:
            self.began = time.perf_counter()
        if trainer.global_step == steps and trainer.is_global_zero:
            seconds = time.perf_counter() - self.began
            json.dump({"ms": 1e3 * seconds / (steps - 20)}, open(out, "w"))

if way == "unused":
    parallel.average_gradients = lambda parameters, extras: extras  # DDP has averaged them already
torch.manual_seed(0)
shape = (1, 28, 28)
model = (GAN if way == "flat" else Unused)(dcgan.Generator(shape, 8, width), dcgan.Discriminator(shape, width))
trainer = Trainer(
    accelerator="cpu", devices=2, strategy=DDPStrategy(find_unused_parameters=way == "unused"), max_steps=steps,
    logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
    log_every_n_steps=steps, callbacks=[Clock()],
)
trainer.fit(model, datamodule=MNIST(embedded=True, batch_size=32))
"""


def measure(way: str, steps: int, width: int, folder: Path) -> dict[str, float]:
    """Milliseconds per step of rank 0."""
    program, out = folder / "program.py", folder / "out.json"
    program.write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, "-W", "ignore", str(program), way, str(steps), str(width), str(out)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    result: dict[str, float] = json.loads(out.read_text(encoding="utf-8"))
    return result


def main() -> None:
    """Print each way's times and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--width", type=int, default=32)
    options = parser.parse_args()
    times: dict[str, list[float]] = {"flat": [], "unused": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.repeats):
            for way, list_of_times in times.items():  # in turn, so that a drift of the machine meets both
                result = measure(way, options.steps, options.width, Path(folder))
                list_of_times.append(result["ms"])
                print(f"{way:7} {result['ms']:7.2f} ms/step", flush=True)
    ratios = [a / b for a, b in zip(times["flat"], times["unused"], strict=True)]
    print(f"flat / unused: median {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
