"""Latents to images in evaluation: whole blocks of equal shape, so that equal latents give bit-equal images."""

import numpy as np
import torch
from torch import Tensor, nn

from lit_gen.core import randomness
from lit_gen.core.errors import UserError
from lit_gen.core.modes import evaluation_mode
from lit_gen.core.randomness import BLOCK
from lit_gen.protocols.images import Weights

__all__ = ["Sampler", "check_labels", "great_circle", "interpolate", "labels_of", "sample"]


class Sampler:
    """What a module needs in order to draw: `lit_gen.protocols.images.ImageGenerator` and `LatentInterpolator`.

    Attributes:
        generator: latents (B, latent_dim), and labels (B,) where it is conditional, to images (B, C, H, W).
        ema_generator: its moving average, or None.
        label_counts: (num_classes,) training images of each class; empty for an unconditional generator.
        seed: names the latents and labels.
    """

    generator: nn.Module
    ema_generator: nn.Module | None
    label_counts: Tensor
    seed: int

    @property
    def num_classes(self) -> int | None:
        """How many classes the generator draws on request; None for an unconditional one."""
        number = getattr(self.generator, "num_classes", None)
        return number if isinstance(number, int) else None

    def sample(self, indices: Tensor, *, labels: Tensor | None = None, weights: Weights = "ema") -> Tensor:
        """Draw images by global index.

        Args:
            indices: int64 (n,).
            labels: int64 (n,) of a conditional generator; None draws them from the training set's distribution.
            weights: the moving average, or the raw weights; raw as well where the run keeps no average.

        Returns:
            float (n, C, H, W) in [-1, 1]; image i depends on ``(seed, indices[i], label, weights)`` alone, bit for bit.

        Raises:
            UserError: for labels that the generator has no class for.
        """
        self._check(labels, len(indices))
        return sample(self._network(weights), self.seed, indices, labels, self._counts, self.label_counts.device)

    def interpolate(
        self, start: Tensor, end: Tensor, steps: int, *, labels: Tensor | None = None, weights: Weights = "ema"
    ) -> Tensor:
        """Draw (n, steps, C, H, W): great-circle paths between the latents of indices ``start`` and ``end`` (n,)."""
        self._check(labels, len(start))
        network = self._network(weights)
        return interpolate(network, self.seed, (start, end), steps, labels, self._counts, self.label_counts.device)

    def _check(self, labels: Tensor | None, count: int) -> None:
        if labels is None:
            return
        if labels.shape != (count,) or labels.is_floating_point():
            raise UserError(f"labels: {labels.dtype} {tuple(labels.shape)} was found, int64 ({count},) is expected")
        check_labels(labels, self.num_classes)

    @property
    def _counts(self) -> Tensor | None:
        return None if self.num_classes is None else self.label_counts

    def _network(self, weights: Weights) -> nn.Module:
        return self.ema_generator if weights == "ema" and self.ema_generator is not None else self.generator


