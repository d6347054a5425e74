"""Held-out logits, and the name of each term in the log."""

import math
import re

import torch
from torch import Tensor

from lit_gen.core import distributed
from lit_gen.models.adversarial.context import Regularizer
from lit_gen.protocols.training import Network


class HeldOut:
    """How the discriminator judges held-out images, exact at any world size."""

    def __init__(self) -> None:
        self._blocks: list[Tensor] = []

    def add(self, logits: Tensor, threshold: float) -> None:
        """Note one block's logits (B,)."""
        self._blocks.append(torch.stack([logits.sum(), (logits > threshold).sum(), logits.new_tensor(len(logits))]))

    def collect(self) -> dict[str, float]:
        """Mean logit and accuracy over all ranks; nothing without images."""
        blocks = torch.stack(self._blocks).cpu().double() if self._blocks else torch.zeros(0, 3)
        logits, correct, count = (math.fsum(distributed.gather(column.tolist())) for column in blocks.T)
        self._blocks = []
        return {"real_logit": logits / count, "real_accuracy": correct / count} if count else {}


def named(regularizers: list[Regularizer]) -> dict[str, Regularizer]:
    """Regularizers by their names; a second R1 is ``R1_2``."""
    names: dict[str, Regularizer] = {}
    for regularizer in regularizers:
        same = sum(other.name == regularizer.name for other in names.values())
        names[f"{regularizer.name}_{same + 1}" if same else regularizer.name] = regularizer
    return names


def log_names(regularizers: dict[str, Regularizer], network: Network) -> list[str]:
    """Names in the log of the terms of a network's step: ``GradientPenalty`` is ``gradient_penalty``.

    A term of both steps is named after the network too.
    """
    snakes = {name: re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() for name in regularizers}
    mine = {name: r for name, r in regularizers.items() if r.network in (network, "both")}
    return [f"{network}_{snakes[name]}" if r.network == "both" else snakes[name] for name, r in mine.items()]
