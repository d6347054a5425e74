"""Any torch data set of images, or an ``.npz`` file, through one uint8 cache."""

from collections.abc import Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lit_gen.core.cache import cached, read_npz
from lit_gen.core.errors import UserError
from lit_gen.core.images import quantize
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.module import ImageData, stratified
from lit_gen.data.images.npz import images_of
from lit_gen.protocols.data import Split


class TensorSet(ImageData):
    """Images from a torch ``Dataset`` or an ``.npz`` file.

    An ``.npz`` holds ``images``, uint8 (N, H, W), (N, H, W, C) or (N, C, H, W), and perhaps ``labels``, int (N,). A
    dataset yields an image or (image, label), where an image is a uint8 or [-1, 1] float tensor (C, H, W), or a PIL
    image.

    Args:
        source: path of the ``.npz``, or a dataset.
        cache: a name under which a dataset is kept after it was read once; null to read it at each start. The name
            stands for the content: choose another one when the dataset changes.
        val_size: how many items are held out, per class where there are labels, else the last ones.
        test_size: how many further items are held out for the test split.
        **images: see `ImageData`.

    Raises:
        UserError: if the file is missing, damaged or of another layout.
    """

    def __init__(
        self,
        source: str | Dataset,  # type: ignore[type-arg]  # the command line knows no generic classes
        val_size: int = 0,
        test_size: int = 0,
        cache: str | None = None,
        **images: Any,
    ) -> None:
        super().__init__(**images)
        self.source, self.val_size, self.test_size, self.cache = source, val_size, test_size, cache
        self._whole: ImageSet | None = None
        whole = self._read()
        count, held_out = len(whole), val_size + test_size
        if min(val_size, test_size) < 0 or held_out >= count:
            raise UserError(
                f"data.val_size and data.test_size hold out {held_out} of {count} images; fewer are expected"
            )
        _, channels, height, width = whole.images.shape
        self.shape = (channels, height, width)
        self.num_classes = None if whole.labels is None else int(whole.labels.max()) + 1

    def load(self, split: Split) -> ImageSet:
        """A split; the three never overlap."""
        whole = self._read()
        labels = torch.zeros(len(whole), dtype=torch.int64) if whole.labels is None else whole.labels
        rest, test = stratified(labels, self.test_size)
        train, val = stratified(labels[rest], self.val_size)
        chosen = {"train": rest[train], "val": rest[val], "test": test}[split]
        return ImageSet(whole.images[chosen], None if whole.labels is None else whole.labels[chosen])

    def _read(self) -> ImageSet:
        if self._whole is None:
            if isinstance(self.source, str):
                path = Path(self.source)
                path = path if path.is_file() else self.root / self.source
                if not path.is_file():
                    raise UserError(f"data.source: {self.source} was not found, here or under {self.root}")
                arrays = read_npz(path)
            elif self.cache is None:
                path, arrays = Path("data.source"), _read_dataset(self.source)
            else:
                dataset = self.source
                path = cached(f"tensors-{self.cache}.npz", lambda partial: _write_npz(_read_dataset(dataset), partial))
                arrays = read_npz(path)
            self._whole = images_of(arrays, path)
        return self._whole


def _image_and_label(item: Any) -> tuple[Any, int | None]:
    if isinstance(item, tuple | list):
        return item[0], int(item[1])
    return item, None


def _as_uint8(image: Any) -> Tensor:
    if isinstance(image, Tensor):
        tensor = image if image.dtype == torch.uint8 else quantize(image)
    else:  # PIL: (H, W) or (H, W, C)
        array = np.asarray(image, dtype=np.uint8)
        tensor = torch.from_numpy(np.atleast_3d(array).transpose(2, 0, 1).copy())
    if tensor.ndim != 3:
        raise UserError(f"data.source: an item has shape {tuple(tensor.shape)}, an image (C, H, W) is expected")
    return tensor


def _read_dataset(dataset: Dataset[Any]) -> dict[str, np.ndarray]:
    images, labels = [], []
    if not isinstance(dataset, Sized):
        raise UserError(f"data.source: {type(dataset).__name__} has no length, a data set with an index is expected")
    for i in range(len(dataset)):
        image, label = _image_and_label(dataset[i])
        images.append(_as_uint8(image).numpy())
        if images[-1].shape != images[0].shape:
            raise UserError(f"data.source: item {i} has shape {images[-1].shape}, item 0 has {images[0].shape}")
        labels.append(label)
    if not images:
        raise UserError("data.source: the dataset is empty")
    arrays = {"images": np.stack(images)}
    if labels[0] is not None:
        arrays["labels"] = np.array(labels, dtype=np.int64)
    return arrays


def _write_npz(arrays: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)
