"""Noise to images in evaluation: whole blocks of equal shape, so that equal noise gives bit-equal images."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lit_gen.core import data as datasets
from lit_gen.core import randomness
from lit_gen.core.blame import named, shown
from lit_gen.core.blocks import occurrences, padded
from lit_gen.core.edits import check_edit, with_edit
from lit_gen.core.errors import UserError
from lit_gen.core.modes import evaluation_mode
from lit_gen.core.randomness import BLOCK, BlockDraws
from lit_gen.protocols.images import Condition, Drawer, IndexedDraws, Weights

__all__ = ["Sampler", "check_labels", "great_circle", "labels_of", "one_pass", "record_of"]


class Sampler:
    """Base of the modules that draw: a subclass says how, in `drawer`; the rest follows.

    It satisfies `lit_gen.protocols.images.ImageGenerator` and `LatentInterpolator`, and is a mixin of a
    ``torch.nn.Module``.

    Attributes:
        seed: names noise and labels.
        label_counts: (num_classes,) training images of each class, a buffer of a conditional model; see `count_labels`.
    """

    seed: int
    label_counts: Tensor

    @property
    def device(self) -> torch.device:
        """The module's device; Lightning provides it."""
        raise NotImplementedError

    @property
    def averaged(self) -> bool:
        """Whether there is a moving average of the weights, so that "ema" and "raw" differ."""
        return False

    def drawer(self, *args: Any, **kwargs: Any) -> Drawer:
        """How to draw: ``drawer(weights="ema", steps: int = 50, ...)``.

        After the weights come the model's own options, each with a type and a default: ``lit-gen sample RUN --steps
        20`` sets them if the command has no option of that name; `sample` and `interpolate` pass them on.
        """
        raise NotImplementedError

    @property
    def num_classes(self) -> int | None:
        """How many classes are drawn on request; None for an unconditional model."""
        return self.drawer("raw").num_classes

    def conditions(self, indices: Tensor) -> Condition:
        """The default conditions of samples ``indices``, int64 (n,); row i depends only on its index.

        Labels come from the training set's distribution.
        """
        return Condition() if self.num_classes is None else Condition(labels_of(self.seed, indices, self.label_counts))

    def sample(
        self,
        indices: Tensor,
        *,
        labels: Tensor | None = None,
        images: Tensor | None = None,
        mask: Tensor | None = None,
        weights: Weights = "ema",
        **options: Any,
    ) -> Tensor:
        """Draw images by global index.

        Args:
            indices: int64 (n,).
            labels: int64 (n,) of a conditional model; None for those of `conditions`.
            images: of a model that edits, float (n, C, H, W) in [-1, 1] to be changed, or (1, C, H, W) for all.
            mask: (n, 1, H, W) or (1, 1, H, W), 1 where ``images`` are to be filled in, 0 where they are kept.
            weights: the moving average, or the raw weights; raw as well where the run keeps no average.
            options: those of the model's `drawer`.

        Returns:
            float (n, C, H, W) in [-1, 1]; image i depends on ``(seed, indices[i], label, weights, options)`` and what
            it is edited from only, bit for bit.

        Raises:
            UserError: for labels that the model has no class for, and images that it cannot edit.
        """
        self._check(labels, len(indices))
        wanted = indices.cpu()
        # A row always has the same place in its own block; an index that occurs again goes to a further block.
        nth = occurrences(wanted)
        times = int(nth.max()) + 1 if len(nth) else 1
        blocks, row_block = torch.unique(wanted // BLOCK * times + nth, return_inverse=True)
        rows = ((blocks // times)[:, None] * BLOCK + torch.arange(BLOCK)).flatten()
        position = row_block * BLOCK + wanted % BLOCK
        drawer = self.drawer(weights, **options)
        check_edit(drawer, images, mask, len(wanted))
        condition = with_edit(self.conditions(rows), images, mask, position, len(rows))
        if labels is not None and condition.labels is not None:
            condition.labels[position] = labels.cpu()
        noise = randomness.latents(self.seed, rows, drawer.latent_dim)
        drawn = self._draw(drawer, noise, condition, (blocks // times).tolist())
        return drawn if torch.equal(position, torch.arange(len(rows))) else drawn[position.to(self.device)]

    def interpolate(
        self,
        start: Tensor,
        end: Tensor,
        length: int,
        *,
        labels: Tensor | None = None,
        weights: Weights = "ema",
        **options: Any,
    ) -> Tensor:
        """Draw (n, length, C, H, W): great-circle paths between the noise of indices ``start`` and ``end`` (n,).

        A path has one condition: the label given, else that of its first index.
        """
        self._check(labels, len(start))
        drawer, condition = self.drawer(weights, **options), self.conditions(start)
        if labels is not None and condition.labels is not None:
            condition = condition._replace(labels=labels.cpu())
        a, b = (randomness.latents(self.seed, indices, drawer.latent_dim) for indices in (start, end))
        path = great_circle(a, b, length).flatten(0, 1)
        condition = Condition(*(x if x is None else x.repeat_interleave(length, 0) for x in condition))
        images = self._draw(drawer, path, condition, list(range(-(-len(path) // BLOCK))))
        paths: Tensor = images.unflatten(0, (len(a), length))
        return paths

    def drawing_record(self, **options: Any) -> dict[str, Any]:
        """See `lit_gen.protocols.images.ImageGenerator`."""
        settings = dict(self.drawer("raw", **options).settings)
        counts = None if self.num_classes is None else self.label_counts
        return record_of(self.seed, counts) | ({"drawer": settings} if settings else {})

    def count_labels(self, data: object) -> None:
        """Fill ``label_counts`` of a conditional model from the training images of a data module, if it knows them."""
        counts = None if self.num_classes is None else datasets.label_counts(data, self.num_classes)
        if counts is not None:
            self.label_counts.copy_(counts)

    def _check(self, labels: Tensor | None, count: int) -> None:
        if labels is None:
            return
        if labels.shape != (count,) or labels.is_floating_point():
            raise UserError(f"labels: {labels.dtype} {tuple(labels.shape)} was found, int64 ({count},) is expected")
        check_labels(labels, self.num_classes)

    @torch.no_grad()
    def _draw(self, drawer: Drawer, noise: Tensor, condition: Condition, blocks: list[int]) -> Tensor:
        """Draw in evaluation mode in blocks of 64 rows, the last one padded; the modes of all parts are left as found.

        What a network draws for itself is seeded anew for each block, by (seed, block number), and no random state is
        moved.
        """
        assert isinstance(self, nn.Module)
        images, where = [], self.device
        with evaluation_mode(self), torch.random.fork_rng([where] if where.type == "cuda" else []):
            for i, block in enumerate(blocks):
                randomness.seed_block(self.seed, block, where)
                given = Condition(*(x if x is None else padded(x, i * BLOCK).to(where) for x in condition))
                draws = BlockDraws(self.seed, block, where)
                images.append(drawer.draw(padded(noise, i * BLOCK).to(where), given, draws))
        return torch.cat(images)[: len(noise)]


def one_pass(network: nn.Module, option: str = "model") -> Drawer:
    """The drawer of a network with ``latent_dim``: latents, and labels where it has ``num_classes``, to images.

    Args:
        network: ``network(z)`` or ``network(z, labels)``.
        option: what names it, for the message if it returns anything else.
    """
    dim, classes = network.latent_dim, getattr(network, "num_classes", None)
    assert isinstance(dim, int)

    def draw(z: Tensor, asked: Condition, _: IndexedDraws) -> Tensor:
        found = network(z) if asked.labels is None else network(z, asked.labels)
        if not isinstance(found, Tensor) or found.ndim != 4 or len(found) != len(z):
            expected = f"images ({len(z)}, C, H, W) are expected of latents {tuple(z.shape)}"
            raise UserError(f"{option}: {named(network)} returned {shown(found)}, {expected}")
        return found

    return Drawer(draw, dim, classes if isinstance(classes, int) else None)


def record_of(seed: int, counts: Tensor | None) -> dict[str, Any]:
    """What a record of numbers says of draws by index: their seed, and of a conditional model where labels come from.

    Args:
        seed: the run's seed.
        counts: (num_classes,) training images of each class; None for an unconditional model.
    """
    drawn = "by index from the training set's distribution"
    labels = {} if counts is None else {"labels": {"drawn": drawn, "training_images": counts.tolist()}}
    return {"seed": seed, **labels}


def labels_of(seed: int, indices: Tensor, counts: Tensor) -> Tensor:
    """A label for each global index, drawn from the training label distribution.

    Args:
        seed: the run's seed.
        indices: int64 (n,).
        counts: (num_classes,) training images of each class; all zero before training, which stands for equal shares.

    Returns:
        int64 (n,) on the CPU; row i depends only on ``(seed, indices[i], counts)``.
    """
    weights = counts.cpu().numpy().astype(np.float64)
    edges = np.cumsum(weights if weights.sum() else np.ones_like(weights))
    wanted = indices.cpu().numpy()
    blocks, which = np.unique(wanted // BLOCK, return_inverse=True)
    drawn = np.array([randomness.host(seed, "labels", index=int(block)).random(BLOCK) for block in blocks]).reshape(-1)
    return torch.from_numpy(np.searchsorted(edges, drawn[which * BLOCK + wanted % BLOCK] * edges[-1], side="right"))


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
