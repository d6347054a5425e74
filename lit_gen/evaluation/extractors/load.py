"""The networks that metrics look through, each a `FeatureExtractor`, and what finds them by name.

- ``lenet-mnist``, ``lenet-fashion-mnist`` and ``lenet-digits8``: small classifiers that ship with the package
  (`lenet.py`);
- ``inception-v3-compat``: torch-fidelity's port of the network of the Frechet Inception distance
  (`inception.py`);
- a file: ``.pt2`` of ``torch.export``, or TorchScript;
- a module: uint8 images (B, C, H, W) to features (B, d), or (features, logits).
"""

import contextlib
import hashlib
import re
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from lit_gen.core.cache import hash_of_tensors
from lit_gen.core.errors import UserError, nearest
from lit_gen.evaluation.extractors.base import INCEPTION, check_images
from lit_gen.evaluation.extractors.lenet import SHIPPED, load_lenet
from lit_gen.evaluation.extractors.programs import UnsafeProgramError, load_exported, load_script
from lit_gen.protocols.images import FeatureExtractor, Features


class Wrapped(nn.Module):
    """Any network as a feature extractor: evaluation mode, no gradients, its output checked.

    Args:
        network: uint8 images (B, C, H, W) to features (B, d), to (features, logits), or to `Features`. Its attributes
            ``name``, ``preprocessing``, ``channels`` and ``size`` are respected where it has them.
        name: what metric names call it, where it does not say.
        weights: SHA-256 of its weights; None for that of its parameters and buffers.
    """

    def __init__(self, network: nn.Module, name: str, weights: str | None = None) -> None:
        super().__init__()
        self.network = network
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        self.name = _own_name(str(getattr(network, "name", name)))
        self.weights = weights or hash_of_tensors(network.state_dict())
        self.preprocessing = str(getattr(network, "preprocessing", "the network's own, from levels 0 to 255"))
        self.channels: int | None = getattr(network, "channels", None)
        self.size: tuple[int, int] | None = getattr(network, "size", None)
        self.eval()

    def train(self, mode: bool = True) -> "Wrapped":
        """Stay in evaluation mode."""
        self.training = False
        with contextlib.suppress(NotImplementedError):  # an exported program has only one mode
            self.network.train(False)
        return self

    def forward(self, images: Tensor) -> Features:
        """Features of uint8 images (B, C, H, W).

        Raises:
            UserError: for other images than it takes, or if the network makes no features (B, d) of them.
        """
        check_images(self, images)
        with torch.no_grad():
            made = self._output(images)
        features, logits = (*made, None)[:2] if isinstance(made, tuple | list) else (made, None)
        for what, tensor in (("features", features), ("logits", logits)):
            if tensor is None and what == "logits":
                continue
            if not isinstance(tensor, Tensor) or tensor.ndim != 2 or len(tensor) != len(images):
                found = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
                raise UserError(f"extractor {self.name}: {what} {found} were found, ({len(images)}, d) are expected")
        return Features(features.float(), None if logits is None else logits.float())

    def _output(self, images: Tensor) -> object:
        return self.network(images)


class _Program(Wrapped):
    """A network in a file: what it raises is a fault of the file, and no traceback of ours explains it."""

    def _output(self, images: Tensor) -> object:
        try:
            return self.network(images)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a program may raise anything
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = (lines or [type(error).__name__])[-1][:200]  # above it TorchScript quotes the program
            raise UserError(f"extractor {self.name}: it fails on images {tuple(images.shape)} ({reason})") from None


def load_extractor(
    extractor: str | nn.Module, weights: str | None = None, expected_hash: str | None = None
) -> FeatureExtractor:
    """A feature extractor by name, by file, or made of a module, on the CPU and in evaluation mode.

    Args:
        extractor: see the top of this file.
        weights: a file with the weights of ``inception-v3-compat``, which are otherwise downloaded.
        expected_hash: SHA-256 that the weights must have, or its first digits; None for any.

    Raises:
        UserError: for an unknown name, a missing or damaged file, or weights of another hash.
    """
    if weights is not None and extractor != INCEPTION:
        raise UserError(f"extractor_weights: a file was given, but only {INCEPTION} takes one")
    made: FeatureExtractor
    if isinstance(extractor, nn.Module):
        # one that keeps to the protocol checks for itself
        made = extractor if isinstance(extractor, FeatureExtractor) else Wrapped(extractor, type(extractor).__name__)
        _own_name(made.name)
        extractor.eval()
    elif extractor in SHIPPED:
        made = load_lenet(extractor)
    elif extractor == INCEPTION:
        from lit_gen.evaluation.extractors.inception import load_inception  # imports torch-fidelity: two seconds

        made = load_inception(weights)
    elif Path(extractor).is_file():
        made = _from_file(Path(extractor))
    else:
        known = [*SHIPPED, INCEPTION]
        raise UserError(
            f"extractor: {extractor!r} is no file, and no extractor{nearest(extractor, known)} (expected a .pt2 or "
            f"TorchScript file, a module by its class_path, or one of {', '.join(known)})"
        )
    if expected_hash is not None and not made.weights.startswith(expected_hash.lower()):
        raise UserError(
            f"extractor {made.name}: its weights have the SHA-256 {made.weights}, but {expected_hash} is expected"
        )
    return made


def _own_name(name: str) -> str:
    """A name for metric names and files; those of the extractors that come with the package are taken.

    Raises:
        UserError: for such a name.
    """
    clean = re.sub(r"[^\w.-]+", "-", name)
    if clean in SHIPPED or clean.startswith("inception-v3"):
        raise UserError(f"extractor: the name {clean} belongs to another network; rename the file or the class")
    return clean


def _from_file(path: Path) -> _Program:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit.*deprecated")  # such files stay in use
            content = path.read_bytes()
            network = load_exported(content) if path.suffix == ".pt2" else load_script(content)
    except UnsafeProgramError as error:
        raise UserError(f"extractor: {path} is not loaded, since {error}") from None
    except Exception as error:  # both readers may raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"extractor: {path} is truncated, or neither a .pt2 of torch.export nor a TorchScript file ({reason[0]})"
        ) from None
    return _Program(network, path.stem, hashlib.sha256(content).hexdigest())
