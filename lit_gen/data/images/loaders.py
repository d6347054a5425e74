"""Batches from a data set in memory as uint8: one gather, one flip, one conversion.

No worker processes and no Python per image. Batch s is a function of ``(seed, s)``: the order, flips,
crops and binary pixels are drawn for the global batch, and each rank takes its rows.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lit_gen.core import randomness
from lit_gen.core.batches import Batches, split
from lit_gen.core.errors import UserError
from lit_gen.core.images import to_float
from lit_gen.data.images.binarize import white
from lit_gen.protocols.images import ImageBatch

MOST_STEPS = 32
MOST_BYTES = 1 << 19
"""The most steps, and about the most bytes of their images, that are gathered at once. After a step of training the
processor's caches hold nothing of this code, and calls take some ten times as long as they do one after the other."""


@dataclass
class ImageSet:
    """One split of a data set.

    Attributes:
        images: uint8 (N, C, H, W), or float for points.
        labels: int64 (N,), or None.
    """

    images: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)


class TrainLoader:
    """Shuffled batches, one for each step; its state is the number of the next step.

    An epoch has only whole steps; the images that do not fill the last one are left out, different ones in each epoch.
    Resuming needs only the step: order, flips, crops and binary pixels are keyed by it.

    Args:
        data: the training split; its tensors may already lie on the device.
        batches: how the images of a step are divided among ranks and micro-batches; a rank's come in one batch,
            (updates * micro_batches * rows, C, H, W): updates one after the other, and so are their micro-batches.
        seed: names the order, the flips, the crops and the binary pixels.
        flip: mirror each image with probability 1/2.
        pad: crop at random from the image padded by that many pixels on each side (reflected).
        binarize: make each pixel black or white, with its level as probability, anew each time it is read.
        rank: this process's number.
        device: where batches are put.

    Raises:
        UserError: if one step needs more images than there are.
    """

    def __init__(
        self,
        data: ImageSet,
        batches: Batches,
        seed: int,
        *,
        flip: bool = False,
        pad: int = 0,
        binarize: bool = False,
        rank: int = 0,
        device: torch.device | None = None,
    ) -> None:
        self.data, self.batches, self.seed = data, batches, seed
        self.flip, self.pad, self.binarize = flip, pad, binarize
        self.device = device or torch.device("cpu")
        self.images_per_step = batches.per_step
        self.step, self._rows = 0, batches.of_rank(rank)
        self._draws = randomness.HostRows(seed, self._rows, self.images_per_step)
        bytes_of_step = data.images[:1].nbytes * len(self._rows) * (8 if pad else 1)  # a crop has int64 for each pixel
        self._at_once = max(1, min(MOST_STEPS, MOST_BYTES // max(1, bytes_of_step)))
        self._ahead: dict[int, ImageBatch] = {}
        if self.images_per_step > len(data):
            updates = f", {batches.updates} batches of {batches.size} (model.n_critic)" if batches.updates > 1 else ""
            most = len(data) // batches.updates // batches.world * batches.world
            updates_most = len(data) // batches.world
            hint = f"at most {most} is expected" if most else f"at most {updates_most} updates are expected"
            raise UserError(
                f"data.batch_size: {batches.size} was found, with which a step reads {self.images_per_step} images"
                f"{updates}, but the training split has {len(data)}; {hint}"
            )

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return len(self.data) // self.images_per_step

    def __len__(self) -> int:
        return self.steps

    def state_dict(self) -> dict[str, int]:
        """The next step; the same on every rank, and for every division of a step's images."""
        return {"step": self.step, "images_per_step": self.images_per_step}

    def resume(self, state: dict[str, int], allow_changes: bool) -> None:
        """Continue at ``state``.

        Raises:
            UserError: if a step took another number of images, unless that is allowed.
        """
        before = state["images_per_step"]
        if before != self.images_per_step and not allow_changes:
            raise UserError(
                f"a step takes {self.images_per_step} images now but took {before} (data.batch_size): a resumed run "
                f"continues as it was, or say --allow_changes true"
            )
        self.load_state_dict(state)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at the step of ``state``."""
        self.step = state["step"]

    def __iter__(self) -> Iterator[ImageBatch]:
        """The remaining batches of the epoch."""
        epoch = self.step // self.steps
        order = torch.from_numpy(randomness.host(self.seed, "order", epoch).permutation(len(self.data)))
        while self.step // self.steps == epoch:
            if self.step not in self._ahead:
                steps = range(self.step, min(self.step + self._at_once, (epoch + 1) * self.steps))
                self._ahead = self._gather(order, steps)
            batch = self._ahead.pop(self.step)
            self.step += 1
            yield batch._replace(images=to_float(batch.images))

    def _gather(self, order: Tensor, steps: range) -> dict[int, ImageBatch]:
        """The batches of some steps of an epoch, with images in the type that they are kept in."""
        places = self._rows + torch.tensor([[step % self.steps * self.images_per_step] for step in steps])
        indices = order[places.flatten()]
        images, labels = rows_of(self.data, indices, self.device)
        mirrored = self._drawn("flip", steps, lambda host, n: host.random(n) < 0.5) if self.flip else None
        if self.pad:
            images = self._crop(images, steps, mirrored)
        elif mirrored is not None:
            images = mirror(images, mirrored)
        if self.binarize:
            shape = images.shape[1:]
            drawn = self._drawn(
                "binarize",
                steps,
                lambda host, n: host.integers(0, 255, (n, *shape), dtype=np.uint8),
                math.prod(shape) // 4,  # of a byte each
            )
            images = white(images, drawn.to(self.device))
        together = ImageBatch(images, labels, indices, self.batches.micro_batches)
        return dict(zip(steps, split(together, len(steps)), strict=True))

    def _drawn(
        self, purpose: str, steps: range, draw: Callable[[np.random.Generator, int], np.ndarray], each: int = 1
    ) -> Tensor:
        """What is drawn for this rank's rows of some steps, one after the other; see `HostRows`."""
        return torch.cat([self._draws.draw(purpose, step, draw, each) for step in steps])

    def _crop(self, images: Tensor, steps: range, mirrored: Tensor | None) -> Tensor:
        """Windows of the images, some of them mirrored: one gather of all pixels."""
        count, channels, height, width = images.shape
        places = 2 * self.pad + 1
        top, left = self._drawn("crop", steps, lambda host, n: host.integers(0, places, (n, 2))).to(self.device).T
        y = (top[:, None] + torch.arange(height, device=self.device) - self.pad)[:, :, None]
        x = left[:, None] + torch.arange(width, device=self.device) - self.pad
        if mirrored is not None:
            x = torch.where(mirrored.to(self.device)[:, None], x.flip(-1), x)
        y, x = (_reflect(i, n) for i, n in ((y, height), (x[:, None], width)))
        flat = (y * width + x).view(count, 1, -1).expand(-1, channels, -1)
        return images.flatten(2).gather(2, flat).view_as(images)


def rows_of(data: ImageSet, indices: Tensor, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Copies of some images, in the type that they are kept in, and of their labels.

    Args:
        data: the split.
        indices: int64 (n,), on the CPU.
        device: where to put them.
    """
    where = indices.to(data.images.device)
    images = data.images.index_select(0, where).to(device, non_blocking=True)
    return images, None if data.labels is None else data.labels.index_select(0, where).to(device)


def mirror(images: Tensor, which: Tensor) -> Tensor:
    """Mirror the images (N, C, H, W) where ``which``, bool (N,) on the CPU, is true; on the CPU in place."""
    if images.device.type != "cpu":
        return torch.where(which.to(images.device)[:, None, None, None], images.flip(-1), images)
    pixels, rows = images.numpy(), which.numpy().nonzero()[0]
    pixels[rows] = pixels[rows][..., ::-1]  # a third of the time of torch's index_copy_
    return images


def _reflect(index: Tensor, size: int) -> Tensor:
    """Positions outside 0..size-1, mirrored at the border pixels."""
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


class EvalLoader:
    """Every item exactly once over all ranks: fixed blocks of 64 in order, block k on rank k % world.

    A rank without a block gets one empty batch, so that no rank misses an epoch's collectives.

    Args:
        data: the split.
        rank: this process's number.
        world: number of processes.
        device: where batches are put.
    """

    def __init__(self, data: ImageSet, *, rank: int = 0, world: int = 1, device: torch.device | None = None) -> None:
        self.data, self.rank, self.world = data, rank, world
        self.device = device or torch.device("cpu")
        blocks = torch.arange(len(data)).split(randomness.BLOCK)[rank::world]
        self._blocks = list(blocks) or [torch.arange(0)]

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[ImageBatch]:
        for indices in self._blocks:
            images, labels = rows_of(self.data, indices, self.device)
            yield ImageBatch(to_float(images), labels, indices)
