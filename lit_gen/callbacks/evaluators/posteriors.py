"""What evaluations of a model with latents share: held-out images in fixed blocks, and their record."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from lit_gen.callbacks.evaluators.base import Evaluator
from lit_gen.core import data as datasets
from lit_gen.core import distributed
from lit_gen.core.errors import UserError
from lit_gen.core.modes import evaluation_mode, exact_math
from lit_gen.core.options import at_least
from lit_gen.core.randomness import BLOCK
from lit_gen.evaluation.names import suffix_of, thousands, weights_used
from lit_gen.evaluation.result import versions
from lit_gen.protocols.data import Images, ImageSets, Split
from lit_gen.protocols.images import Weights
from lit_gen.protocols.latents import LatentVariableModel


class Block(NamedTuple):
    """64 images of a split, on the model's device; beyond the split's end the last one repeats, and does not count."""

    images: Tensor
    """(64, C, H, W) in [-1, 1]."""
    labels: Tensor | None
    """int64 (64,) for a conditional model, else None."""
    indices: Tensor
    """int64 (64,), each row's index within the split, on the CPU."""
    rows: int
    """How many of them count, the first ones."""


class LatentEvaluator(Evaluator):
    """Base of the callbacks that measure posteriors: a subclass implements `measure_block` and `evaluate`.

    Images are encoded in the fixed blocks of 64 of `lit_gen.data.images.loaders.EvalLoader`, each on one rank: a
    network's output is bit-equal only for equal batch shapes.

    Args:
        name: of the evaluation, for its records.
        every: steps between two evaluations; 0 for none by steps.
        every_epochs: epochs between two evaluations; 0 for none by epochs.
        at_end: evaluate after the last step too.
        count: number of images, the first ones of the split; null for all. A smaller number is part of the names.
        weights: the moving average, or the raw weights, which changes the names.

    Raises:
        UserError: for a number out of range.
    """

    def __init__(
        self, name: str, every: int, every_epochs: int, at_end: bool, count: int | None, weights: Weights
    ) -> None:
        super().__init__(every, every_epochs, at_end)
        at_least(2, f"{self.option}.", count=count)
        self.name, self.count, self.weights = name, count, weights
        self.suffix = ""

    def measure_block(self, module: LatentVariableModel, block: Block) -> Any:
        """Measure one block; tried on the first one before the first step."""
        raise NotImplementedError

    @property
    def count_suffix(self) -> str:
        """What a count of less than all images puts after the names."""
        return "" if self.count is None else f"_count{thousands(self.count)}"

    # ---- before the first step

    def prepare(self, trainer: Trainer, module: LightningModule) -> None:
        """Check model and data, and determine the names.

        Raises:
            UserError: for a model without latents, data without the split or without labels that the model needs.
        """
        data = refuse_without_latents(self.option, trainer, module)
        name: Split = "test" if trainer.state.fn == "test" else "val"
        images = data.split(name)
        if not len(images):
            hint = f"--{self.option} false leaves this evaluation out"
            raise UserError(f"{self.option}: the data set has no {name} split; {hint}")
        if self.count is not None and self.count > len(images):
            raise UserError(
                f"{self.option}.count: {self.count} was found, but the {name} split has {len(images)} images"
            )
        refuse_without_labels(self.option, data, module, images)
        whole = self.count is None or self.count == len(images)
        self.suffix = "" if whole else self.count_suffix
        self.title = (self.name + self.suffix + suffix_of(self.weights)).replace("_", "-")

    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """Try the first block: this shows what the model cannot do, or too little memory."""
        with exact_math(module.device), evaluation_mode(module):
            self.measure_blocks(trainer, module, "val", at_most=1)

    # ---- the evaluation

    def measure_blocks(
        self, trainer: Trainer, module: LightningModule, split: Split, at_most: int | None = None
    ) -> list[Any]:
        """`measure_block` of this rank's blocks in their order; where one rank fails, all do."""
        assert isinstance(module, LatentVariableModel)
        model: LatentVariableModel = module

        def measure() -> list[Any]:
            blocks = itertools.islice(self._blocks(trainer, model, split), at_most)
            return [self.measure_block(model, block) for block in blocks]

        return distributed.together(measure)

    def images(self, trainer: Trainer, split: Split) -> int:
        """How many images of the split are measured."""
        return self.count or len(datasets.images_of(trainer).split(split))

    def _blocks(self, trainer: Trainer, model: LatentVariableModel, split: Split) -> Iterator[Block]:
        data: Any = datasets.images_of(trainer)
        count = self.images(trainer, split)
        for batch in data.val_dataloader() if split == "val" else data.test_dataloader():
            rows = int((batch.indices < count).sum())
            if not rows:
                continue
            # a repeated image, not a black one: a likelihood may refuse values that the data never has
            filled = torch.arange(BLOCK).clamp_max(len(batch.indices) - 1)
            labels = None if model.num_classes is None else batch.labels[filled]
            yield Block(batch.images[filled], labels, batch.indices[filled], rows)
            distributed.look()

    def record(self, trainer: Trainer, module: LightningModule, split: Split) -> dict[str, Any]:
        """The images, and what else the numbers depend on."""
        data = datasets.images_of(trainer)
        where = module.device
        reference = {"name": data.name, "split": split, "images": len(data.split(split))}
        return {
            "count": self.images(trainer, split),
            "labels": getattr(module, "num_classes", None) is not None,
            "latent_dim": module.latent_dim,
            "seed": seed_of(module),
            "weights": weights_used(module, self.weights),
            "block": BLOCK,
            "device": torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
            "reference": reference | dict(data.protocol),
            "versions": versions(),
        }


def refuse_without_latents(option: str, trainer: Trainer, module: object) -> ImageSets:
    """The data module, which has splits of images, of a model with latents.

    Args:
        option: whose it is, for the messages.
        trainer: has the data module.
        module: the model.

    Raises:
        UserError: for a model without latents, or a data module without splits.
    """
    if not isinstance(module, LatentVariableModel):
        raise UserError(f"{option}: {type(module).__name__} was found, a model that encodes images is expected")
    data = datasets.data_of(trainer)
    if not datasets.has_images(data):
        raise UserError(f"{option}: {datasets.kind_of(data)} was found, a data module of images is expected")
    return data


def refuse_without_labels(option: str, data: object, module: object, images: Images) -> None:
    """Refuse a conditional model for images without labels.

    Raises:
        UserError: for that.
    """
    if getattr(module, "num_classes", None) is not None and images.labels is None:
        raise UserError(f"{option}: the model is conditional, but {type(data).__name__} has no labels")


def held_out(data: ImageSets) -> tuple[str, Images]:
    """The held-out images of a data module and their split's name: val, or test where there is none."""
    name: Split = "val" if len(data.split("val")) else "test"
    return name, data.split(name)


def seed_of(module: object) -> int:
    """The run's seed, which names the noise; 0 for a model that keeps none."""
    return int(getattr(module, "seed", 0))
