"""8 Gaussians to two moons: flow matching with independent pairs and with minibatch optimal transport, over seeds.

    python -m benchmarks.flow_matching [--seeds 10] [--steps 2000] [--samples 2000] [--figure FILE]

The points are torchcfm's (Tong et al., 2024, https://arxiv.org/abs/2302.00482), the settings those of
``otcfm_moons.yaml``. Each row has the mean and the standard deviation over the seeds of the squared 2-Wasserstein
distance between samples and held-out points, by an exact assignment of one to the other: with one Euler step, and with
the adaptive solver. The floor is that distance between two sets of points of the same number.

One step of an exact model of independent pairs sends every start to the data's mean, since E[x_0 | e] = E[x_0]: its
squared distance is the trace of the data's covariance, here `TRACE`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lit_gen.core import randomness
from lit_gen.data.images.points import Points2D
from lit_gen.models.diffusion.coupling import Coupling, OptimalTransport
from lit_gen.models.diffusion.generator import Generator
from lit_gen.models.diffusion.mlp import MLP
from lit_gen.models.diffusion.parametrizations import Velocity
from lit_gen.models.diffusion.paths import Linear
from lit_gen.models.diffusion.solvers.adaptive import Adaptive
from lit_gen.models.diffusion.solvers.base import Solver
from lit_gen.models.diffusion.solvers.ode import Euler
from lit_gen.models.diffusion.sources import Gaussians
from lit_gen.training.schedules import Cosine

BATCH, RATE, WIDTH, DEPTH = 256, 2e-3, 64, 3
TRACE = 9.0077
"""Of the covariance of torchcfm's moons; see `lit_gen.data.images.points`."""
COUPLINGS: dict[str, Coupling | None] = {"independent": None, "optimal transport": OptimalTransport()}
SOLVERS: dict[str, Solver] = {"1 Euler step": Euler(1), "adaptive": Adaptive(rtol=1e-4, atol=1e-4)}
PUBLISHED = {
    ("independent", "1 Euler step"): "6.232 ± 0.186",
    ("independent", "adaptive"): "0.120 ± 0.045",
    ("optimal transport", "1 Euler step"): "0.072 ± 0.025",
    ("optimal transport", "adaptive"): "0.050 ± 0.040",
}
"""Figure 1 of Cheng and Schwing, 2025, https://arxiv.org/abs/2503.10636, ten runs of ``moons.py`` of its code. It says
"2-Wasserstein distance"; the code takes no root: ``ot.emd2`` of ``ot.dist``, which is of squared distances."""


def trained(coupling: Coupling | None, seed: int, steps: int) -> Generator:
    """A model of new weights, trained with a coupling; its solver is one Euler step."""
    where = torch.device("cpu")
    randomness.seed_global(seed, 0, 0, where)
    model = Generator(MLP((2, 1, 1), width=WIDTH, depth=DEPTH), Linear(), Velocity(), Euler(1), Gaussians())
    points = Points2D("torchcfm_moons", seed=seed).split("train").images
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    schedule = Cosine(start=1.0, end=0.0, steps=steps)
    for step in range(steps):
        draws = randomness.Draws(seed, step, 0, 1)
        rows = randomness.host(seed, "rows", step).integers(0, len(points), BATCH)
        data, noise = points[torch.from_numpy(rows)], draws.rows("noise", where).normal(BATCH, model.latent_dim)
        ends = model.start(noise)
        if coupling is not None:
            ends = ends[coupling.pair(data, ends)]
        loss = model.denoiser.errors(data, ends, draws.rows("times", where).uniform(BATCH)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = RATE * schedule(step)
        optimizer.step()
    return model


@torch.no_grad()
def drawn(model: Generator, solver: Solver, seed: int, count: int) -> tuple[Tensor, float]:
    """Samples (count, 2), the same starts for every solver, and the mean number of network calls."""
    noise = randomness.latents(seed, torch.arange(count), model.latent_dim)
    found = solver(model.field(), model.start(noise), (model.path.end, 0.0))
    return found.x.flatten(1), float(found.calls.mean())


def squared_distance(a: Tensor, b: Tensor) -> float:
    """The squared 2-Wasserstein distance of equally many points, (N, D): the least mean |a_i - b_p(i)|^2."""
    assert len(a) == len(b)
    costs = torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist").square().numpy()
    return float(costs[linear_sum_assignment(costs)].mean())


def measured(seed: int, steps: int, count: int) -> dict[tuple[str, str], tuple[float, float]]:
    """The squared distance and the calls of each coupling and solver; with the floor's, for which nothing is called."""
    held_out = Points2D("torchcfm_moons", size=10 * count, seed=seed)
    points, others = (held_out.split(split).images.flatten(1) for split in ("test", "val"))
    found = {("floor", ""): (squared_distance(others, points), 0.0)}
    for pairs, coupling in COUPLINGS.items():
        model = trained(coupling, seed, steps)
        for name, solver in SOLVERS.items():
            samples, calls = drawn(model, solver, seed, count)
            found[pairs, name] = squared_distance(samples, points), calls
    return found


def told(values: Sequence[float]) -> str:
    """Mean and standard deviation, the latter with one degree of freedom less."""
    numbers = torch.tensor(values, dtype=torch.float64)
    spread = f" ± {float(numbers.std()):.3f}" if len(numbers) > 1 else ""
    return f"{float(numbers.mean()):.3f}{spread}"


def figure(file: Path, steps: int, count: int = 1000) -> None:
    """Draw where the starts go with each coupling and solver, of seed 0."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(9, 9), layout="constrained")
    axes = canvas.subplots(2, 2, sharex=True, sharey=True)
    for row, (pairs, coupling) in enumerate(COUPLINGS.items()):
        model = trained(coupling, 0, steps)
        starts = model.start(randomness.latents(0, torch.arange(count), model.latent_dim)).flatten(1)
        for column, (name, solver) in enumerate(SOLVERS.items()):
            ax, ends = axes[row, column], drawn(model, solver, 0, count)[0]
            ax.plot(*torch.stack([starts[:200], ends[:200]]).permute(2, 0, 1), color="0.8", linewidth=0.5)
            ax.scatter(*starts.T, s=4, color="0.4", label="starts")
            ax.scatter(*ends.T, s=4, color="tab:red", label="samples")
            ax.set(title=f"{pairs}, {name}", aspect="equal")
    axes[0, 0].legend(loc="upper left")
    canvas.savefig(file, dpi=80)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and each seed before it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--figure", type=Path, help="draw samples of seed 0 instead")
    asked = parser.parse_args(arguments)
    if asked.figure:
        figure(asked.figure, asked.steps)
        return
    found = []
    for seed in range(asked.seeds):
        found.append(measured(seed, asked.steps, asked.samples))
        shown = ", ".join(f"{' '.join(key).strip()} {value:.4f}" for key, (value, _) in found[-1].items())
        print(f"seed {seed}: {shown}", flush=True)
    print(f"\n| pairs | solver | calls | squared W2, {asked.seeds} seeds | published |\n|---|---|---|---|---|")
    for (pairs, name), published in PUBLISHED.items():
        distances, calls = zip(*(one[pairs, name] for one in found), strict=True)
        print(f"| {pairs} | {name} | {sum(calls) / len(calls):.0f} | {told(distances)} | {published} |")
    floor = told([one["floor", ""][0] for one in found])
    print(f"\nFloor, {asked.samples} points: {floor}. Trace of the covariance: {TRACE}")


if __name__ == "__main__":
    main()
