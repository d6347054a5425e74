"""The data module of every image set: splits, loaders, and what the model must know of the data."""

import os
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch import Tensor

from lit_gen.cache import cache_folder
from lit_gen.data.loaders import EvalLoader, ImageSet, TrainLoader, place
from lit_gen.errors import UserError

Split = Literal["train", "val", "test"]


class ImageData(LightningDataModule):
    """Base of the image data modules: a subclass says what its splits are, in `load`.

    `shape` and `num_classes` are known as soon as the module is built; the command line links them into the networks.

    Args:
        root: folder with the data; null: ``LIT_GEN_DATA``, else the cache folder (``~/.cache/lit_gen``).
        batch_size: training images per rank and micro-batch.
        flip: mirror training images at random.
        pad: crop training images at random after padding by that many pixels.
        on_device: keep the whole training set on the training device.
        seed: names order, flips and crops; linked to ``seed_everything`` by the command line.
    """

    shape: tuple[int, int, int]
    """(C, H, W) of one image."""
    num_classes: int | None = None
    """Number of classes, None for a set without labels."""
    name: str | None = None
    """What records of numbers call the set; None for the name of the class."""

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 64,
        flip: bool = False,
        pad: int = 0,
        on_device: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UserError(f"data.batch_size: {batch_size} was found, a whole number of at least 1 is expected")
        self.root = data_root(root)
        self.batch_size, self.flip, self.pad, self.on_device, self.seed = (
            batch_size,
            flip,
            pad,
            on_device,
            seed,
        )
        self.images_per_step = batch_size  # of all ranks together; set again when the train loader is made
        self.allow_changes = False  # whether a resumed run may take another number of images per step
        self._loader: TrainLoader | None = None
        self._position: dict[str, int] = {}
        self._splits: dict[Split, ImageSet] = {}

    # ---- what a subclass says

    def load(self, split: Split) -> ImageSet:
        """Read one split; uint8 images (N, C, H, W) and int64 labels (N,) or None. Splits never overlap."""
        raise NotImplementedError

    def drawn_anew(self) -> ImageSet | None:
        """Training images whose pixels become black or white anew each time they are shown; None: none do."""
        return None

    def prepare_data(self) -> None:
        """Fetch or build what `load` reads; called in one process before any `load`."""

    def files(self) -> list[Path]:
        """The files that this data set reads, for `lit-gen fetch`; all exist after `prepare_data`."""
        return []

    # ---- what lightning asks

    def split(self, split: Split) -> ImageSet:
        """A split, read once."""
        if split not in self._splits:
            data = self.load(split)
            if len(data) and tuple(data.images.shape[1:]) != tuple(self.shape):
                raise UserError(f"data: {split} images have shape {tuple(data.images.shape[1:])}, not {self.shape}")
            self._splits[split] = data
        return self._splits[split]

    @property
    def label_counts(self) -> Tensor | None:
        """How many training images each class has, (num_classes,); None for a set without labels."""
        labels = self.split("train").labels
        return (
            None if labels is None or self.num_classes is None else torch.bincount(labels, minlength=self.num_classes)
        )

    def train_dataloader(self) -> TrainLoader:
        """Shuffled batches, one per step."""
        probabilities, here = self.drawn_anew(), place(self.trainer)
        data = self.split("train") if probabilities is None else probabilities
        if self.pad >= min(self.shape[1:]) > 1 or self.pad < 0:
            raise UserError(f"data.pad: {self.pad} was found, 0 to {min(self.shape[1:]) - 1} pixels are expected")
        if self.on_device and here:
            labels = None if data.labels is None else data.labels.to(here["device"])
            data = ImageSet(data.images.to(here["device"]), labels)
        micro_batches = getattr(getattr(self.trainer, "lightning_module", None), "batches_per_step", 1)
        loader = TrainLoader(
            data,
            self.batch_size,
            self.seed,
            micro_batches=micro_batches,
            accumulate=getattr(self.trainer, "accumulate_grad_batches", 1),
            flip=self.flip,
            pad=self.pad,
            binarize=probabilities is not None,
            **here,
        )
        self.images_per_step = loader.images_per_step
        if self._position:
            before = self._position["images_per_step"]
            if before != self.images_per_step and not self.allow_changes:
                raise UserError(
                    f"a step takes {self.images_per_step} images now but took {before} (data.batch_size, "
                    f"trainer.devices, trainer.num_nodes): a resumed run continues as it was, or say "
                    f"--allow_changes true"
                )
            loader.load_state_dict(self._position)
        self._loader = loader
        return loader

    def state_dict(self) -> dict[str, int]:
        """The position in the training data: Lightning forgets a loader's own at the end of an epoch."""
        return {"step": self._loader.step if self._loader else 0, "images_per_step": self.images_per_step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at the position of ``state``."""
        self._position = dict(state)

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
        warnings.filterwarnings("ignore", message="Total length of `list`")  # said by lightning of an empty split
        return []


def data_root(root: str | None) -> Path:
    """The folder for data sets: as given, else ``LIT_GEN_DATA``, else the cache folder."""
    chosen = root or os.environ.get("LIT_GEN_DATA")
    return Path(chosen).expanduser() if chosen else cache_folder()


def stratified(labels: Tensor, held_out: int) -> tuple[Tensor, Tensor]:
    """Split indices so that the last ``held_out / classes`` items of every class are held out, by index alone.

    Args:
        labels: int64 (N,).
        held_out: how many items to hold out; the first classes give one more where it does not divide evenly.

    Returns:
        Sorted indices of the training and of the held-out items; they never overlap.
    """
    classes = int(labels.max()) + 1
    held = [
        torch.nonzero(labels == c).flatten()[-count:]
        for c in range(classes)
        if (count := held_out // classes + (c < held_out % classes)) > 0
    ]
    chosen = torch.cat(held).sort().values if held else torch.arange(0)
    mask = torch.ones(len(labels), dtype=torch.bool)
    mask[chosen] = False
    return torch.nonzero(mask).flatten(), chosen
