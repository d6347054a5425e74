"""Nats per image of Digits8 of two models without a network, in closed form: the first rows of the table in docs.

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


def main() -> None:
    """Print the two rows."""
    data = Digits8()
    levels = {split: level_of(to_float(data.split(split).images), LEVELS).double().flatten(1) for split in SPLITS}
    print(f"{'nats per image':<20}" + "".join(f"{split:>10}" for split in SPLITS))
    for name, model in (("independent pixels", independent_pixels), ("Gaussian", gaussian)):
        print(f"{name:<20}" + "".join(f"{model(levels['train'], levels[split]):>10.2f}" for split in SPLITS))


if __name__ == "__main__":
    main()
