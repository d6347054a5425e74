"""Every loss and every regularizer on the ring of eight Gaussians: modes found and share of good samples.

    python benchmarks/toy.py table [--seeds 3] [--steps 3000] [--only NAME ...] [--out DIR]
    python benchmarks/toy.py figure ring|grid [--out DIR]

Each line is a run of `lit-gen fit --config gan_ring.yaml` with the options of its row below. A sample is good if it
lies within three sigma of a centre; a mode is found if at least one sample in 2,500 is a good one of it. A perfect
sampler has 98.9 % good samples; more means that the modes are too narrow. The figure shows three methods over steps.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

import lit_gen
from lit_gen.data.images import toy

LOSS, TERM = "lit_gen.models.adversarial.losses.", "--model.regularizers="
ROWS = {
    "minimax": ["minimax"],
    "non-saturating": ["non_saturating"],
    "least squares": ["least_squares"],
    "hinge": ["hinge"],
    "Wasserstein, weight clip": ["wasserstein", "--model.weight_clip=0.1", "--model.n_critic=5"],
    "relativistic": ["relativistic"],
    "relativistic average": ["relativistic_average"],
    "WGAN-GP": [
        "wasserstein",
        f"{TERM}{{class_path: GradientPenalty, init_args: {{weight: 0.1}}}}",
        "--model.n_critic=5",
    ],
    "non-saturating + R1": ["non_saturating", f"{TERM}{{class_path: R1, init_args: {{gamma: 0.01}}}}"],
    "non-saturating + R1, every 4": [
        "non_saturating",
        f"{TERM}{{class_path: R1, init_args: {{gamma: 0.01, every: 4}}}}",
    ],
    "non-saturating + R2": ["non_saturating", f"{TERM}{{class_path: R2, init_args: {{gamma: 0.01}}}}"],
    "RpGAN + R1 + R2": [
        "relativistic",
        f"{TERM}[{{class_path: R1, init_args: {{gamma: 0.01}}}}, {{class_path: R2, init_args: {{gamma: 0.01}}}}]",
    ],
    "non-saturating + DRAGAN": [
        "non_saturating",
        f"{TERM}{{class_path: Dragan, init_args: {{weight: 0.1, sigma: 0.1}}}}",
    ],
    "non-saturating + 0-GP": ["non_saturating", f"{TERM}{{class_path: ZeroCentered, init_args: {{weight: 0.01}}}}"],
    "non-saturating + bCR": [
        "non_saturating",
        f"{TERM}{{class_path: Consistency, init_args: {{transform: {{class_path: InstanceNoise, "
        "init_args: {sigma: 0.01}}, weight: 1, fake_weight: 1}}",
    ],
    "non-saturating + LeCam": ["non_saturating", f"{TERM}{{class_path: LeCam, init_args: {{weight: 0.1}}}}"],
    "non-saturating + mode seeking": [
        "non_saturating",
        f"{TERM}{{class_path: ModeSeeking, init_args: {{weight: 0.01}}}}",
    ],
    "AC-GAN": [
        "non_saturating", f"{TERM}AuxiliaryClassifier", "--model.generator.conditioning=concat",
        "--model.discriminator.conditioning=auxiliary",
    ],
}  # fmt: skip
SHOWN = ("non-saturating", "WGAN-GP", "RpGAN + R1 + R2")


def options(name: str) -> list[str]:
    """The command line of a row, without its config."""
    loss, *rest = ROWS[name]
    return [f"--model.loss={LOSS}{loss}", *rest]


def train(name: str, seed: int, steps: int, out: Path, *more: str) -> Path:
    """Run one row, if it is not there yet, and return its run directory."""
    identifier = f"{name}-{seed}".replace(" ", "_").replace(",", "")
    run = out / "toy" / identifier
    if not list(run.glob(f"checkpoints/step={steps:08d}.ckpt")):
        command = [
            sys.executable, "-m", "lit_gen", "fit", "--config", "gan_ring.yaml", *options(name),
            f"--seed_everything={seed}", f"--trainer.max_steps={steps}", "--samples.enabled=false",
            f"--run_root={out}", "--run_name=toy", f"--run_id={identifier}", "--trainer.limit_val_batches=0", *more,
        ]  # fmt: skip
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return run


def coverage(points: Tensor, centres: Tensor, sigma: float) -> tuple[int, float]:
    """Modes found, and the share of points within three sigma of a centre; points (N, 2, 1, 1), centres (K, 2)."""
    distance, nearest = torch.cdist(points.flatten(1), centres).min(1)
    good = distance <= 3 * sigma
    return len(nearest[good].unique()), good.float().mean().item()


def table(seeds: int, steps: int, only: list[str], out: Path) -> None:
    """Print the table, and keep its numbers in ``toy.json``."""
    found: dict[str, list[tuple[int, float]]] = {}
    print("| | modes of 8 | good samples, % |\n|---|---|---|")
    for name in only or ROWS:
        results = []
        for seed in range(seeds):
            points = lit_gen.load(train(name, seed, steps, out)).sample(2500)
            results.append(coverage(points, toy.ring_centres(), toy.RING_SIGMA))
        found[name] = results
        modes, shares = zip(*results, strict=True)
        print(f"| {name} | {', '.join(map(str, modes))} | {', '.join(f'{100 * s:.0f}' for s in shares)} |", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "toy.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def figure(kind: str, out: Path) -> None:
    """Draw the samples of three methods after several numbers of steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    data = toy.Toy2D(kind)  # type: ignore[arg-type]
    every, last = (1000, 4000) if kind == "ring" else (1250, 5000)
    wide = ["--model.generator.width=256", "--model.discriminator.width=256"]
    own = [] if kind == "ring" else ["--data.kind=grid", *wide]
    canvas = Figure(figsize=(12, 9), dpi=80)
    panels = canvas.subplots(3, 4, sharex=True, sharey=True)
    reference = data.reference_points().flatten(1)
    for row, name in zip(panels, SHOWN, strict=True):
        run = train(name, 0, last, out / kind, f"--checkpoint.every={every}", "--checkpoint.keep=0", *own)
        for axes, step in zip(row, range(every, last + 1, every), strict=True):
            points = lit_gen.load(run / "checkpoints" / f"step={step:08d}.ckpt").sample(2500)
            modes, share = coverage(points, data.centres, data.sigma)
            axes.scatter(*reference.T.numpy(), s=3, c="0.8")
            axes.scatter(*points.flatten(1).T.numpy(), s=1, c="C3")
            axes.set_title(f"{name}, {step} steps: {modes} modes, {100 * share:.0f} %", fontsize=8)
            limit = 1.4 * float(reference.abs().max())
            axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    canvas.tight_layout()
    out.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(canvas).print_png(str(out / f"methods_{kind}.png"))
    print(out / f"methods_{kind}.png")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["table", "figure"])
    parser.add_argument("kind", nargs="?", choices=["ring", "grid"], default="ring")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path("toy"))
    given = parser.parse_args()
    if given.what == "table":
        table(given.seeds, given.steps, given.only, given.out)
    else:
        figure(given.kind, given.out)


if __name__ == "__main__":
    main()
