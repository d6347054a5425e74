"""Pairs from any set of images: the image is the target, what a degradation leaves of it the source."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lit_gen.core.blame import named
from lit_gen.core.errors import UserError
from lit_gen.data.images.degradations import Degradation, Observed, Rows
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.module import ImageData
from lit_gen.data.pairs.module import PairData, shape_of
from lit_gen.protocols.data import Split
from lit_gen.protocols.images import ImageBatch, ImagePair


class Degraded(PairData):
    """Restoration of the images of any set: super-resolution, denoising, inpainting, edges to pictures.

    The source of image i is a function of ``(seed, split, epoch, i)``: noise and holes are drawn anew in each epoch,
    after the set's own flips and crops, and are always the same in evaluation, on every device.

    Args:
        data: the set of images; its ``flip``, ``pad`` and ``on_device`` are in force, its seed is ``seed``.
        degradation: what makes a source of an image, see `lit_gen.data.images.degradations`.
        batch_size: training pairs of one update, over all ranks and micro-batches; null: as ``data`` says.
        device_batch_size: the most training pairs that a device takes at once; null: as ``data`` says.
        seed: names all draws; linked to ``seed_everything`` by the command line.

    Raises:
        UserError: if the degradation does not take such images, or ``data`` are points or pairs.
    """

    def __init__(
        self,
        data: ImageData,
        degradation: Degradation,
        batch_size: int | None = None,
        device_batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        size = data.batch_size if batch_size is None else batch_size
        most = data.device_batch_size if device_batch_size is None else device_batch_size
        assert size is not None  # every set of images has one
        super().__init__(None, size, most, data.flip, data.pad, data.on_device, seed)
        facts = data.facts()
        if facts["levels"] is None or isinstance(data, PairData):
            kind = "pairs" if isinstance(data, PairData) else "points"
            raise UserError(f"data.data: {named(data)} was found, which holds {kind}; a set of images is expected")
        if data.seed not in (0, seed):
            raise UserError(f"data.data.seed: {data.seed} was found, {seed} is expected, which names the pairs too")
        data.seed = seed
        self.data, self.degradation = data, degradation
        self.shape, self.num_classes, self.levels = facts["shape"], facts["num_classes"], facts["levels"]
        self.classes = data.classes
        self._tried = self._try_out()
        self.source_shape = shape_of(self._tried.images[0])
        self.masked, self.factor = self._tried.mask is not None, degradation.factor
        self.name = f"{data.name}, {degradation.name}"

    def _try_out(self) -> Observed:
        """What becomes of one image."""
        found = self.degradation(torch.zeros(1, *self.shape), Rows(self.seed, "trial", torch.arange(1)))
        channels, height, width = self.shape
        factor, shape = self.degradation.factor, tuple(found.images.shape)
        if len(shape) != 4 or shape[:1] != (1,) or (shape[2] * factor, shape[3] * factor) != (height, width):
            raise UserError(
                f"data.degradation: {named(self.degradation)} makes {shape} of one image {channels}x{height}x{width}, "
                f"an image that is {factor} times smaller is expected, as its factor says"
            )
        if found.mask is not None and tuple(found.mask.shape) != (1, 1, *shape[2:]):
            raise UserError(
                f"data.degradation: {named(self.degradation)} gives a mask {tuple(found.mask.shape)} for one image, "
                f"{(1, 1, *shape[2:])} is expected"
            )
        return found

    def paired(self, batch: ImageBatch, split: Split, epoch: int | None = None) -> ImagePair:
        """See `PairData`."""
        if len(batch.images):
            rows = Rows(self.seed, f"degraded {split}", batch.indices, epoch or 0)
            images, mask = self.degradation(batch.images, rows)
        else:
            images, mask = self._tried.images[:0], None if self._tried.mask is None else self._tried.mask[:0]
        return ImagePair(images, batch.images, batch.labels, batch.indices, mask, batch.micro_batches)

    # ---- the set's own answers

    def load(self, split: Split) -> ImageSet:
        """The images of a split."""
        return self.data.split(split)

    def drawn_anew(self) -> ImageSet | None:
        """See `ImageData`."""
        return self.data.drawn_anew()

    def prepare_data(self) -> None:
        """See `ImageData`."""
        self.data.prepare_data()

    def files(self) -> list[Path]:
        """The files of the set of images."""
        return self.data.files()

    def content(self) -> str | None:
        """Names the images."""
        return self.data.content()

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a record of numbers says: the images, their degradation and the seed of its draws."""
        return {**self.data.protocol, "degradation": self.degradation.name, "degradation_seed": self.seed}
