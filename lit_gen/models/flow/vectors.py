"""Transforms of vectors, those of zuko (https://github.com/probabilists/zuko) under the contract `FlowTransform`.

Each takes x (B, C, H, W) as a vector of D = C * H * W numbers in row order. Every coupling and autoregressive layer
begins as the identity: the last layer of its network is zero. zuko is imported where a transform is made.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gen.core.options import above, at_least, within
from lit_gen.models.nn.conditioning import classes_of, needed
from lit_gen.models.nn.zuko import begin_as_identity, zuko

__all__ = ["IAF", "MAF", "NSF", "LULinear", "RealNVP"]

Conditioning = Literal["none", "concat"]


class _Vectors(nn.Module):
    """The constructor of them all: ``transforms`` layers, each with a network of its own.

    Args:
        shape: sample shape (C, H, W); taken from the data set by the command line.
        transforms: number of layers.
        hidden_features: units of each hidden layer of a layer's network.
        dropout: share of the hidden units that are dropped in training.
        conditioning: "none"; "concat": each network also gets the one-hot label.
        num_classes: classes of the labels; taken from the data set by the command line.

    Raises:
        UserError: for an option out of range, a conditioning without labels, or a missing zuko.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        transforms: int = 8,
        hidden_features: tuple[int, ...] = (128, 128),
        dropout: float = 0.0,
        conditioning: Conditioning = "none",
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        at_least(1, "model.transform.", transforms=transforms, hidden_features=min(hidden_features, default=0))
        within("[0, 1)", "model.transform.", dropout=dropout)
        self.shape, self.transforms, self.dropout = tuple(shape), transforms, dropout
        self.hidden_features, self.conditioning = tuple(hidden_features), conditioning
        self.num_classes = classes_of("model.transform", conditioning, get_args(Conditioning), num_classes)

    @property
    def features(self) -> int:
        """D."""
        return math.prod(self.shape)

    def _keep(self, layers: list[Any]) -> None:
        """Keep zuko's layers, each as the identity."""
        for layer in layers:
            begin_as_identity(layer)
        self.layers: Any = _zuko(self, "lazy").LazyComposedTransform(*layers)

    def _options(self) -> dict[str, Any]:
        """What all of zuko's layers get."""
        activation: Callable[[], nn.Module] = nn.ReLU
        if self.dropout:
            activation = partial(_dropping, self.dropout)
        return {
            "features": self.features,
            "context": self.num_classes or 0,
            "hidden_features": self.hidden_features,
            "activation": activation,
        }

    def forward(self, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """X (B, C, H, W) to z (B, D), and log|det dz/dx|, (B,)."""
        with torch.autocast(x.device.type, enabled=False):  # sums of logarithms need the digits
            found: tuple[Tensor, Tensor] = self._transform(x, labels).call_and_ladj(x.flatten(1))
        return found

    def inverse(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Z (B, D) to x (B, C, H, W)."""
        with torch.autocast(z.device.type, enabled=False):
            x: Tensor = self._transform(z, labels).inv(z).unflatten(1, self.shape)
        return x

    def _transform(self, of: Tensor, labels: Tensor | None) -> Any:
        """Zuko's transform, for these labels."""
        classes = self.num_classes
        return self.layers(None if classes is None else F.one_hot(needed(labels, self), classes).to(of.dtype))


class RealNVP(_Vectors):
    """Affine couplings (Dinh et al., 2017, https://arxiv.org/abs/1605.08803): fast in both directions.

    Layer i changes the half of the numbers that it does not read: by the parity of their place for i = 0 and 1, then by
    the parity of half their place, and so on; of images, columns of width 1, 2, 4, then rows.

    Args:
        **vectors: see `_Vectors`.
    """

    def __init__(self, shape: tuple[int, int, int], **vectors: Any) -> None:
        super().__init__(shape, **vectors)
        self._keep(_couplings(self, **self._options()))


class MAF(_Vectors):
    """Affine autoregressive layers (Papamakarios et al., 2017, https://arxiv.org/abs/1705.07057), in alternating order.

    A density takes one pass, a sample D passes for each layer.

    Args:
        **vectors: see `_Vectors`.
    """

    def __init__(self, shape: tuple[int, int, int], **vectors: Any) -> None:
        super().__init__(shape, **vectors)
        self._keep(_autoregressive(self, **self._options()))


class IAF(MAF):
    """The inverse of `MAF` (Kingma et al., 2016, https://arxiv.org/abs/1606.04934): a sample takes one pass.

    A density, and so a training step, takes D passes for each layer.

    Args:
        **vectors: see `_Vectors`.
    """

    def _transform(self, of: Tensor, labels: Tensor | None) -> Any:
        return super()._transform(of, labels).inv


class NSF(_Vectors):
    """Rational-quadratic splines (Durkan et al., 2019, https://arxiv.org/abs/1906.04032) of numbers in [-5, 5].

    Beyond, they are the identity: choose a support whose coordinates lie within, such as ``Logit`` with ``bound: 5``.

    Args:
        shape: sample shape (C, H, W); taken from the data set by the command line.
        bins: of each spline.
        autoregressive: one pass for a density and D for a sample, as in `MAF`; else couplings, as in `RealNVP`.
        slope: the least slope of a spline.
        **vectors: see `_Vectors`.

    Raises:
        UserError: for a number out of range.
    """

    interval = 5.0

    def __init__(
        self,
        shape: tuple[int, int, int],
        bins: int = 8,
        autoregressive: bool = False,
        slope: float = 1e-3,
        **vectors: Any,
    ) -> None:
        super().__init__(shape, **vectors)
        at_least(2, "model.transform.", bins=bins)
        above(0, "model.transform.", slope=slope)
        self.bins, self.autoregressive, self.slope = bins, autoregressive, slope
        spline = partial(_zuko(self, "transforms").MonotonicRQSTransform, slope=slope, bound=self.interval)
        shapes = [(bins,), (bins,), (bins - 1,)]
        make = _autoregressive if autoregressive else _couplings
        self._keep(make(self, **self._options(), univariate=spline, shapes=shapes))


class LULinear(_Vectors):
    """z = L U x + b, with triangular L and U: with a standard normal base, any Gaussian; begins as the identity.

    Args:
        shape: sample shape (C, H, W); taken from the data set by the command line.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape, 1)
        _zuko(self, "transforms")  # at once, if it is missing
        self.matrix = nn.Parameter(torch.eye(self.features))
        self.shift = nn.Parameter(torch.zeros(self.features))

    def _transform(self, of: Tensor, labels: Tensor | None) -> Any:
        made = _zuko(self, "transforms")
        return made.ComposedTransform(made.LULinearTransform(self.matrix), made.AdditiveTransform(self.shift))


# ---- zuko's layers


def _zuko(transform: nn.Module, module: str) -> Any:
    """A module of zuko, for a transform."""
    return zuko(module, f"model.transform: {type(transform).__name__}")


def _couplings(of: _Vectors, features: int, **options: Any) -> list[Any]:
    """Layers that change half of the numbers each."""
    layer = _zuko(of, "flows.coupling").GeneralCouplingTransform
    place, bits = torch.arange(features), max(1, math.ceil(math.log2(features)))
    masks = [(place >> (i // 2 % bits)) % 2 == i % 2 for i in range(of.transforms)]
    return [layer(features, mask=mask, **options) for mask in masks]


def _autoregressive(of: _Vectors, features: int, **options: Any) -> list[Any]:
    """Layers that read the numbers before each, in alternating order."""
    layer = _zuko(of, "flows.autoregressive").MaskedAutoregressiveTransform
    order = torch.arange(features)
    orders = [order if i % 2 == 0 else order.flip(0) for i in range(of.transforms)]
    return [layer(features, order=order, **options) for order in orders]


def _dropping(share: float) -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), nn.Dropout(share))
