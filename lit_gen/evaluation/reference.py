"""The real side of a comparison: features of real images, computed once and kept on disk, or published statistics."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lit_gen.core import randomness
from lit_gen.core.cache import cache_folder, hash_of_tensors, read_npz
from lit_gen.core.errors import UserError, note, under
from lit_gen.core.files import write_whole
from lit_gen.core.randomness import BLOCK
from lit_gen.evaluation.features import Extracted, extract
from lit_gen.metrics.frechet import Gaussian
from lit_gen.protocols.images import FeatureExtractor

VERSION = 2  # of the kept files: with another number all features are computed anew


@dataclass
class Reference:
    """What generated images are compared with.

    Attributes:
        gaussian: mean and covariance of the features.
        extracted: the features themselves; None if only statistics were published.
        record: a description, for the protocol.
    """

    gaussian: Gaussian
    extracted: Extracted | None = None
    record: dict[str, Any] = field(default_factory=dict)


def fingerprint(images: Tensor) -> str:
    """SHA-256 of images, in hexadecimal: their type, shape and every pixel."""
    digest = hashlib.sha256(f"{images.dtype} {tuple(images.shape)}\n".encode())
    for part in images.split(4096):
        digest.update(np.ascontiguousarray(part.cpu().numpy()).data)
    return digest.hexdigest()


def chosen(images: Tensor, count: int | None, draw: int = 0) -> Tensor:
    """``count`` of the images, always the same ones, in their order; all of them for None.

    Sets are often sorted by class: the first ones would all be of one class. Two draws share no image.
    """
    if count is None or count >= len(images):
        return images
    rows = randomness.host(0, "reference").permutation(len(images))[draw * count : (draw + 1) * count]
    return images[torch.from_numpy(np.sort(rows))]


def real_reference(
    extractor: FeatureExtractor, images: Tensor, where: torch.device, record: Mapping[str, Any]
) -> Reference:
    """The reference of real images.

    Their features are kept in the cache folder under a name made of the images, the extractor, its weights and
    preprocessing, and the kind of device. A change that such a name does not show (the code of a user's module, another
    machine) is noticed: the first block is computed again, and all blocks if a bit differs.

    Args:
        extractor: of the features.
        images: uint8 (n, C, H, W).
        where: the device to compute on.
        record: a description of the images, for the protocol.
    """
    pixels = fingerprint(images)
    parts = [VERSION, pixels, extractor.name, extractor.weights, extractor.preprocessing, where.type, BLOCK]
    name = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
    path = cache_folder() / "features" / f"{extractor.name}-{name}.safetensors"
    extracted = _read(path, len(images))
    if extracted is not None and not _equal(
        extract(extractor, images[:BLOCK], where), extracted[: min(BLOCK, len(images))]
    ):
        note(f"{path} is of another program or machine; the features of the real images are computed anew")
        extracted = None
    if extracted is None:
        extracted = extract(extractor, images, where)
        _write(path, extracted)
    kept = {**record, "count": len(images), "fingerprint": pixels}
    return Reference(extracted.gaussian, extracted, kept)


def published_statistics(path: Path) -> Reference:
    """A reference from an ``.npz`` with ``mu`` (d,) and ``sigma`` (d, d), as other projects publish them.

    Raises:
        UserError: if the file is missing or holds something else.
    """
    if not path.is_file():
        raise UserError(f"reference: {path} does not exist; an .npz with mu and sigma is expected")
    with under("reference: "):
        arrays = read_npz(path)
    if not {"mu", "sigma"} <= arrays.keys():
        raise UserError(f"reference: {path} holds {', '.join(arrays) or 'nothing'}; mu and sigma are expected")
    mean, covariance = (torch.from_numpy(np.asarray(arrays[k], dtype=np.float64)) for k in ("mu", "sigma"))
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        shapes = f"mu {tuple(mean.shape)} and sigma {tuple(covariance.shape)}"
        raise UserError(f"reference: {path} holds {shapes}; mu (d,) and sigma (d, d) are expected")
    if not (mean.isfinite().all() and covariance.isfinite().all()):
        raise UserError(f"reference: {path} holds values that are NaN or infinite")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    record = {"data": path.name, "count": None, "sha256": digest, "statistics": "mu and sigma as published"}
    return Reference(Gaussian(mean, covariance, None), None, record)


def _equal(a: Extracted, b: Extracted) -> bool:
    same_logits = (
        torch.equal(a.logits, b.logits) if a.logits is not None and b.logits is not None else a.logits is b.logits
    )
    return torch.equal(a.features, b.features) and same_logits


def _read(path: Path, count: int) -> Extracted | None:
    if not path.is_file():
        return None
    try:
        content = path.read_bytes()
        tensors = load(content)
        extracted = Extracted(tensors["features"], tensors.get("logits"))
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        if len(extracted) == count and header["__metadata__"]["sha256"] == hash_of_tensors(tensors, in_order=True):
            return extracted
    except (OSError, SafetensorError, KeyError, ValueError):
        pass
    note(f"{path} is cut short or damaged; the features of the real images are computed anew")
    return None


def _write(path: Path, extracted: Extracted) -> None:
    tensors = {"features": extracted.features.contiguous()}
    if extracted.logits is not None:
        tensors["logits"] = extracted.logits.contiguous()
    try:
        write_whole(path, save(tensors, {"sha256": hash_of_tensors(tensors, in_order=True)}))  # of all rows
    except OSError as error:
        note(
            f"features of real images cannot be kept in {path.parent} ({error.strerror}), so that they are computed at "
            f"each start; set LIT_GEN_CACHE to a folder that can be written"
        )
