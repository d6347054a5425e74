"""Solvers, guidance and weights of one run of digits: network calls against FD and what the shipped classifier says.

    python -m benchmarks.solvers RUN [--tables solvers guidance weights] [--n 1000]
    python -m benchmarks.solvers RUN --figure FILE

FD is that of ``lit-gen evaluate RUN --metrics fid --reference mnist-5k:val``: of samples 0 to n - 1, whose labels come
from the training set's distribution, to the 1,000 held-out digits. *Confident* is the share of the same samples to
which ``lenet-mnist`` gives a class with more than 90 %, *as asked* the share to which it gives their label. The figure
has samples along the path: what the network sees, and its estimate of the data at that time.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lit_gen
from benchmarks.digits import agreement, classify, judge
from lit_gen.core.images import quantize
from lit_gen.core.randomness import latents
from lit_gen.data.images.mnist import MNIST
from lit_gen.evaluation.extractors.lenet import load_lenet
from lit_gen.metrics.frechet import Gaussian, frechet_distance
from lit_gen.models.diffusion.generator import Generator

STEPS = {  # Heun's method, and EDM's sampler, call the network twice a step, in the last one once
    "dpm++": (4, 9, 18),
    "euler": (4, 9, 18),
    "heun": (3, 5, 9),
    "ddim": (9, 18),
    "ddpm": (18,),
    "edm": (9,),
    "adaptive": (None,),
}
SCALES = (1.0, 1.25, 1.5, 2.0, 3.0)


def asked_for(table: str) -> Iterator[dict[str, Any]]:
    """The options of the drawer for each row of a table."""
    if table == "solvers":
        for solver, counts in STEPS.items():
            yield from ({"solver": solver} | ({} if n is None else {"steps": n}) for n in counts)
    elif table == "guidance":
        yield from ({"guidance_scale": scale} for scale in SCALES)
    else:
        yield from ({"weights": weights} for weights in ("ema", "raw"))


def table(run: Any, name: str, n: int) -> None:
    """Print the rows of one table as they come."""
    classifier, held_out = load_lenet("lenet-mnist"), MNIST(embedded=True).split("val").images

    def features(images: Tensor) -> Gaussian:
        return Gaussian.of(torch.cat([found for found, _ in map(classifier, images.split(500))]))

    real, indices = features(held_out), torch.arange(n)
    labels = run.model.conditions(indices).labels
    print(f"\n| {name} | network calls | FD | confident | as asked |\n|---|---|---|---|---|")
    for options in asked_for(name):
        images = quantize(run.model.sample(indices, **options))
        of_drawer = {key: value for key, value in options.items() if key != "weights"}
        calls = run.model.drawing_record(**of_drawer)["drawer"]["calls"]
        logits = classify(classifier, images)
        as_asked = "" if labels is None else f"{agreement(logits, labels):.1%}"
        shares = f"{judge(logits)['confident']:.1%} | {as_asked}"
        fd = frechet_distance(features(images), real)
        print(f"| {' '.join(map(str, options.values()))} | {calls:.0f} | {fd:.1f} | {shares} |", flush=True)


@torch.no_grad()
def figure(run: Any, file: Path, rows: int = 3, columns: int = 9) -> None:
    """Draw the first samples along the path: x_t, scaled to unit variance, above the estimates of x_0."""
    from matplotlib.figure import Figure

    model = run.model
    generator: Generator = model.generator()
    indices = torch.arange(3, 3 + rows)  # of other digits than the first ones
    field = generator.field(model.conditions(indices).labels)
    noise = generator.start(latents(model.seed, indices, generator.latent_dim))
    path, end = generator.path, generator.path.end
    times = path.grid(end, 2 * (columns - 1))[: 2 * columns - 2 : 2].tolist()
    canvas = Figure(figsize=(columns, 2 * rows), layout="constrained")
    axes = canvas.subplots(2 * rows, columns)
    for column, time in enumerate([*times, 0.0]):
        x = generator.solver(field, noise, (end, time)).x if time < end else noise
        estimate = field.denoised(x, torch.full((rows,), time)) if time else x
        spread = x.flatten(1).std(1).clamp(min=1).view(-1, 1, 1, 1)
        for row in range(rows):
            for part, images in enumerate((x / spread, estimate)):
                ax = axes[2 * row + part, column]
                ax.imshow(images[row, 0], cmap="gray", vmin=-1, vmax=1)
                ax.set(xticks=[], yticks=[])
        ratio = path.sigma(torch.tensor([time])) / path.alpha(torch.tensor([time]))
        axes[0, column].set_title(f"σ/α = {float(ratio):.2g}" if time else "sample", fontsize=8)
    canvas.savefig(file, dpi=90)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--tables", nargs="+", choices=["solvers", "guidance", "weights"], default=["solvers"])
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--figure", type=Path, help="draw samples along the path instead")
    asked = parser.parse_args(arguments)
    run = lit_gen.load(asked.run)
    if asked.figure:
        figure(run, asked.figure)
        return
    for name in asked.tables:
        table(run, name, asked.n)


if __name__ == "__main__":
    main()
