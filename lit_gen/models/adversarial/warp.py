"""The effect of augmentations on positions and colors, without their draws: affine matrices for ADA, shifts and cuts.

A matrix of positions (B, 3, 3) maps homogeneous output coordinates (x, y, 1), in pixels from the image's center, to
those of the input. Applying transform 1, then 2, is therefore ``compose(inverse_1, inverse_2)``.
A matrix of colors (B, 4, 4) maps the input's homogeneous (R, G, B, 1) to the output's: ``compose(color_2, color_1)``.

Matrices are multiplied entry by entry: a matmul would run in TF32 or under autocast in bfloat16 on a GPU,
whose 11 and 8 significant bits would place a corner 128 pixels from the center to 0.06 and 0.5 of a pixel.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = [
    "brightness",
    "compose",
    "contrast",
    "cut_out",
    "hue_rotation",
    "inverse_rotation",
    "inverse_scaling",
    "inverse_translation",
    "inverse_turns",
    "luma_flip",
    "matrix",
    "recolor",
    "resample",
    "saturation",
    "shift",
    "take",
]


def matrix(like: Tensor, *rows: Sequence[Tensor | float]) -> Tensor:
    """Stack entries, each a tensor (B,) as ``like`` or a number, to matrices (B, len(rows), len(rows[0]))."""
    # numbers are filled in on the device: copying a table there would wait for it
    entries = [e if isinstance(e, Tensor) else torch.full_like(like, e) for row in rows for e in row]
    return torch.stack(entries, dim=-1).reshape(*like.shape, len(rows), -1)


def compose(a: Tensor, b: Tensor) -> Tensor:
    """The products a @ b of matrices (B, n, n), always in full precision."""
    return (a[:, :, :, None] * b[:, None, :, :]).sum(2)


def inverse_scaling(x: Tensor, y: Tensor) -> Tensor:
    """Enlarge by the factors ``x`` and ``y`` (B,) along the axes; the factor -1 flips."""
    return matrix(x, (1 / x, 0, 0), (0, 1 / y, 0), (0, 0, 1))


def inverse_rotation(angle: Tensor) -> Tensor:
    """Rotate by ``angle`` (B,) in radians, counterclockwise as seen."""
    cos, sin = angle.cos(), angle.sin()
    return matrix(angle, (cos, -sin, 0), (sin, cos, 0), (0, 0, 1))


def inverse_turns(turns: Tensor) -> Tensor:
    """Rotate by ``turns`` (B,) whole quarters, counterclockwise as seen: exact, as `torch.rot90`."""
    cos, sin = (turns * (math.pi / 2)).cos().round(), (turns * (math.pi / 2)).sin().round()
    return matrix(turns, (cos, -sin, 0), (sin, cos, 0), (0, 0, 1))


def inverse_translation(x: Tensor, y: Tensor) -> Tensor:
    """Shift by ``x`` pixels to the right and ``y`` downward, both (B,)."""
    return matrix(x, (1, 0, -x), (0, 1, -y), (0, 0, 1))


def take(images: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Read pixels of images (B, C, H, W) at integer coordinates ``y`` and ``x`` (B, ...) to (B, C, ...).

    Twice differentiable. On a GPU its gradient adds in no fixed order unless torch's deterministic algorithms are on,
    which it follows.
    """
    batch, channels, _, width = images.shape
    index = (y * width + x).flatten(1)[:, None].expand(batch, channels, -1)
    return images.flatten(2).gather(2, index).reshape(batch, channels, *y.shape[1:])


