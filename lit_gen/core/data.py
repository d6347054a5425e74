"""A trainer's data module, and which contract of `protocols.data` it satisfies: only this file probes for it.

Lightning does not declare `datamodule` and `callbacks` of its trainer.
"""

from typing import Any, TypeGuard, cast

import torch
from torch import Tensor

from lit_gen.core.blame import shown
from lit_gen.core.errors import UserError
from lit_gen.protocols.data import DataModule, ImageSets, InstructionSets, PairSets, TextSets
from lit_gen.protocols.images import ImagePair


class Unknown:
    """Stands in for a data module without a contract, such as a plain LightningDataModule: it knows nothing."""

    def __init__(self, data: object) -> None:
        self.name = "no data module" if data is None else type(data).__name__
        self.protocol = {"data": self.name}

    def facts(self) -> dict[str, Any]:
        """Nothing is known."""
        return {}

    def per_step(self) -> tuple[int, str]:
        """Nothing is counted."""
        return 0, "items"


def data_of(trainer: object) -> DataModule:
    """The trainer's data module, or one that knows nothing if it has no contract."""
    return answering(getattr(trainer, "datamodule", None))


def callbacks_of(trainer: object) -> list[Any]:
    """The trainer's callbacks, the list itself."""
    return cast("list[Any]", getattr(trainer, "callbacks", []))


def answering(data: Any) -> DataModule:
    """The data module itself if it satisfies the contract, else one that knows nothing."""
    return data if _has(data, "facts", "per_step") else Unknown(data)


def has_images(data: object) -> TypeGuard[ImageSets]:
    """Whether a data module has splits of images."""
    return _has(data, "facts", "per_step", "split")


def has_pairs(data: object) -> TypeGuard[PairSets]:
    """Whether a data module has pairs of images."""
    return _has(data, "facts", "per_step", "split", "pairs")


def has_text(data: object) -> TypeGuard[TextSets]:
    """Whether a data module is one of a text."""
    return _has(data, "facts", "per_step", "stream", "windows")


def has_instructions(data: object) -> TypeGuard[InstructionSets]:
    """Whether a data module is one of prompts and responses."""
    has_chat = hasattr(type(data), "chat")  # of the class: a property may take time
    return has_chat and _has(data, "facts", "per_step", "stream", "windows", "prompted")


def images_of(trainer: object) -> ImageSets:
    """The trainer's data module, which is known to be one of images."""
    data = data_of(trainer)
    assert has_images(data)
    return data


def text_of(trainer: object) -> TextSets:
    """The trainer's data module, which is known to be one of a text."""
    data = data_of(trainer)
    assert has_text(data)
    return data


def check_batch(found: object, kind: type) -> None:
    """Refuse a batch of another kind, such as the lists of torch's loader.

    Raises:
        UserError: names both.
    """
    if not isinstance(found, kind):
        expected = f"{kind.__module__}.{kind.__qualname__} is expected"
        if isinstance(found, ImagePair):
            expected += "; lit_gen.models.image_to_image.module.Paired learns from pairs"
        raise UserError(f"data: a batch was {shown(found)}, {expected}")


def _has(data: object, *methods: str) -> bool:
    return all(callable(getattr(data, method, None)) for method in methods)  # methods only: properties may take time


def kind_of(data: DataModule) -> str:
    """What messages call a data module: the name of its class."""
    return data.name if isinstance(data, Unknown) else type(data).__name__


def label_counts(data: object, num_classes: int) -> Tensor | None:
    """How many training images each class has, (num_classes,); None for a set without labels, or without images.

    Raises:
        UserError: for a label that is no class.
    """
    labels = data.split("train").labels if has_images(data) else None
    if labels is None:
        return None
    counts = torch.bincount(labels, minlength=num_classes)
    if len(counts) > num_classes:
        found = f"{num_classes} was found, but the data set has labels up to {len(counts) - 1}"
        raise UserError(f"num_classes of a network of the model: {found}; null takes the data set's number")
    return counts
