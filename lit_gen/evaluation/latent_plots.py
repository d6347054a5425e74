"""Pictures of a model with latents, as uint8 images (C, H, W), from held-out images and `lit_gen.protocols`."""

from typing import NamedTuple

import torch
from torch import Tensor

from lit_gen.core import images as pictures
from lit_gen.core import randomness
from lit_gen.core.randomness import BLOCK
from lit_gen.core.sampling import great_circle
from lit_gen.evaluation.latent_sources import Encoded, decode
from lit_gen.protocols.latents import Code

GAP = 6  # pixels between things that do not belong together
EXTREME = 3.0
"""Traversals go this many deviations of the prior to both sides."""


class Latents(NamedTuple):
    """Facts about the latents of some images.

    Attributes:
        means: (n, latent_dim), the posteriors' means, or z if they are not known, on the CPU.
        activity: (latent_dim,), the mean KL of each latent in nats, or the variance of the means if it is not known.
        labels: int64 (n,), or None.
    """

    means: Tensor
    activity: Tensor
    labels: Tensor | None


def latents_of(encoded: Encoded, rows: Tensor) -> Latents:
    """Encode at least two rows (n,) of a split."""
    codes = [encoded.block(part) for part in rows.split(BLOCK)]
    means = torch.cat([_mean(code) for code in codes])
    known = [code.info["kl"] for code in codes if "kl" in code.info]
    activity = torch.cat(known).float().mean(0).cpu() if known else means.var(0)
    labels = encoded.data.labels
    return Latents(means, activity, None if labels is None else labels[rows.to(labels.device)].cpu())


def _mean(code: Code) -> Tensor:
    return code.info.get("mean", code.z).float().cpu()


def _means(encoded: Encoded, rows: Tensor) -> Tensor:
    return torch.cat([_mean(encoded.block(part)) for part in rows.split(BLOCK)])


def reconstructions(encoded: Encoded, rows: Tensor) -> Tensor:
    """Pairs: each image of rows (n,) at the left, its reconstruction from a drawn z directly to its right."""
    z = torch.cat([encoded.block(part).z for part in rows.split(BLOCK)])
    copies = decode(encoded.model, z, encoded.labels(rows), encoded.where)
    pairs = torch.cat([encoded.images(rows), copies.to(encoded.where)], dim=3)
    columns = max(1, round((len(rows) / 2) ** 0.5))  # pairs are twice as wide as high
    return pictures.grid(pictures.quantize(pairs), columns, GAP)


def interpolations(encoded: Encoded, start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Two touching rows for each pair of images of rows (n,): the straight path above, the great circle below.

    A path has the label of its start.
    """
    a, b = (_means(encoded, rows) for rows in (start, end))
    t = torch.linspace(0, 1, steps)[None, :, None]
    straight = (1 - t) * a[:, None] + t * b[:, None]
    z = torch.stack([straight, great_circle(a, b, steps)], dim=1)  # (n, 2, steps, d)
    labels = encoded.labels(start)
    if labels is not None:
        labels = labels.repeat_interleave(2 * steps)
    images = pictures.quantize(decode(encoded.model, z.flatten(0, 2), labels, encoded.where))
    tiles = images.unflatten(0, (len(start), 2, steps))  # (n, 2, steps, C, H, W)
    return pictures.grid(tiles.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3), 1, GAP)


def traversals(encoded: Encoded, row: Tensor, latents: Latents, count: int, steps: int) -> Tensor:
    """One row for each of the ``count`` most active latents, the most active above: that latent goes from -3 to 3.

    The values are in deviations of the prior from its mean; the other latents, and the label, are those of one image.

    Args:
        encoded: of the split.
        row: int64 (1,), that image.
        latents: of many images.
        count: number of latents; all if there are fewer.
        steps: values of each.
    """
    mean, deviation = _prior(encoded)
    which = latents.activity.argsort(descending=True, stable=True)[:count]
    z = _means(encoded, row).repeat(len(which), steps, 1)
    values = torch.linspace(-EXTREME, EXTREME, steps)
    z[torch.arange(len(which)), :, which] = mean[which, None] + deviation[which, None] * values
    labels = encoded.labels(row)
    labels = None if labels is None else labels.expand(len(which) * steps)
    return pictures.grid(pictures.quantize(decode(encoded.model, z.flatten(0, 1), labels, encoded.where)), steps)


def _prior(encoded: Encoded) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each latent (latent_dim,) under the prior: 0 and 1, or those of 4,096 draws."""
    dim = encoded.model.latent_dim
    noise = randomness.latents(encoded.seed, torch.arange(4096), dim, "prior").to(encoded.where)
    z = encoded.model.prior(noise).float()
    if torch.equal(z, noise):
        return torch.zeros(dim), torch.ones(dim)
    return z.mean(0).cpu(), z.std(0).cpu()


def manifold(encoded: Encoded, row: Tensor, side: int) -> Tensor:
    """Images decoded from a grid over a 2-D prior: equal shares of its mass, z_0 to the right and z_1 upwards.

    The grid is even in (0, 1) x (0, 1) and goes through the inverse normal distribution function; Kingma and Welling,
    2014, https://arxiv.org/abs/1312.6114, figure 4. A conditional model draws the label of the image of ``row`` (1,).
    """
    share = (torch.arange(side) + 0.5) / side
    place = torch.special.ndtri(share)
    noise = torch.stack([place.repeat(side), place.flip(0).repeat_interleave(side)], dim=1)
    z = encoded.model.prior(noise.to(encoded.where))
    labels = encoded.labels(row)
    labels = None if labels is None else labels.expand(len(z))
    return pictures.grid(pictures.quantize(decode(encoded.model, z, labels, encoded.where)), side, 0)


def scatter(latents: Latents) -> Tensor:
    """The means of 2-D posteriors, (3, 600, 660): a color for each class, with a legend, on equal scales."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.6, 6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    x, y = latents.means.T.numpy()
    if latents.labels is None:
        axes.scatter(x, y, s=5, color="C0")
    else:
        classes = latents.labels.unique().tolist()
        colors = colormaps["tab10" if len(classes) <= 10 else "turbo"]
        for i, label in enumerate(classes):
            mine = (latents.labels == label).numpy()
            color = colors(i if len(classes) <= 10 else i / (len(classes) - 1))
            axes.scatter(x[mine], y[mine], s=5, color=color, label=str(label))
        columns = 1 + (len(classes) - 1) // 20
        figure.legend(title="class", markerscale=3, loc="outside right upper", ncols=columns)  # it hides no point
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel("$z_0$")
    axes.set_ylabel("$z_1$")
    return pictures.of_figure(figure)
