"""Any torch data set of images, or an ``.npz`` file, through one uint8 cache."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lit_gen.data.files import cached
from lit_gen.data.images import ImageData, Split, stratified
from lit_gen.data.loaders import ImageSet
from lit_gen.errors import UserError
from lit_gen.pictures import quantize


class TensorSet(ImageData):
    """Images from a torch ``Dataset`` or an ``.npz`` file.

    An ``.npz`` holds ``images``, uint8 (N, H, W), (N, H, W, C) or (N, C, H, W), and perhaps ``labels``, int (N,). A
    dataset yields an image or (image, label), where an image is a uint8 or [-1, 1] float tensor (C, H, W), or a PIL
    image; it is read once into a cache.

    Args:
        source: path of the ``.npz``, or a dataset.
        val_size: how many items are held out, per class where there are labels, else the last ones.
        test_size: how many further items are held out for the test split.
        **images: see `ImageData`.

    Raises:
        UserError: if the file is missing, damaged or of another layout.
    """

    def __init__(self, source: str | Dataset[Any], val_size: int = 0, test_size: int = 0, **images: Any) -> None:
        super().__init__(**images)
        self.source, self.val_size, self.test_size = source, val_size, test_size
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
            path = self._path()
            images, labels = _read_npz(path)
            self._whole = ImageSet(images, labels)
        return self._whole

    def _path(self) -> Path:
        if isinstance(self.source, str):
            path = Path(self.source)
            path = path if path.is_file() else self.root / self.source
            if not path.is_file():
                raise UserError(f"data.source: {self.source} was not found, here or under {self.root}")
            return path
        dataset = self.source
        size = len(dataset)  # type: ignore[arg-type]
        first = _as_uint8(_image_and_label(dataset[0])[0])
        described = f"{type(dataset).__module__}.{type(dataset).__qualname__} {dataset!r} {size}".encode()
        fingerprint = hashlib.sha256(described + first.numpy().tobytes()).hexdigest()[:16]
        return cached(f"tensors-{fingerprint}.npz", lambda path: _write_npz(dataset, size, path))


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


def _write_npz(dataset: Dataset[Any], size: int, path: Path) -> None:
    images, labels = [], []
    for i in range(size):
        image, label = _image_and_label(dataset[i])
        images.append(_as_uint8(image).numpy())
        if images[-1].shape != images[0].shape:
            raise UserError(f"data.source: item {i} has shape {images[-1].shape}, item 0 has {images[0].shape}")
        labels.append(label)
    arrays = {"images": np.stack(images)}
    if labels[0] is not None:
        arrays["labels"] = np.array(labels, dtype=np.int64)
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _read_npz(path: Path) -> tuple[Tensor, Tensor | None]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is truncated or is no .npz of arrays ({error})") from None
    images = arrays.get("images")
    if images is None or images.dtype != np.uint8 or images.ndim not in (3, 4):
        found = "nothing" if images is None else f"{images.dtype} {images.shape}"
        raise UserError(
            f"{path}: found {found} under 'images', uint8 (N, H, W) or (N, H, W, C) or (N, C, H, W) is expected"
        )
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    labels = arrays.get("labels")
    if labels is not None and labels.shape != (len(images),):
        raise UserError(f"{path}: labels have shape {labels.shape}, ({len(images)},) is expected")
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    return tensor, None if labels is None else torch.from_numpy(labels.astype(np.int64))
