"""What a run costs beside the same loop by hand: ``python -m benchmarks [--turns 40] [CONFIG ...]``.

CPU time of one thread, in turns of some steps (`benchmarks.interleaved`): medians of the turns' ratios, and quartiles.
The floor is Lightning's bare loop around the steps by hand.
"""

import argparse

from benchmarks import interleaved

CONFIGS = {"gan.yaml": 10, "gan_mlp.yaml": 20, "gan_ring.yaml": 64, "vae.yaml": 10, "gpt_shakespeare_cpu.yaml": 32}
"""Steps of a turn: a multiple of those whose batches are gathered at once."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=list(CONFIGS), metavar="CONFIG")
    parser.add_argument("--turns", type=int, default=40)
    chosen = parser.parse_args()
    print(f"| {'config':24} | {'fit':22} | {'floor':22} | equal weights |\n|---|---|---|---|", flush=True)
    for config in chosen.configs:
        found = interleaved.measure(config, chosen.turns, CONFIGS.get(config, 10))
        shown = [f"{m:.3f} ({a:.3f} to {b:.3f})" for m, a, b in map(found.ratio, ("fit", "floor"))]
        print(f"| {config:24} | {shown[0]:22} | {shown[1]:22} | {'yes' if found.equal else 'NO'} |", flush=True)


if __name__ == "__main__":
    main()
