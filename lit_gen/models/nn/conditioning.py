"""Classes as an input of networks: options, one-hot channels, conditional batch norm.

A conditional network keeps ``num_classes``, an unconditional one has None there, whatever it was given. A network that
gets one-hot labels has ``conditioning`` "concat": `one_hot_size` is what they add to its input, `with_labels` adds it.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gen.core.errors import UserError
from lit_gen.core.options import one_of


def classes_of(network: str, conditioning: str, known: Sequence[str], num_classes: int | None) -> int | None:
    """The number of classes that a network keeps: ``num_classes`` if it is conditional, else None.

    Args:
        network: the network's option, for the message.
        conditioning: what it was given.
        known: what it may be given.
        num_classes: classes of the data, or None.

    Raises:
        UserError: for an unknown ``conditioning``, or one that needs labels if the data has none.
    """
    one_of(known, f"{network}.", conditioning=conditioning)
    if conditioning == "none":
        return None
    if num_classes is None:
        raise UserError(f"{network}.conditioning: {conditioning!r} needs num_classes, but the data set has no labels")
    return num_classes


def needed(labels: Tensor | None, network: object) -> Tensor:
    """``labels``, which a conditional network needs.

    Raises:
        UserError: if they are None.
    """
    if labels is None:
        of = type(network)
        raise UserError(f"{of.__module__}.{of.__name__}: a conditional network was called without labels")
    return labels


class _Conditional(Protocol):
    @property
    def conditioning(self) -> str: ...

    @property
    def num_classes(self) -> int | None: ...


def one_hot_size(network: _Conditional) -> int:
    """Features or maps that `with_labels` appends to the network's input."""
    return (network.num_classes or 0) if network.conditioning == "concat" else 0


def with_labels(x: Tensor, labels: Tensor | None, network: _Conditional) -> Tensor:
    """``x``, with one-hot labels appended if the network has ``conditioning`` "concat".

    Raises:
        UserError: if such a network was given no labels.
    """
    if network.conditioning != "concat" or network.num_classes is None:
        return x
    return append_one_hot(x, needed(labels, network), network.num_classes)


def append_one_hot(x: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Append labels (B,) as one-hot features: vectors (B, D) to (B, D + K), maps (B, C, H, W) to (B, C + K, H, W).

    On maps each one-hot value fills a constant map. Mirza and Osindero, 2014, https://arxiv.org/abs/1411.1784 (the
    conditional GAN); Sohn et al., 2015, https://papers.nips.cc/paper/5775 (the conditional VAE).
    """
    hot = F.one_hot(labels, num_classes).to(x.dtype)
    return torch.cat([x, hot.reshape(*hot.shape, *(1,) * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])], 1)


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm whose gain and bias depend on the class.

    Dumoulin et al., 2017, https://arxiv.org/abs/1610.07629; de Vries et al., 2017, https://arxiv.org/abs/1707.00683; in
    GANs Miyato and Koyama, 2018, https://arxiv.org/abs/1802.05637.
    """

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(features, affine=False)
        self.gain, self.bias = nn.Embedding(num_classes, features), nn.Embedding(num_classes, features)
        nn.init.ones_(self.gain.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Maps (B, C, H, W) and labels (B,) to maps (B, C, H, W)."""
        out: Tensor = self.gain(labels)[:, :, None, None] * self.norm(x) + self.bias(labels)[:, :, None, None]
        return out
