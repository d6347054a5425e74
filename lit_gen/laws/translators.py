"""The laws of networks from images to images, ours and a user's own; `lit_gen.laws.base` says what a law is."""

from typing import Any

import torch
from torch import Tensor, nn

from lit_gen.core.randomness import Rows
from lit_gen.laws import networks
from lit_gen.laws.base import CPU, LawBroken, Maker, Setting
from lit_gen.models.image_to_image.sizes import applied

_LARGEST = 128
"""Side of the image on which a radius is tried; a larger radius is taken on trust."""


def _images(channels: int, height: int, width: int, n: int = 2) -> Tensor:
    return Rows(CPU, 0, "law", 0).normal(n, channels, height, width)


def _numbers(network: Any) -> tuple[int, int | None, int | None]:
    """The network's multiple, scale and radius, as far as it has them.

    Raises:
        LawBroken: if one is no such number.
    """
    multiple: Any = getattr(network, "multiple", 1)
    scale: Any = getattr(network, "scale", None)
    reach: Any = getattr(network, "radius", None)
    for name, value, least in (("multiple", multiple, 1), ("scale", scale, 1), ("radius", reach, 0)):
        fits = isinstance(value, int) and value >= least
        if not fits and (value is not None or name == "multiple"):
            null = ", or None where a pixel depends on the whole image," if name == "radius" else ""
            raise LawBroken(f"{name} = {value} was found, a number of at least {least}{null} is expected")
    return multiple, scale, reach


def output(make: Maker, setting: Setting) -> None:
    """Finite images, `scale` times as large, for all sizes that are multiples of `multiple`."""
    channels, height, width = setting.shape
    for n, training in ((1, False), (4, True)):
        network = networks.nudged(make()).train(training)
        multiple, said, _ = _numbers(network)
        for sides in ((height, width), (height + 3, width + 2 * multiple)):
            h, w = (side + -side % multiple for side in sides)
            out: object = network(_images(channels, h, w, n))
            if not isinstance(out, Tensor) or out.ndim != 4:
                what = tuple(out.shape) if isinstance(out, Tensor) else f"a {type(out).__name__}"
                raise LawBroken(f"{what} was returned, images (B, C, H, W) are expected")
            scale = said or out.shape[3] // w
            networks.same_shape(out, (n, out.shape[1], scale * h, scale * w), f"images for a source of {h}x{w}")
            if not torch.isfinite(out).all():
                raise LawBroken("NaN or infinity was found in the output")


def radius(make: Maker, setting: Setting) -> None:
    """No output pixel depends on source pixels that are further away than `radius`."""
    network = networks.nudged(make()).eval()
    multiple, said, reach = _numbers(network)
    if reach is None:
        return
    side = min(2 * reach + 4 * multiple, _LARGEST)
    side += -side % multiple
    x = _images(setting.shape[0], side, side, 1).requires_grad_()
    out = network(x)
    scale = said or out.shape[3] // side
    middle = side // (2 * multiple) * multiple
    places = {0, *range(middle * scale, (middle + multiple) * scale), scale * side - 1}
    far = torch.arange(side)
    for p in places:
        (gradient,) = torch.autograd.grad(out[..., p, p].sum(), x, retain_graph=True)
        outside = (far - p // scale).abs() > reach
        for dim, name in ((2, "rows"), (3, "columns")):
            if gradient.index_select(dim, far[outside]).any():
                raise LawBroken(
                    f"radius = {reach} was found, but output pixel ({p}, {p}) depends on source {name} further away; "
                    f"tiles with that border would differ from the whole"
                )


class _OfAnySize(nn.Module):
    """A network of images of any size: (B, C, h, w) to (B, C', scale h, scale w)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return applied(self.network, x)


_of_networks = networks.through(_OfAnySize)
gradients = _of_networks(networks.gradients)
evaluation = _of_networks(networks.evaluation)
rows = _of_networks(networks.rows)
rebuilding = _of_networks(networks.rebuilding)
copying = _of_networks(networks.copying)
