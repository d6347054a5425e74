"""FID, KID and precision/recall of the same features, by this package and by torch-fidelity, in turns: CPU times.

    python benchmarks/features.py [--repeats 5]

Seeded features, as non-negative as those of a network, of two sizes: those of the small classifiers and those of
Inception. One thread; ratios are torch-fidelity's time to ours in the same turn. The values are printed beside them.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from lit_gen.metrics.frechet import Gaussian, frechet_distance
from lit_gen.metrics.kernel import pair_kernel_distance
from lit_gen.metrics.neighbors import pair_precision_recall
from lit_gen.metrics.pair import Pair

Values = dict[str, float]
SIZES = (5000, 84), (10_000, 2048)


def ours(generated: Tensor, real: Tensor) -> dict[str, Callable[[], Values]]:
    """FID, KID and precision/recall of features by this package, in this order: the last two share a pair."""
    pair = Pair(generated, real)
    return {
        "fid": lambda: {"fid": frechet_distance(Gaussian.of(generated), Gaussian.of(real))},
        "kid": lambda: {"kid": pair_kernel_distance(pair).mean},
        "prc": lambda: pair_precision_recall(pair)._asdict(),
    }


def theirs(generated: Tensor, real: Tensor) -> dict[str, Callable[[], Values]]:
    """The same by torch-fidelity, with its options for the least time."""
    from torch_fidelity import metric_fid, metric_kid, metric_prc

    def fid() -> Values:
        statistics_ = [metric_fid.fid_features_to_statistics(features) for features in (generated, real)]
        found = metric_fid.fid_statistics_to_metric(*statistics_, verbose=False)
        return {"fid": found["frechet_inception_distance"]}

    def kid() -> Values:
        found = metric_kid.kid_features_to_metric(generated, real, rng_seed=2020, verbose=False)
        return {"kid": found["kernel_inception_distance_mean"]}

    def prc() -> Values:
        found = metric_prc.prc_features_to_metric(generated, real, save_cpu_ram=False, verbose=False)
        return {name: found[name] for name in ("precision", "recall")}

    return {"fid": fid, "kid": kid, "prc": prc}


def measure(n: int, d: int, repeats: int) -> None:
    """Print CPU times of both for ``n`` generated and ``n`` real rows, as non-negative as those of a network."""
    generator = torch.Generator().manual_seed(0)
    generated, real = (factor * torch.randn(n, d, generator=generator).abs() for factor in (1.02, 1.0))
    rounds, values, memory = [], dict[str, Values](), dict[str, float]()
    for _ in range(repeats):
        taken = {}
        for who, ways in (("ours", ours), ("torch-fidelity", theirs)):
            values[who] = {}
            for name, way in ways(generated, real).items():
                began = time.process_time()
                values[who] |= way()
                taken[who, name] = time.process_time() - began
            if not rounds:
                memory[who] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            taken[who, "all"] = sum(seconds for (other, _), seconds in taken.items() if other == who)
        rounds.append(taken)
    print(f"features {n} x {d}, median of {repeats}", "CPU s", "torch-fidelity", "ratio (quartiles)", sep="\t")
    for name in ("fid", "kid", "prc", "all"):
        mine, other = ([taken[who, name] for taken in rounds] for who in ("ours", "torch-fidelity"))
        ratios = [b / a for a, b in zip(mine, other, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if repeats > 1 else ratios * 3
        shown = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        print(f"  {name:4}", f"{statistics.median(mine):.2f}", f"{statistics.median(other):.2f}", shown, sep="\t")
    for who, found in values.items():
        print(f"  {who:15}", *(f"{key} {value:.9g}" for key, value in found.items()), sep="  ")
    print(f"  peak memory of the process, torch and features included: {memory['ours']:.1f} GiB")


def main() -> None:
    """Read the option and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):  # NumPy's
        for n, d in SIZES:
            measure(n, d, options.repeats)


if __name__ == "__main__":
    main()