def shift(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Shift images (B, C, H, W) by whole pixels, int64 (B,) downward and to the right; zeros come in."""
    height, width = images.shape[2:]
    y = torch.arange(height, device=images.device)[None, :, None] - down[:, None, None]
    x = torch.arange(width, device=images.device)[None, None, :] - right[:, None, None]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)  # (B, H, W)
    # a roll reads every pixel once, so its gradient never adds two
    rolled = take(images, (y % height).expand_as(inside), (x % width).expand_as(inside))
    return rolled * inside[:, None]


def cut_out(images: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Set a rectangle of images (B, C, H, W) to zero, from (``top``, ``left``), each (B,), maybe over the border."""
    y = torch.arange(images.shape[2], device=images.device) - top[:, None]
    x = torch.arange(images.shape[3], device=images.device) - left[:, None]
    rows, columns = (y >= 0) & (y < height), (x >= 0) & (x < width)  # (B, H), (B, W)
    return images * ~(rows[:, None, :, None] & columns[:, None, None, :])


def _reflect(index: Tensor, size: int) -> Tensor:
    """Mirror any integer index about the first and the last pixel, without doubling them, into [0, size)."""
    period = max(2 * (size - 1), 1)
    index = index.remainder(period)
    return torch.minimum(index, period - index)


def resample(images: Tensor, inverse: Tensor) -> Tensor:
    """Bilinear resampling with reflection at the borders.

    Written with `take`, because `grid_sample` cannot be differentiated twice. A matrix that maps pixels onto pixels
    (identity, flips, quarter turns of a square, whole shifts) gives an exact copy: its weights are ones and zeros.

    Args:
        images: (B, C, H, W).
        inverse: float32 (B, 3, 3).

    Returns:
        (B, C, H, W), in the wider of the two data types.
    """
    height, width = images.shape[2:]
    y = torch.arange(height, device=images.device)[None, :, None] - (height - 1) / 2
    x = torch.arange(width, device=images.device)[None, None, :] - (width - 1) / 2
    a = inverse[:, :, :, None, None]
    from_x = a[:, 0, 0] * x + a[:, 0, 1] * y + (a[:, 0, 2] + (width - 1) / 2)  # (B, H, W)
    from_y = a[:, 1, 0] * x + a[:, 1, 1] * y + (a[:, 1, 2] + (height - 1) / 2)
    left, top = from_x.floor(), from_y.floor()
    right_share, low_share = from_x - left, from_y - top
    corners_x = _reflect(torch.stack([left, left + 1, left, left + 1], 1).long(), width)  # (B, 4, H, W)
    corners_y = _reflect(torch.stack([top, top, top + 1, top + 1], 1).long(), height)
    shares_x = torch.stack([1 - right_share, right_share] * 2, 1)
    shares_y = torch.stack([1 - low_share] * 2 + [low_share] * 2, 1)
    return (take(images, corners_y, corners_x) * (shares_x * shares_y)[:, None]).sum(2)


def _alike(same: Tensor, following: Tensor | float, preceding: Tensor | float, offset: Tensor | float = 0) -> Tensor:
    """Colors (B, 4, 4) that treat R, G and B alike: each takes of itself, of its successor, of its predecessor."""
    return matrix(
        same,
        (same, following, preceding, offset),
        (preceding, same, following, offset),
        (following, preceding, same, offset),
        (0, 0, 0, 1),
    )


def brightness(shift: Tensor) -> Tensor:
    """Add ``shift`` (B,) to every channel."""
    return _alike(torch.ones_like(shift), 0, 0, shift)


def contrast(factor: Tensor) -> Tensor:
    """Multiply every channel by ``factor`` (B,)."""
    return _alike(factor, 0, 0)


def luma_flip(flip: Tensor) -> Tensor:
    """Mirror the luma, the mean of R, G and B, where ``flip`` (B,) is 1 and keep it where 0; hues stay as they are."""
    return _alike(1 - 2 / 3 * flip, -2 / 3 * flip, -2 / 3 * flip)  # I - 2 v v^T with v = (1, 1, 1) / sqrt(3)


def hue_rotation(angle: Tensor) -> Tensor:
    """Rotate colors by ``angle`` (B,) in radians about the grey axis, red toward green."""
    grey, chroma = (1 - angle.cos()) / 3, angle.sin() / math.sqrt(3)
    return _alike(angle.cos() + grey, grey - chroma, grey + chroma)  # Rodrigues' formula


def saturation(factor: Tensor) -> Tensor:
    """Multiply the distance from the grey axis by ``factor`` (B,)."""
    grey = (1 - factor) / 3
    return _alike(factor + grey, grey, grey)


def recolor(images: Tensor, color: Tensor) -> Tensor:
    """Apply colors.

    Args:
        images: (B, 3, H, W), or (B, 1, H, W), which is taken for grey (R = G = B) and of which the result's mean over
            R, G and B is kept.
        color: float32 (B, 4, 4).

    Returns:
        As the images, in the wider of the two data types.
    """
    a = color[:, :3, :, None, None]  # (B, 3, 4, 1, 1)
    if images.shape[1] == 1:
        return images * a[:, :, :3].sum(2).mean(1, keepdim=True) + a[:, :, 3].mean(1, keepdim=True)
    r, g, b = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    return a[:, :, 0] * r + a[:, :, 1] * g + a[:, :, 2] * b + a[:, :, 3]
