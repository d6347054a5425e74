"""What a rank's noise costs against the number of ranks: 64 rows each, on one thread of the CPU.

    python benchmarks/draws.py docs/images/draws.png

Ranks are simulated: the process draws what the rank in the middle of so many would draw. Shown is the CPU time over
that of one rank, median of interleaved repetitions; the dashed lines are of a rank that draws the whole global batch
and keeps its part.
"""

import argparse
import math
import statistics
import time
from collections import defaultdict

import torch

from lit_gen.core.randomness import Rows, device

CPU, ROWS, REPEATS = torch.device("cpu"), 64, 15
SHAPES = ((8,), (3, 32, 32), (3, 256, 256))
WORLDS = (1, 2, 4, 8, 16, 32, 64)


def own(world: int, shape: tuple[int, ...], step: int) -> None:
    """Draw the blocks that hold this rank's rows."""
    Rows(CPU, 0, "noise", step, world // 2, world).normal(ROWS, *shape)


def whole(world: int, shape: tuple[int, ...], step: int) -> None:
    """Draw the global batch."""
    generator = device(CPU, 0, "noise", step)
    torch.randn((world * ROWS, *shape), generator=generator).chunk(world)[world // 2]


def measure() -> dict[tuple[str, tuple[int, ...], int], list[float]]:
    """Seconds of CPU time by who draws, shape and number of ranks."""
    found = defaultdict(list)
    cases = [(f, s, w) for f in (own, whole) for s in SHAPES for w in WORLDS if f is own or w * math.prod(s) <= 200_000]
    for step in range(REPEATS + 1):
        for draw, shape, world in cases:
            calls = max(1, 200_000 // (ROWS * math.prod(shape)))
            begin = time.process_time()
            for _ in range(calls):
                draw(world, shape, step)
            if step:  # the first one warms up
                found[draw.__name__, shape, world].append((time.process_time() - begin) / calls)
    return found


def main() -> None:
    """Print a table and draw the figure."""
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure")
    target = parser.parse_args().figure
    torch.set_num_threads(1)
    found = measure()
    figure = Figure(figsize=(6, 4), dpi=120, layout="tight")
    axes = figure.add_subplot()
    for i, shape in enumerate(SHAPES):
        for who, style in (("own", "-o"), ("whole", "--x")):
            worlds = [w for w in WORLDS if (who, shape, w) in found]
            if len(worlds) < 2:
                continue  # a point is no line
            times = [found[who, shape, w] for w in worlds]
            one = statistics.median(found["own", shape, 1])
            ratios = [statistics.median(t) / one for t in times]
            name = " x ".join(map(str, shape))
            axes.plot(
                worlds, ratios, style, color=f"C{i}", label=f"{name}, {'its blocks' if who == 'own' else 'the whole'}"
            )
            for world, ratio, t in zip(worlds, ratios, times, strict=True):
                print(f"{name:14} {who:6} {world:3} ranks {ratio:7.2f} ({min(t) / one:.2f} to {max(t) / one:.2f})")
    axes.set(
        xscale="log", yscale="log", xlabel="ranks, 64 rows each", ylabel="CPU time of a rank's noise over one rank's"
    )
    axes.set_xticks(WORLDS, [str(w) for w in WORLDS])
    axes.legend()
    figure.savefig(target)


if __name__ == "__main__":
    main()
