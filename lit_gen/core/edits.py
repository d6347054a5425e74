"""Images that a model is asked to change, and where: checked, and put into the rows of blocks."""

import torch
from torch import Tensor

from lit_gen.core.blame import shown
from lit_gen.core.errors import UserError
from lit_gen.protocols.images import Condition, Drawer


def check_edit(drawer: Drawer, images: Tensor | None, mask: Tensor | None, count: int) -> None:
    """Refuse images and a mask that a model cannot make use of.

    Args:
        drawer: the model's.
        images: float (count, C, H, W) in [-1, 1], or one for all, (1, C, H, W).
        mask: (count, 1, H, W) or (1, 1, H, W), in [0, 1], 1 where images are to be filled in.
        count: how many samples are asked for.

    Raises:
        UserError: if the model edits nothing, for a mask without images, and for other shapes or numbers.
    """
    if images is None:
        if mask is not None:
            raise UserError(
                "mask: it was found without images, which are expected too: it says where they are filled in"
            )
        return
    if drawer.edits is None:
        raise UserError("images: this model edits no images, it only draws new ones")
    _check("images", images, drawer.edits, count, (-1.0, 1.0))
    if mask is not None:
        _check("mask", mask, (1, *drawer.edits[1:]), count, (0.0, 1.0))


def _check(name: str, given: Tensor, shape: tuple[int, ...], count: int, bounds: tuple[float, float]) -> None:
    if tuple(given.shape) not in ((count, *shape), (1, *shape)) or not given.is_floating_point():
        raise UserError(f"{name}: {shown(given)} was found, floats {(count, *shape)} or {(1, *shape)} are expected")
    low, high = (float(x) for x in given.aminmax())
    if not bounds[0] - 1e-6 <= low <= high <= bounds[1] + 1e-6:
        raise UserError(f"{name}: numbers from {low:g} to {high:g} were found, {list(bounds)} is expected")


def with_edit(
    condition: Condition, images: Tensor | None, mask: Tensor | None, position: Tensor, total: int
) -> Condition:
    """A condition of ``total`` rows with images and a mask in the rows ``position`` (n,); other rows have zeros."""
    if images is None:
        return condition
    where = None if mask is None else _rows(mask, position, total)
    return condition._replace(images=_rows(images, position, total), mask=where)


def _rows(given: Tensor, position: Tensor, total: int) -> Tensor:
    rows = torch.zeros(total, *given.shape[1:])
    rows[position] = given.detach().cpu().float().expand(len(position), *given.shape[1:])
    return rows
