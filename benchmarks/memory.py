"""Peak memory of a run, beside the same networks trained by hand in Lightning's Trainer.

    python -m benchmarks.memory [--turns 5] [--steps 50]

Each lane has a process of its own in each turn, with one thread. Printed are the medians of the peaks (the resident
set, as the kernel counts it) and of the turns' ratios. Evaluations, pictures and checkpoints are off; the log is on.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

GAN = """
from lit_gen.models.gan.dcgan import Discriminator, Generator

class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.g, self.d = Generator((1, 28, 28), latent_dim=8, width=32), Discriminator((1, 28, 28), width=32)
        self.average = copy.deepcopy(self.g).requires_grad_(False)
    def configure_optimizers(self):
        return [torch.optim.Adam(n.parameters(), 5e-4, (0.5, 0.99), fused=True) for n in (self.g, self.d)]
    def training_step(self, batch, index):
        of_g, of_d = self.optimizers()
        real = batch[0].float().div_(127.5).sub_(1)
        of_d.zero_grad()
        with torch.no_grad():
            fake = self.g(torch.randn(len(real), 8))
        self.manual_backward((self.d(real) - 1).square().mean() + self.d(fake).square().mean())
        of_d.step()
        of_g.zero_grad()
        self.manual_backward((self.d(self.g(torch.randn(len(real), 8))) - 1).square().mean())
        of_g.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.g.parameters()), 0.001)
"""
LM = """
from lit_gen.models.lm.transformer import Transformer

class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = Transformer(128, 64, n_layer=4, n_head=4, n_embd=128, positions="rotary", bias=False)
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 1e-3, fused=True)
    def training_step(self, batch, index):
        tokens = batch[0].flatten(1)[:16, :65].long() % 128
        return torch.nn.functional.cross_entropy(self.net(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
"""
BY_HAND = """
import copy, sys
import lightning as L
import torch
{net}
digits = torch.randint(0, 256, (4000, 1, 28, 28), dtype=torch.uint8)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(digits), 64, shuffle=True, drop_last=True)
L.Trainer(accelerator="cpu", max_steps={steps}, logger=False, enable_checkpointing=False, enable_progress_bar=False,
          enable_model_summary=False).fit(Net(), loader)
"""
OFF = (
    *("--samples.enabled=false", "--checkpoint.enabled=false", "--trainer.limit_val_batches=0"),
    "--trainer.logger.TensorBoardLogger=false",
)
NETS = {"gan.yaml": (GAN, "FID", 2), "gpt.yaml": (LM, "Perplexity", 1)}
"""Of a config: the loop by hand, the evaluation that is turned off, and how many updates Lightning counts in a step."""


def peak(command: list[str]) -> float:
    """MiB of the largest resident set of a command.

    Raises:
        RuntimeError: if it fails.
    """
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nothing:  # noqa: PTH123
        process = subprocess.Popen(command, cwd=folder, stdout=nothing, stderr=nothing)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)[:200]}: exit code {process.returncode}")
    return usage.ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50)
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    print("| config | run, MiB | by hand, MiB | ratio |\n|---|---|---|---|")
    for config, (net, evaluation, updates) in NETS.items():
        off = [*OFF, f"--trainer.callbacks.{evaluation}=false", f"--trainer.max_steps={chosen.steps}"]
        run = [sys.executable, "-m", "lit_gen", "fit", f"--config={config}", *off]
        hand = [sys.executable, "-c", BY_HAND.format(net=net, steps=chosen.steps * updates)]
        found = [(peak(run), peak(hand)) for _ in range(chosen.turns)]
        ours, theirs = (statistics.median(lane) for lane in zip(*found, strict=True))
        ratio = statistics.median(a / b for a, b in found)
        print(f"| {config} | {ours:,.0f} | {theirs:,.0f} | {ratio:.3f} |", flush=True)


if __name__ == "__main__":
    main()
