"""How long metrics take: the Fréchet distance at Inception's size, and four metrics of small images in three packages.

    python benchmarks/metrics.py [--images 5000] [--repeats 5] [--threads 1]

First, the distance of two Gaussians of 2,048 features: with the real side's factor to compute, with the factor kept
from before, and torch-fidelity's. Then FID, KID, IS and precision/recall of as many random grey 28 x 28 images,
generated and real, through the shipped LeNet: ours, torch-fidelity's, and FID and KID by torchmetrics (which has no
precision and recall). They take turns; figures are medians, and ratios are to ours. The values are printed beside the
times.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lit_gen.evaluation.extractors.lenet import load_lenet
from lit_gen.evaluation.features import extract
from lit_gen.metrics.frechet import Gaussian, frechet_distance
from lit_gen.metrics.inception_score import inception_score
from lit_gen.metrics.kernel import kernel_distance, pair_kernel_distance
from lit_gen.metrics.neighbors import pair_precision_recall
from lit_gen.metrics.pair import Pair
from lit_gen.protocols.images import FeatureExtractor, Features

BATCH = 64
Values = dict[str, float]


def ours(network: FeatureExtractor, generated: Tensor, real: Tensor) -> Values:
    """All four by this package."""
    g, r = extract(network, generated), extract(network, real)
    pair = Pair(g.features, r.features)
    precision, recall = pair_precision_recall(pair)
    return {
        "fid": frechet_distance(g.gaussian, r.gaussian),
        "kid": pair_kernel_distance(pair).mean,
        "is": inception_score(g.logits).mean,
        "precision": precision,
        "recall": recall,
    }


def ours_two(network: FeatureExtractor, generated: Tensor, real: Tensor) -> Values:
    """Only FID and KID, by this package, to compare with torchmetrics."""
    g, r = extract(network, generated), extract(network, real)
    return {
        "fid": frechet_distance(g.gaussian, r.gaussian),
        "kid": kernel_distance(g.features, r.features).mean,
    }


def register(network: FeatureExtractor) -> None:
    """Give torch-fidelity our network under the name ``benchmark``."""
    import torch_fidelity
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    class Extractor(FeatureExtractorBase):
        """The network behind that package's interface."""

        def __init__(self, name: str, features_list: list[str], **options: Any) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            """Names of the outputs."""
            return Features._fields

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            """Which output a metric is of."""
            return "logits" if metric == "isc" else "features"

        @staticmethod
        def can_be_compiled() -> bool:
            """Not needed."""
            return False

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            """The outputs that were asked for."""
            found = network(images)._asdict()
            return tuple(found[name] for name in self.features_list)

    torch_fidelity.register_feature_extractor("benchmark", Extractor)


class Images(torch.utils.data.Dataset):
    """Images in memory, as torch-fidelity reads them: one by one, no label."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def torch_fidelitys(generated: Tensor, real: Tensor) -> Values:
    """All four by torch-fidelity, without its four loader processes, which images in memory need not."""
    import torch_fidelity

    found = torch_fidelity.calculate_metrics(
        input1=Images(generated), input2=Images(real), cuda=False, isc=True, fid=True, kid=True, prc=True,
        feature_extractor="benchmark", batch_size=BATCH, cache=False, verbose=False, save_cpu_ram=True,
    )  # fmt: skip
    return {
        "fid": found["frechet_inception_distance"],
        "kid": found["kernel_inception_distance_mean"],
        "is": found["inception_score_mean"],
        "precision": found["precision"],
        "recall": found["recall"],
    }


class Bare(nn.Module):
    """Only the features, as torchmetrics wants them."""

    def __init__(self, network: FeatureExtractor, features: int) -> None:
        super().__init__()
        self.network, self.num_features = network, features

    def forward(self, images: Tensor) -> Tensor:
        """(B, d)."""
        return self.network(images).features


def torchmetricss(network: FeatureExtractor, generated: Tensor, real: Tensor) -> Values:
    """FID and KID by torchmetrics; each passes the images through the network."""
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    bare = Bare(network, network(real[:1]).features.shape[1])
    fid, kid = FrechetInceptionDistance(feature=bare), KernelInceptionDistance(feature=bare)
    for metric in (fid, kid):
        for images, is_real in ((generated, False), (real, True)):
            for batch in images.split(BATCH):
                metric.update(batch, real=is_real)
    return {"fid": fid.compute().item(), "kid": kid.compute()[0].item()}


def seconds(do: Callable[[], object]) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def trace_term(repeats: int, d: int = 2048) -> None:
    """Print the times of the distance of two Gaussians of ``d`` features."""
    from torch_fidelity.metric_fid import fid_statistics_to_metric

    generator = torch.Generator().manual_seed(0)
    a, b = (Gaussian.of(torch.randn(2 * d, d, generator=generator)) for _ in range(2))
    cold, cached = [], []
    for _ in range(repeats):
        fresh = Gaussian(b.mean, b.covariance, b.count)
        cold.append(seconds(lambda real=fresh: frechet_distance(a, real)))
        cached.append(seconds(lambda real=fresh: frechet_distance(a, real)))
    statistics_ = [{"mu": g.mean.numpy(), "sigma": g.covariance.numpy()} for g in (a, b)]
    theirs = seconds(lambda: fid_statistics_to_metric(*statistics_, verbose=False))
    print(f"Fréchet distance, d = {d}, median of {repeats}", "s", "ratio", sep="\t")
    usual = statistics.median(cached)
    for name, value in (
        ("real side cached", usual),
        ("real side new", statistics.median(cold)),
        ("torch-fidelity (once)", theirs),
    ):
        print(f"  {name:22}", f"{value:.2f}", f"{value / usual:.1f}", sep="\t")


def side_by_side(n: int, repeats: int) -> None:
    """Print times and values of the packages on the same random images."""
    generator = torch.Generator().manual_seed(0)
    generated, real = (
        torch.randint(0, high, (n, 1, 28, 28), generator=generator, dtype=torch.uint8) for high in (250, 256)
    )
    network = load_lenet("lenet-mnist")
    register(network)
    ways: dict[str, Callable[[], Values]] = {
        "ours": lambda: ours(network, generated, real),
        "torch-fidelity": lambda: torch_fidelitys(generated, real),
        "ours, FID and KID": lambda: ours_two(network, generated, real),
        "torchmetrics, FID and KID": lambda: torchmetricss(network, generated, real),
    }
    try:
        import torchmetrics  # noqa: F401
    except ImportError:
        print("torchmetrics is not installed: left out")
        del ways["torchmetrics, FID and KID"]
    values = {name: way() for name, way in ways.items()}  # also warms up
    rounds = [[seconds(way) for way in ways.values()] for _ in range(repeats)]
    times = {name: statistics.median(column) for name, column in zip(ways, zip(*rounds, strict=True), strict=True)}
    print(f"{n} + {n} images, median of {repeats}", "s", "ratio", sep="\t")
    for name, value in times.items():
        base = times["ours, FID and KID" if "KID" in name else "ours"]
        shown = "  ".join(f"{key} {found:.6g}" for key, found in values[name].items())
        print(f"  {name:26}", f"{value:.2f}", f"{value / base:.2f}", shown, sep="\t")


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000, help="generated, and as many real")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="more than there are free cores are many times slower")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    trace_term(options.repeats)
    side_by_side(options.images, options.repeats)


if __name__ == "__main__":
    main()