def sample(
    generator: nn.Module, seed: int, indices: Tensor, labels: Tensor | None, counts: Tensor | None, where: torch.device
) -> Tensor:
    """Draw images by global index.

    Args:
        generator: latents (B, latent_dim), and labels where it is conditional, to images (B, C, H, W).
        seed: names the latents and labels.
        indices: int64 (n,).
        labels: int64 (n,), or None: the labels of the indices, see `labels_of`.
        counts: training images per class where the generator is conditional, else None.
        where: the generator's device.

    Returns:
        (n, C, H, W) on the device; image i depends on ``(seed, indices[i], labels[i])`` alone, bit for bit.
    """
    wanted = indices.cpu()
    # A row always stands at its place in a block of its own; an index asked for again goes to a further block.
    nth = _occurrences(wanted)
    blocks, row_block = torch.unique(torch.stack([wanted // BLOCK, nth]), dim=1, return_inverse=True)
    rows = (blocks[0][:, None] * BLOCK + torch.arange(BLOCK)).flatten()
    position = row_block * BLOCK + wanted % BLOCK
    classes = None
    if counts is not None:
        classes = labels_of(seed, rows, counts)
        if labels is not None:
            classes[position] = labels.cpu()
    z = randomness.latents(seed, rows, _latent_dim(generator))
    return _decode(generator, z, classes, where, [(seed, int(block)) for block in blocks[0]])[position.to(where)]


def interpolate(
    generator: nn.Module,
    seed: int,
    ends: tuple[Tensor, Tensor],
    steps: int,
    labels: Tensor | None,
    counts: Tensor | None,
    where: torch.device,
) -> Tensor:
    """Draw (n, steps, C, H, W): great-circle paths between the latents of two sets of indices (n,).

    A path has one label: the one given, else that of its first index.
    """
    a, b = (randomness.latents(seed, indices, _latent_dim(generator)) for indices in ends)
    path = great_circle(a, b, steps).flatten(0, 1)
    classes = None
    if counts is not None:
        classes = (labels_of(seed, ends[0], counts) if labels is None else labels.cpu()).repeat_interleave(steps)
    names = [(seed, block) for block in range(-(-len(path) // BLOCK))]
    paths: Tensor = _decode(generator, path, classes, where, names).unflatten(0, (len(a), steps))
    return paths


def labels_of(seed: int, indices: Tensor, counts: Tensor) -> Tensor:
    """A label for each global index, drawn from the training label distribution.

    Args:
        seed: the run's seed.
        indices: int64 (n,).
        counts: (num_classes,) training images of each class; all zero before training, which stands for equal shares.

    Returns:
        int64 (n,) on the CPU; row i depends on ``(seed, indices[i], counts)`` alone.
    """
    weights = counts.cpu().numpy().astype(np.float64)
    edges = np.cumsum(weights if weights.sum() else np.ones_like(weights))
    wanted = indices.cpu().numpy()
    labels = np.empty(len(wanted), dtype=np.int64)
    for block in np.unique(wanted // BLOCK):
        mine = wanted // BLOCK == block
        drawn = randomness.host(seed, "labels", index=int(block)).random(BLOCK)[wanted[mine] % BLOCK]
        labels[mine] = np.searchsorted(edges, drawn * edges[-1], side="right")
    return torch.from_numpy(labels)


def check_labels(labels: Tensor, num_classes: int | None, option: str = "labels") -> None:
    """Refuse labels that the generator has no class for.

    Args:
        labels: int64 (n,).
        num_classes: of the generator; None for an unconditional one.
        option: what the message calls them.

    Raises:
        UserError: for an unconditional generator or a label out of range.
    """
    if num_classes is None:
        raise UserError(f"{option}: this model's generator is unconditional, it draws no class on request")
    bad = labels[(labels < 0) | (labels >= num_classes)]
    if len(bad):
        expected = f"0 to {num_classes - 1} are expected ({num_classes} classes)"
        raise UserError(f"{option}: {int(bad[0])} was found, {expected}")


def great_circle(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Spherical interpolation (n, steps, d) between latents (n, d), both ends included.

    White, 2016, https://arxiv.org/abs/1609.04468: a straight line would leave the shell where N(0, I) lives. Ends on
    one line, as all numbers are, have no great circle of their own, and nearly opposite ends of unequal lengths one
    that goes far outside: those are joined by the straight line.
    """
    a, b = start[:, None], end[:, None]
    t = torch.linspace(0, 1, steps)[None, :, None]
    cosine = nn.functional.cosine_similarity(a, b, dim=-1, eps=1e-12)[..., None].clamp(-1 + 1e-6, 1 - 1e-6)
    angle = torch.acos(cosine)
    circle = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
    longer = torch.maximum(a.norm(dim=-1), b.norm(dim=-1))[..., None]
    outside = circle.norm(dim=-1, keepdim=True).amax(1, keepdim=True) > 1.1 * longer
    return torch.where((torch.sin(angle) < 2e-3) | outside, (1 - t) * a + t * b, circle)


@torch.no_grad()
def _decode(
    generator: nn.Module, z: Tensor, labels: Tensor | None, where: torch.device, names: list[tuple[int, int]]
) -> Tensor:
    """Run a generator in evaluation mode on blocks of 64 rows, the last one padded; its parts' modes are left as found.

    What it draws for itself is seeded anew for each block, by (seed, block number), and no random state is moved.
    """
    images = []
    with evaluation_mode(generator), torch.random.fork_rng([where] if where.type == "cuda" else []):
        for i, (seed, block) in enumerate(names):
            randomness.seed_block(seed, block, where)
            given = None if labels is None else _padded(labels, i * BLOCK).to(where)
            latents = _padded(z, i * BLOCK).to(where)
            images.append(generator(latents) if given is None else generator(latents, given))
    return torch.cat(images)[: len(z)]


def _padded(rows: Tensor, first: int) -> Tensor:
    block = rows[first : first + BLOCK]
    return torch.cat([block, block.new_zeros(BLOCK - len(block), *block.shape[1:])])


def _occurrences(indices: Tensor) -> Tensor:
    """How often each entry stood before it in ``indices`` (n,)."""
    order = torch.argsort(indices, stable=True)
    ordered = indices[order]
    start = torch.searchsorted(ordered, ordered)  # first place of equal entries
    nth = torch.empty_like(indices)
    nth[order] = torch.arange(len(indices)) - start
    return nth


def _latent_dim(generator: nn.Module) -> int:
    dim = generator.latent_dim
    assert isinstance(dim, int)
    return dim
