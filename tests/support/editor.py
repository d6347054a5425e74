"""A "model" outside the package that edits: a blend of an image and noise, where a mask allows it."""

import torch

from lit_gen.protocols.images import Drawer
from support.langevin import Langevin


class Editor(Langevin):
    """Strength times noise, and the rest of the image."""

    def drawer(self, weights="ema", strength: float = 0.5):
        shape = self.score.shape

        def draw(noise, asked, draws):
            given = torch.zeros(len(noise), *shape) if asked.images is None else asked.images
            drawn = (1 - strength) * given + strength * noise.view(-1, *shape).clamp(-1, 1)
            return drawn if asked.mask is None else torch.where(asked.mask > 0, drawn, given)

        return Drawer(draw, self.score.mean.numel(), settings={"strength": strength}, edits=shape)
