"""Images of any size through a network that takes multiples of some number: padded, and cut back."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lit_gen.core.blame import named
from lit_gen.core.errors import UserError
from lit_gen.core.options import whole_number

__all__ = ["applied", "multiple_of", "padded", "radius_of"]


def multiple_of(network: nn.Module) -> int:
    """What the sides of a network's images are multiples of: its attribute ``multiple``, or 1.

    Raises:
        UserError: if it is no whole number.
    """
    multiple: object = getattr(network, "multiple", 1)
    if not isinstance(multiple, int) or multiple < 1:
        raise UserError(f"{named(network)}: multiple = {multiple!r} was found, {whole_number(1)} is expected")
    return multiple


def radius_of(network: nn.Module) -> int | None:
    """Source pixels on each side that an output pixel depends on, in evaluation: ``radius``; None for all of them.

    None also where the network does not say.

    Raises:
        UserError: if it is neither None nor a whole number.
    """
    radius: object = getattr(network, "radius", None)
    if radius is not None and (not isinstance(radius, int) or radius < 0):
        raise UserError(f"{named(network)}: radius = {radius!r} was found, {whole_number(0)} or None is expected")
    return radius


def padded(x: Tensor, multiple: int) -> Tensor:
    """Images (B, C, h, w), continued on the right and below to multiples of a number.

    By a reflection; by the last pixel where the image is too small for that.
    """
    for dim in (3, 2):
        side = x.shape[dim]
        by = -side % multiple
        if by:
            mode = "reflect" if by < side else "replicate"
            x = F.pad(x, (0, by, 0, 0) if dim == 3 else (0, 0, 0, by), mode=mode)
    return x


def applied(network: nn.Module, x: Tensor) -> Tensor:
    """The network's output (B, C', s h, s w) for images (B, C, h, w) of any size."""
    whole = padded(x, multiple_of(network))
    out: Any = network(whole)
    if whole.shape != x.shape and isinstance(out, Tensor) and out.ndim == 4:  # what else it returns is told elsewhere
        out = out[..., : x.shape[2] * out.shape[2] // whole.shape[2], : x.shape[3] * out.shape[3] // whole.shape[3]]
    made: Tensor = out
    return made
