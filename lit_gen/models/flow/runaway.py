"""A likelihood of held-out data that runs away while that of the training data improves: noticed once, and named.

Pixels that are constant in training, or nearly, are what it comes from: the density gathers on a point, and one image
that differs there costs hundreds of nats.
"""

import math
from typing import Any

from torch import Tensor

from lit_gen.models.flow import checks
from lit_gen.models.flow.density import Density

RISE = 0.25
"""Nats per dimension by which ``val/nll`` may exceed its lowest value."""


class Watch:
    """The lowest ``val/nll`` of a run, ``train/nll`` then and now, and whether the user was told.

    The rule: ``val/nll`` is more than `RISE` nats per dimension above its lowest value, and ``train/nll``, as last
    logged, below what it was at that time.
    """

    def __init__(self) -> None:
        self.lowest, self.step = math.inf, 0
        self.trained_then = self.trained = math.nan
        self.told = False

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at ``state``."""
        vars(self).update(state)

    def ran_away(self, held_out: float, step: int, dimensions: int) -> bool:
        """Whether the user is to be told now.

        Args:
            held_out: ``val/nll`` of this step.
            step: its number.
            dimensions: D.
        """
        if held_out < self.lowest:
            self.lowest, self.step, self.trained_then = held_out, step, self.trained
        elif math.isnan(self.trained_then):  # the first log entry came after the lowest
            self.trained_then = self.trained
        rose = held_out > self.lowest + RISE * dimensions and self.trained < self.trained_then
        now, self.told = rose and not self.told, self.told or rose
        return now

    def sentence(self, held_out: float, step: int, where: str) -> str:
        """What the user is told."""
        return (
            f"val/nll rose to {held_out:.4g} at step {step} from {self.lowest:.4g} at step {self.step} while train/nll "
            f"fell from {self.trained_then:.4g} to {self.trained:.4g}: the density gathers on what training shows"
            f"{where}; a larger model.support.alpha, weight decay, dropout and fewer steps help"
        )


def unlike(density: Density, train: Tensor, held_out: Tensor, count: int = 3) -> str:
    """The dimensions in which held-out data differ most from the training data.

    They are those with the largest mean of (y - m)^2 / v over held-out data, with mean m and variance v of training.

    Args:
        density: says what y is.
        train: images (N, C, H, W) as the data module keeps them.
        held_out: the same.
        count: how many to name.
    """
    (mean, variance), (there, spread) = checks.moments(density, train), checks.moments(density, held_out)
    share = ((spread + (there - mean).square()) / variance).nan_to_num(1.0, posinf=math.inf)
    worst = share.flatten().argsort(descending=True, stable=True)[:count].tolist()
    _, height, width = share.shape
    of = " times the training variance"
    named = [
        f"({i // (height * width)}, {i // width % height}, {i % width}), {float(share.flatten()[i]):.3g}{of}"
        for i in worst
    ]
    return f"most at (channel, row, column) {'; '.join(named)}"
