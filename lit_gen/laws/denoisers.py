"""The laws of denoising networks, ours and a user's own; `lit_gen.laws.base` says what a law is."""

from typing import Any

import torch
from torch import Tensor, nn

from lit_gen.core.randomness import Rows
from lit_gen.laws import networks
from lit_gen.laws.base import CPU, LawBroken, Maker, Setting

LEVELS = (-1.6, 1.1)
"""Of EDM's path, ln(sigma) / 4; those of all other paths lie within."""


def _labels(network: nn.Module, n: int) -> tuple[Tensor, ...]:
    """The last argument of a conditional network: labels K, 0, 1, ..., of which K means that there is none."""
    classes = getattr(network, "num_classes", None)
    return () if classes is None else ((torch.arange(n) + classes) % (classes + 1),)


def _inputs(setting: Setting, n: int) -> tuple[Tensor, Tensor]:
    """Normally distributed x (n, C, H, W), and levels (n,) over the whole range, not in order."""
    share = torch.arange(1, n + 1) * 0.618034 % 1
    return Rows(CPU, 0, "law", 0).normal(n, *setting.shape), LEVELS[0] + (LEVELS[1] - LEVELS[0]) * share


def _output(network: nn.Module, x: Tensor, *given: Tensor) -> Tensor:
    found: object = network(x, *given)
    if not isinstance(found, Tensor):
        raise LawBroken(f"a {type(found).__name__} was returned, a tensor of the input's shape is expected")
    networks.same_shape(found, tuple(x.shape), "an output")
    return found


def output(make: Maker, setting: Setting) -> None:
    """Finite output of the shape of x (B, C, H, W), which is the network's `shape`, at all levels of noise."""
    for n, training in ((1, False), (1, True), (4, True)):
        network: Any = networks.nudged(make()).train(training)
        if tuple(found := getattr(network, "shape", ())) != setting.shape:
            raise LawBroken(f"shape = {found} was found, the data's {setting.shape} is expected as an attribute")
        out = _output(network, *_inputs(setting, n), *_labels(network, n))
        if not torch.isfinite(out).all():
            raise LawBroken("NaN or infinity was found in the output")


def level_matters(make: Maker, setting: Setting) -> None:
    """The output depends on the level of noise."""
    network = networks.nudged(make()).eval()
    x, level = _inputs(setting, 4)
    labels = _labels(network, 4)
    if torch.equal(_output(network, x, level, *labels), _output(network, x, level + 0.1, *labels)):
        raise LawBroken("levels that differ by 0.1 give the same output")


def labels_matter(make: Maker, setting: Setting) -> None:
    """A conditional network's output depends on the label, and "no label", which is num_classes, is one of them."""
    network = networks.nudged(make()).eval()
    classes = getattr(network, "num_classes", None)
    if classes is None:
        return
    x, level = _inputs(setting, 4)

    def of(label: int) -> Tensor:
        return _output(network, x, level, torch.full((4,), label))

    pairs = {"labels 0 and 1": (0, 1)} if classes > 1 else {}
    for told, (one, other) in (pairs | {f"label 0 and no label ({classes})": (0, classes)}).items():
        if torch.equal(of(one), of(other)):
            raise LawBroken(f"{told} give the same output; an unconditional network has num_classes = None")


class _OfImages(nn.Module):
    """A network of x alone, each row with a level that its first number tells: (B, C, H, W) to (B, C, H, W)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def num_classes(self) -> int | None:
        found: int | None = getattr(self.network, "num_classes", None)
        return found

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        return _output(self.network, x, x.flatten(1)[:, 0].tanh(), *labels)


_of_networks = networks.through(_OfImages)
gradients = _of_networks(networks.gradients)
evaluation = _of_networks(networks.evaluation)
rows = _of_networks(networks.rows)
rebuilding = _of_networks(networks.rebuilding)
copying = _of_networks(networks.copying)
