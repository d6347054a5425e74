"""Adaptive discriminator augmentation: the more the discriminator overfits, the more augmentation.

Karras et al., 2020, https://arxiv.org/abs/2006.06676.
"""

import functools
import math

import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.core.options import above, at_least, expect, within
from lit_gen.core.randomness import Rows
from lit_gen.models.adversarial import warp
from lit_gen.models.adversarial.augment import Augmentation, widened

__all__ = ["ADA"]


class ADA(Augmentation):
    """Adaptive discriminator augmentation: each transform happens with probability p, and p follows overfitting.

    Karras et al., 2020, https://arxiv.org/abs/2006.06676, with the strengths of the paper's "bgc" pipeline:

    - pixel blitting: x-flip, quarter turns, whole shifts by up to 1/8 of the side;
    - geometry: scaling by 2^N(0, 0.2^2), rotation, stretching by 2^N(0, 0.2^2) along one axis and its inverse along the
      other, rotation, shifts by N(0, 0.125^2) of the side (each rotation happens with 1 - sqrt(1 - p), so that either
      does with p);
    - color, for three channels: brightness + N(0, 0.2^2), contrast x 2^N(0, 0.5^2), luma flip, hue rotation by
      U(-pi, pi), saturation x 2^N(0, 1). With one channel the luma flip negates, hue and saturation are left out.

    All geometry is one bilinear resampling with reflection at the borders. The paper also upsamples twofold with a
    wavelet filter around it; this is not done here, so thin structures come out a little blurrier. At p = 0 the output
    equals the input bit by bit.

    After every `interval` updates of the discriminator, p moves up if the mean sign of its logits of real images
    (r_t in the paper) exceeds `target`, else down, by the images of these updates over `speed_kimg` thousand.

    Args:
        target: the mean sign to hold, in [-1, 1]; None: p stays as it is, and a schedule may fill the buffer `p`.
        speed_kimg: thousands of real images in which p can go from 0 to 1.
        interval: updates of the discriminator between two steps of p.
        initial_p: p at the start, in [0, 1].
    """

    p: Tensor
    sign_sum: Tensor
    image_sum: Tensor

    def __init__(
        self, target: float | None = 0.6, speed_kimg: float = 500, interval: int = 4, initial_p: float = 0.0
    ) -> None:
        super().__init__()
        expect(target is None or -1 <= target <= 1, "augment.target", target, "a number in [-1, 1], or null,")
        above(0, "augment.", speed_kimg=speed_kimg)
        at_least(1, "augment.", interval=interval)
        within("[0, 1]", "augment.", initial_p=initial_p)
        self.target, self.speed_kimg, self.interval, self.initial_p = target, speed_kimg, interval, initial_p
        self.register_buffer("p", torch.tensor(float(initial_p)))
        self.register_buffer("sign_sum", torch.tensor(0.0))  # over the images of the interval so far
        self.register_buffer("image_sum", torch.tensor(0.0))

    def observe(self, real_sign: Tensor, images: int, update: int) -> None:
        """Add one update of the discriminator to its interval, and move p at the interval's end.

        Args:
            real_sign: scalar, the mean sign of the logits of real images over all ranks.
            images: number of real images in the update, over all ranks.
            update: number of updates so far, from 1.
        """
        if self.target is None:
            return
        with torch.no_grad():  # no value is read on the host, which would wait for the device
            self.sign_sum.add_(real_sign.float() * images)
            self.image_sum.add_(images)
            if update % self.interval == 0:
                direction = torch.sign(self.sign_sum / self.image_sum - self.target)
                self.p.add_(direction * (self.image_sum / (self.speed_kimg * 1000))).clamp_(0, 1)
                self.sign_sum.zero_()
                self.image_sum.zero_()

    def forward(self, images: Tensor, random: Rows) -> Tensor:
        """Images (B, C, H, W) with C of 1 or 3 to transformed images of that shape."""
        pixels = widened(images)
        if images.shape[1] not in (1, 3):
            raise UserError(f"augment: images of 1 or 3 channels are expected by ADA, {images.shape[1]} were found")
        pixels = warp.resample(pixels, self._geometry(random, len(images), *images.shape[2:]))
        return warp.recolor(pixels, self._color(random, len(images), images.shape[1])).to(images.dtype)

    def _geometry(self, draw: Rows, batch: int, height: int, width: int) -> Tensor:
        """Draw the inverse matrices (B, 3, 3)."""
        p, p_rotation = self.p, 1 - (1 - self.p).sqrt()
        chances = torch.stack([p, p, p, p, p_rotation, p, p_rotation, p])
        flip, turn, shift, scale, before, stretch, after, drift = (draw.uniform(batch, 8) < chances).unbind(1)
        u, n = draw.uniform(batch, 6).unbind(1), draw.normal(batch, 4).unbind(1)
        scaled = torch.where(scale, torch.exp2(0.2 * n[0]), 1.0)
        stretched = torch.where(stretch, torch.exp2(0.2 * n[1]), 1.0)
        steps = [
            warp.inverse_scaling(torch.where(flip & (u[0] < 0.5), -1.0, torch.ones_like(u[0])), torch.ones_like(u[0])),
            warp.inverse_turns(torch.where(turn, (4 * u[1]).floor(), 0.0)),
            warp.inverse_translation(
                torch.where(shift, ((2 * u[2] - 1) * 0.125 * width).round(), 0.0),
                torch.where(shift, ((2 * u[3] - 1) * 0.125 * height).round(), 0.0),
            ),
            warp.inverse_scaling(scaled, scaled),
            warp.inverse_rotation(torch.where(before, (2 * u[4] - 1) * math.pi, 0.0)),
            warp.inverse_scaling(stretched, 1 / stretched),
            warp.inverse_rotation(torch.where(after, (2 * u[5] - 1) * math.pi, 0.0)),
            warp.inverse_translation(
                torch.where(drift, n[2] * 0.125 * width, 0.0), torch.where(drift, n[3] * 0.125 * height, 0.0)
            ),
        ]
        return functools.reduce(warp.compose, steps)

    def _color(self, draw: Rows, batch: int, channels: int) -> Tensor:
        """Draw the color maps (B, 4, 4)."""
        bright, strong, flip, hue, saturate = (draw.uniform(batch, 5) < self.p).unbind(1)
        u, n = draw.uniform(batch, 2).unbind(1), draw.normal(batch, 3).unbind(1)
        steps = [
            warp.brightness(torch.where(bright, 0.2 * n[0], 0.0)),
            warp.contrast(torch.where(strong, torch.exp2(0.5 * n[1]), 1.0)),
            warp.luma_flip(torch.where(flip, (2 * u[0]).floor(), 0.0)),
        ]
        if channels == 3:
            steps += [
                warp.hue_rotation(torch.where(hue, (2 * u[1] - 1) * math.pi, 0.0)),
                warp.saturation(torch.where(saturate, torch.exp2(n[2]), 1.0)),
            ]
        return functools.reduce(lambda first, then: warp.compose(then, first), steps)
