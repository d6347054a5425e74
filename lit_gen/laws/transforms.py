"""The laws of a flow's transform, ours and a user's own; `lit_gen.laws.base` says what a law is."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from lit_gen.core.randomness import Rows
from lit_gen.laws import networks
from lit_gen.laws.base import CPU, LawBroken, Maker, Setting, finite

NEAR = 1e-6
"""How far, relative to the largest number, an inverse or a log-determinant in float64 may be off."""


def _data(setting: Setting, n: int, purpose: str = "law") -> Tensor:
    """Standard normal x (n, C, H, W), float64."""
    return Rows(CPU, 0, purpose, 0).normal(n, *setting.shape).cpu().double()


def _labels(transform: nn.Module, n: int) -> tuple[Tensor, ...]:
    """The last argument of a conditional transform: labels 0, 1, 2, 0, ...; none of any other."""
    classes = getattr(transform, "num_classes", None)
    return () if classes is None else (torch.arange(n) % classes,)


def _trained(make: Maker, setting: Setting, double: bool = True) -> nn.Module:
    """The transform as in a run: after its first batch, with weights that have moved, in float64."""
    transform = make().cpu().double() if double else make()
    if callable(initialize := getattr(transform, "initialize", None)):
        first = 0.5 * _data(setting, 64, "first batch") + 0.1
        initialize(first if double else first.float(), *_labels(transform, 64))
    return networks.nudged(transform, 0.1)  # so little that a deep one can still be inverted in float64


def _pair(found: Any, n: int, setting: Setting) -> tuple[Tensor, Tensor]:
    """What a transform returned, if it is z (n, D) and log-determinants (n,)."""
    if not (isinstance(found, tuple) and len(found) == 2 and all(isinstance(f, Tensor) for f in found)):
        raise LawBroken(f"a {type(found).__name__} was returned, a pair (z, log-determinant) is expected")
    networks.same_shape(found[0], (n, math.prod(setting.shape)), "z")
    networks.same_shape(found[1], (n,), "log-determinants")
    z, log_det = found
    return z, log_det


def _back(transform: Any, z: Tensor, setting: Setting, labels: tuple[Tensor, ...]) -> Tensor:
    if not callable(getattr(transform, "inverse", None)):
        raise LawBroken("there is no method inverse(z), from which samples come")
    x = transform.inverse(z, *labels)
    if not isinstance(x, Tensor):
        raise LawBroken(f"the inverse returned a {type(x).__name__}, a tensor x is expected")
    networks.same_shape(x, (len(z), *setting.shape), "x of the inverse")
    return x


def output(make: Maker, setting: Setting) -> None:
    """Finite z (B, D) and log-determinants (B,), and x of its own shape back."""
    for n in (1, 4):
        transform = _trained(make, setting, double=False).eval()
        labels = _labels(transform, n)
        z, log_det = _pair(transform(_data(setting, n).float(), *labels), n, setting)
        x = _back(transform, z, setting, labels)
        for name, found in (("z", z), ("the log-determinants", log_det), ("x of the inverse", x)):
            if not torch.isfinite(found).all():
                raise LawBroken(f"NaN or infinity was found in {name}")


def inverse(make: Maker, setting: Setting) -> None:
    """The inverse leads back, from data to z to data and from z to data to z."""
    transform = _trained(make, setting).eval()
    x, labels = _data(setting, 4), _labels(transform, 4)
    with torch.no_grad():
        again = _back(transform, _pair(transform(x, *labels), 4, setting)[0], setting, labels)
        _near(again, x, "x", "the inverse of its z is")
        z = _data(setting, 4, "latents").flatten(1)
        x = _back(transform, z, setting, labels)
        _near(_pair(transform(x, *labels), 4, setting)[0], z, "z", "its inverse is mapped to")


def _near(found: Tensor, expected: Tensor, name: str, told: str) -> None:
    gap = (found - expected).abs().max().item()
    if not gap <= NEAR * max(1.0, expected.abs().max().item()):
        raise LawBroken(f"{told} up to {gap:.2g} away from {name}; a bijection and its inverse are expected")


def log_determinant(make: Maker, setting: Setting) -> None:
    """The log-determinant is that of the full Jacobian, in float64."""
    transform = _trained(make, setting).eval()
    for i in range(2):
        x, labels = _data(setting, 2)[i : i + 1].requires_grad_(), tuple(of[i : i + 1] for of in _labels(transform, 2))
        z, log_det = _pair(transform(x, *labels), 1, setting)
        slopes = [torch.autograd.grad(number, x, retain_graph=True, allow_unused=True)[0] for number in z[0]]
        jacobian = torch.stack([torch.zeros_like(x[0]) if slope is None else slope[0] for slope in slopes]).flatten(1)
        sign, expected = torch.linalg.slogdet(jacobian)
        if not sign:
            raise LawBroken("the Jacobian is singular, so that no inverse exists; a bijection is expected")
        found, true = log_det.item(), expected.item()
        if math.isclose(found, true, rel_tol=NEAR, abs_tol=NEAR):
            continue
        turned = math.isclose(found, -true, rel_tol=NEAR, abs_tol=NEAR)
        hint = "; the sign is that of the inverse, log|det dz/dx| is expected" if turned else ""
        raise LawBroken(f"{found:.6g} was found, but the full Jacobian gives {true:.6g}{hint}")


def rows(make: Maker, setting: Setting) -> None:
    """In evaluation z and log-determinant of a sample do not depend on the rest of its batch, nor does its inverse."""
    transform = _trained(make, setting).eval()
    x, labels, some = _data(setting, 8), _labels(transform, 8), torch.tensor([0, 3, 5])
    fewer = tuple(of[some] for of in labels)
    with torch.no_grad():
        z, log_det = _pair(transform(x, *labels), 8, setting)
        alone = [*_pair(transform(x[some], *fewer), 3, setting), _back(transform, z[some], setting, fewer)]
        together = [z, log_det, _back(transform, z, setting, labels)]
    for name, found, expected in zip(("z", "log-determinant", "inverse"), alone, together, strict=True):
        change = (found - expected[some]).abs().max().item()
        if not change <= NEAR * max(1.0, expected.abs().max().item()):
            raise LawBroken(f"other rows change a sample's {name} by {change:.2g}, none is expected")


def gradients(make: Maker, setting: Setting) -> None:
    """The likelihood has a finite gradient for every parameter, not zero for all of it."""
    transform = _trained(make, setting, double=False).train()
    z, log_det = _pair(transform(_data(setting, 4).float(), *_labels(transform, 4)), 4, setting)
    nll = (0.5 * z.square().sum(1) - log_det).mean()
    nll.backward()
    finite(nll, [], "for the likelihood")
    for name, parameter in transform.named_parameters():
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any()):
            raise LawBroken(f"the gradient of {name} is zero, every parameter is expected to matter")
        if parameter.requires_grad and parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            raise LawBroken(f"NaN or infinity was found in the gradient of {name}")


class _Joined(nn.Module):
    """A transform as a network of one output: z and the log-determinant beside each other, (B, D + 1)."""

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    @property
    def num_classes(self) -> int | None:
        found: int | None = getattr(self.transform, "num_classes", None)
        return found

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        z, log_det = self.transform(x, *labels)
        return torch.cat([z, log_det[:, None]], 1)


_of_networks = networks.through(_Joined)
evaluation = _of_networks(networks.evaluation)
rebuilding = _of_networks(networks.rebuilding)
copying = _of_networks(networks.copying)
labels_matter = _of_networks(networks.labels_matter)
