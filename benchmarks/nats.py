"""Nats of models without a network, in closed form: of Digits8, and of moons under their true density.

    python -m benchmarks.nats

Independent pixels: a probability mass, each pixel's levels counted on the training split, half a count added to each.
Gaussian: the density of x + U[0, 1), mean and full covariance of the training split; the expectation over the noise is
exact: it adds 1/12 to each variance, and tr(S^-1) / 24 to the nats of an image.
"""

import math

import torch
from torch import Tensor

from lit_gen.core.images import level_of, to_float
from lit_gen.data.images.digits8 import LEVELS, Digits8
from lit_gen.data.images.points import Points2D
from lit_gen.protocols.data import Split

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def independent_pixels(train: Tensor, held_out: Tensor) -> float:
    """Nats per image of numbers of levels (N, D)."""
    counts = torch.stack([(train == level).sum(0) for level in range(LEVELS)], 1) + 0.5  # (D, levels)
    nats = -(counts / counts.sum(1, keepdim=True)).log()
    return float(nats[torch.arange(train.shape[1]), held_out.long()].sum(1).mean())


def gaussian(train: Tensor, held_out: Tensor) -> float:
    """Nats per image of numbers of levels (N, D), in float64."""
    covariance = torch.cov(train.T, correction=0) + torch.eye(train.shape[1], dtype=train.dtype) / 12
    inverse, away = torch.linalg.inv(covariance), held_out - train.mean(0)  # both + 1/2
    squares = ((away @ inverse) * away).sum(1).mean() + inverse.trace() / 12
    return float((squares + torch.logdet(2 * math.pi * covariance)) / 2)


def independent_gaussians(train: Tensor, held_out: Tensor) -> float:
    """As `gaussian`, with a diagonal covariance."""
    variance = train.var(0, correction=0) + 1 / 12
    squares = ((held_out - train.mean(0)).square() + 1 / 12) / variance
    return float((squares + torch.log(2 * math.pi * variance)).sum(1).mean() / 2)


def moons(seed: int, middles: int = 4000) -> float:
    """Nats per point of the validation split of `Points2D`'s moons under their true density.

    It is the mean over both arcs of the Gaussian noise's density around their points: here ``middles`` of each.
    """
    data = Points2D(kind="moons", seed=seed)
    angle = (torch.arange(middles).double() + 0.5) * (math.pi / middles)
    upper = torch.stack([angle.cos(), angle.sin()], 1)
    arcs, variance = torch.cat([upper, torch.tensor([1, 0.5]) - upper]), data.noise**2
    nats = []
    for part in data.split("val").images.flatten(1).double().split(1000):
        squares = torch.cdist(part, arcs, compute_mode="donot_use_mm_for_euclid_dist").square() / (2 * variance)
        nats.append(math.log(len(arcs) * 2 * math.pi * variance) - torch.logsumexp(-squares, 1))
    return float(torch.cat(nats).mean())


def main() -> None:
    """Print the rows."""
    data = Digits8()
    levels = {split: level_of(to_float(data.split(split).images), LEVELS).double().flatten(1) for split in SPLITS}
    print(f"{'nats per image':<22}" + "".join(f"{split:>10}" for split in SPLITS))
    for name, model in (
        ("independent pixels", independent_pixels),
        ("independent Gaussians", independent_gaussians),
        ("Gaussian", gaussian),
    ):
        print(f"{name:<22}" + "".join(f"{model(levels['train'], levels[split]):>10.2f}" for split in SPLITS))
    print("moons under their true density, validation, seeds 0 to 2: " + ", ".join(f"{moons(s):.3f}" for s in range(3)))


if __name__ == "__main__":
    main()
