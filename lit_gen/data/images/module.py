"""The data module of every image set: splits, loaders, and what the model needs to know of the data."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.data.images.checks import check, check_shape
from lit_gen.data.images.loaders import EvalLoader, ImageSet, TrainLoader
from lit_gen.data.module import DataModule, place
from lit_gen.protocols.data import Split


class ImageData(DataModule):
    """Base of the image data modules: a subclass defines its splits in `load`.

    `shape` and `num_classes` are known as soon as the module is built; networks that ask for them get them.

    Args:
        root: folder with the data; null: ``LIT_GEN_DATA``, else the cache folder (``~/.cache/lit_gen``).
        batch_size: training images of one update, over all ranks and micro-batches.
        device_batch_size: the most training images that a device takes at once: the rest of its share follows in
            further micro-batches, whose gradients are added up; null for no limit.
        flip: mirror training images at random.
        pad: crop training images at random after padding by that many pixels.
        on_device: keep the whole training set on the training device.
        seed: names order, flips and crops; linked to ``seed_everything`` by the command line.
    """

    shape: tuple[int, int, int]
    """(C, H, W) of one image."""
    num_classes: int | None = None
    """Number of classes, None for a set without labels."""
    classes: Sequence[str] = ()
    """The names of the classes, if they have names."""
    levels: int | None = 256
    """Grey levels of a pixel, evenly from 0 to 255; None for points, which are real numbers."""
    items = "images"

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 64,
        device_batch_size: int | None = None,
        flip: bool = False,
        pad: int = 0,
        on_device: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(root, seed, batch_size, device_batch_size)
        self.flip, self.pad, self.on_device = flip, pad, on_device
        self._splits: dict[Split, ImageSet] = {}
        self._trained_on: str | None = None

    # ---- what a subclass says

    def load(self, split: Split) -> ImageSet:
        """Read one split; uint8 images (N, C, H, W) and int64 labels (N,) or None. Splits never overlap.

        Points, of shape (C, 1, 1), are float. A split that there is not has no images.
        """
        raise NotImplementedError

    def drawn_anew(self) -> ImageSet | None:
        """Training images whose pixels become black or white anew each time they are read; None if there are none."""
        return None

    def prepare_data(self) -> None:
        """Fetch or build what `load` reads; called in one process before any `load`."""

    def content(self) -> str | None:
        """Names the content of the set; None for one whose files are verified by checksum."""
        return None

    # ---- the same images in a resumed run

    def state_dict(self) -> dict[str, Any]:
        """The position, and what the run is trained on: the content, and the names of the classes."""
        state = super().state_dict()
        return state | {"content": self.content(), "classes": list(self.classes)} if state else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at the position of ``state``, if the images are the same."""
        super().load_state_dict({name: n for name, n in state.items() if name not in ("content", "classes")})
        self._trained_on = state.get("content")
        if self.trainer is not None and self.trainer.state.fn == "fit":
            self.check_unchanged()

    def adopt(self, checkpoint: Mapping[str, Any]) -> None:
        """Learn what the checkpoint's run was trained on."""
        self._trained_on = checkpoint.get(type(self).__qualname__, {}).get("content")

    def check_unchanged(self) -> None:
        """See `DataModule`."""
        before, now = self._trained_on, self.content()
        if before is not None and before != now and not self.allow_changes:
            raise UserError(
                f"data: {self.name} holds other images than the run was trained on: some were added, removed or "
                f"changed (sha256 {before[:12]} then, {str(now)[:12]} now); a resumed run continues as it was, or say "
                f"--allow_changes true"
            )

    # ---- what models, callbacks and lightning ask

    def facts(self) -> dict[str, Any]:
        """``shape``; ``num_classes``, None for a set without labels; ``levels``, None for points.

        Raises:
            UserError: for a subclass whose shape is none.
        """
        check_shape(self)
        points = self.shape[1:] == (1, 1)  # a set of one's own need not say so
        levels = None if points else self.levels
        return {"shape": self.shape, "num_classes": self.num_classes, "levels": levels}

    def split(self, split: Split) -> ImageSet:
        """A split, read once."""
        if split not in self._splits:
            data = self.load(split)
            check(data, split, self)
            self._splits[split] = data
        return self._splits[split]

    def train_dataloader(self) -> TrainLoader:
        """Shuffled batches, one per step."""
        probabilities, here = self.drawn_anew(), place(self.trainer)
        data = self.split("train") if probabilities is None else probabilities
        if self.pad >= min(self.shape[1:]) > 1 or self.pad < 0:
            raise UserError(f"data.pad: {self.pad} was found, 0 to {min(self.shape[1:]) - 1} pixels are expected")
        if self.on_device and here:
            labels = None if data.labels is None else data.labels.to(here["device"])
            data = ImageSet(data.images.to(here["device"]), labels)
        loader = TrainLoader(
            data,
            self.batches(),
            self.seed,
            flip=self.flip,
            pad=self.pad,
            binarize=probabilities is not None,
            rank=here.get("rank", 0),
            device=here.get("device"),
        )
        return self.continued(loader)

    def val_dataloader(self) -> EvalLoader | list[Any]:
        """The held-out images, each once."""
        return self._evaluation("val")

    def test_dataloader(self) -> EvalLoader | list[Any]:
        """The test images, each once."""
        return self._evaluation("test")

    predict_dataloader = test_dataloader

    def _evaluation(self, split: Split) -> EvalLoader | list[Any]:
        data = self.split(split)
        if len(data):
            return EvalLoader(data, **place(self.trainer))
        warnings.filterwarnings("ignore", message="Total length of `list`")  # Lightning says it of an empty split
        return []


def stratified(
    labels: Tensor, held_out: int, option: str = "data.val_size", classes: Sequence[str] = (), item: str = "image"
) -> tuple[Tensor, Tensor]:
    """Split indices so that the last ``held_out / classes`` items of every class are held out, only by index.

    Args:
        labels: int64 (N,).
        held_out: how many items to hold out; the first classes give one more if it does not divide evenly.
        option: the option's name, for messages.
        classes: the names of the classes, for messages.
        item: what the messages call an item.

    Returns:
        Sorted indices of the training and of the held-out items; they never overlap.

    Raises:
        UserError: if a class would have no training item left.
    """
    occurring, sizes = labels.unique(return_counts=True)
    held = []
    for k, (c, size) in enumerate(zip(occurring.tolist(), sizes.tolist(), strict=True)):
        count = held_out // len(occurring) + (k < held_out % len(occurring))
        if count >= size:
            name = classes[c] if c < len(classes) else str(c)
            raise UserError(
                f"{option}: {held_out} was found, but class {name} has {size} {item}{'s' * (size != 1)}, "
                f"{count} are to be held out; at most {len(occurring) * (int(sizes.min()) - 1)} is expected"
            )
        if count:
            held.append(torch.nonzero(labels == c).flatten()[-count:])
    chosen = torch.cat(held).sort().values if held else torch.arange(0)
    mask = torch.ones(len(labels), dtype=torch.bool)
    mask[chosen] = False
    return torch.nonzero(mask).flatten(), chosen
