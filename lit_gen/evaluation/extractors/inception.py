"""Inception v3 as the Frechet Inception distance knows it: torch-fidelity's port of the network of 2015.

Szegedy et al., 2016, https://arxiv.org/abs/1512.00567; the weights are those that Heusel et al., 2017,
https://arxiv.org/abs/1706.08500, computed the first FIDs with, converted from TensorFlow by pytorch-fid.
"""

import pickle
import struct
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from lit_gen.core.cache import hash_of_file, offline
from lit_gen.core.errors import UserError
from lit_gen.evaluation.extractors.base import INCEPTION, PUBLISHED, check_images
from lit_gen.protocols.images import Features

_UNREADABLE = (
    AttributeError, EOFError, KeyError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError, struct.error
)  # fmt: skip


class Inception(nn.Module):
    """Features (B, 2048) and logits (B, 1008) of uint8 images of any size, with one channel or three.

    Images are resized to 299x299 inside the network, bilinearly, as TensorFlow 1 did (no antialiasing, corners not
    aligned); a grey image is repeated in red, green and blue, as every tool does that reads grey PNG files.

    Args:
        path: the weights, a state dict.
        sha256: of that file.
    """

    preprocessing = "grey repeated to RGB; TensorFlow 1 bilinear to 299x299; (levels - 128) / 128"
    channels: int | None = None
    size: tuple[int, int] | None = None
    dim = 2048

    def __init__(self, path: Path, sha256: str) -> None:
        super().__init__()
        self.weights = sha256
        self.name = INCEPTION if sha256 == PUBLISHED else f"inception-v3-{sha256[:8]}"
        self.network = FeatureExtractorInceptionV3(
            INCEPTION, ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
        )

    @torch.no_grad()
    def forward(self, images: Tensor) -> Features:
        """Features and logits, without the bias of the last layer, of uint8 images (B, 1 or 3, H, W).

        Raises:
            UserError: for other images.
        """
        check_images(self, images)
        if images.shape[1] not in (1, 3):
            raise UserError(f"extractor {self.name}: {images.shape[1]} channels were found, 1 or 3 are expected")
        return Features(*self.network(images.expand(-1, 3, -1, -1)))


def load_inception(path: str | None = None) -> Inception:
    """Inception with the weights of a file, or with the published ones, downloaded once into torch's cache.

    Raises:
        UserError: if the file is missing or holds other tensors, or a download fails or is forbidden.
    """
    file = published_file() if path is None else Path(path)
    if not file.is_file():
        raise UserError(
            f"extractor_weights: {file} does not exist; a state dict of torch-fidelity's Inception is expected"
        )
    try:
        torch.load(file, map_location="cpu", weights_only=True)  # torch-fidelity would run the code of a pickle
        return Inception(file, hash_of_file(file)).eval()
    except _UNREADABLE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        if isinstance(error, pickle.UnpicklingError):  # PyTorch advises to load it with the code in it
            reason = "it holds more than tensors, or is cut off"
        raise UserError(
            f"extractor_weights: {file} is truncated or no state dict of torch-fidelity's Inception ({reason})"
        ) from None


def published_file() -> Path:
    """The published weights, downloaded if they are not in torch's cache.

    Raises:
        UserError: if a download fails or is forbidden.
    """
    file: Path = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rsplit("/", 1)[-1]
    if file.is_file():
        return file
    where = f"extractor: the weights of {INCEPTION} are not at {file}"
    if offline():
        raise UserError(f"{where}, and LIT_GEN_OFFLINE=1 forbids downloading them; name a file by extractor_weights")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(file), hash_prefix=PUBLISHED)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{where}, and {URL_INCEPTION_V3} could not be downloaded ({error}); put the file there, name one by "
            f"extractor_weights, or choose another extractor (lenet-mnist, lenet-fashion-mnist, lenet-digits8)"
        ) from None
    return file
