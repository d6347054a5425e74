"""Regularizers: called with one `PenaltyContext`, they return a scalar that is added to a network's loss.

A plain function is enough for the discriminator's step. A regularizer of the generator's step, or one that is evaluated
every few updates or has buffers or parameters, subclasses `Regularizer`. A config names it:
``regularizers: [my_file.MyPenalty]``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lit_gen.core.blame import named, shown
from lit_gen.core.errors import UserError
from lit_gen.core.options import expect, not_negative, whole_number
from lit_gen.core.randomness import Rows
from lit_gen.models.adversarial.losses import Logits
from lit_gen.protocols.training import Network


def call(network: nn.Module, x: Tensor, labels: Tensor | None) -> Tensor | Logits:
    """``network(x, labels)``; an unconditional network, which has no ``num_classes``, is not given the labels."""
    result: Tensor | Logits = network(x) if getattr(network, "num_classes", None) is None else network(x, labels)
    return result


def judge(discriminator: nn.Module, images: Tensor, labels: Tensor | None) -> Logits:
    """A discriminator's answer as float32 `Logits`, whichever form it has."""
    found = call(discriminator, images, labels)
    if isinstance(found, Tensor):
        return Logits(found.float())
    if not isinstance(getattr(found, "adversarial", None), Tensor):
        expected = "logits (B,) or Logits with classes are expected"
        raise UserError(f"model.discriminator: {named(discriminator)} returned {shown(found)}, {expected}")
    return Logits(found.adversarial.float(), None if found.classes is None else found.classes.float())


@dataclass(frozen=True)
class PenaltyContext:
    """All that a regularizer may use. Rows belong together: fake i has the label of real i.

    Attributes:
        network: whose step this is; the other network's parameters are frozen.
        discriminator: the discriminator itself; usually `score` is enough.
        generator: the generator itself; None if images do not come from latents.
        real: images (B, C, H, W) in [-1, 1].
        fake: images (B, C, H, W); with the generator's graph in its own step, detached in the discriminator's.
        latents: (B, latent_dim) of ``fake``; None if images do not come from latents.
        labels: int64 (B,), or None if the data set has none.
        real_logits: the output for ``real`` that the loss uses; None in the generator's step of most losses.
        fake_logits: the output for ``fake`` that the loss uses.
        update: how many updates this network has had.
        random: draws for these rows, only for this regularizer; exact at any world size.
        augment: the augmentation, by default the identity; each call draws anew.
    """

    network: Network
    discriminator: nn.Module
    generator: nn.Module | None
    real: Tensor
    fake: Tensor
    latents: Tensor | None
    labels: Tensor | None
    real_logits: Logits | None
    fake_logits: Logits
    update: int
    random: Rows
    augment: Callable[[Tensor], Tensor] = lambda images: images

    def logits(self, images: Tensor) -> Tensor:
        """The discriminator's logits (B,) for images as they are, with the batch's labels."""
        return judge(self.discriminator, images, self.labels).adversarial

    def score(self, images: Tensor) -> Tensor:
        """The discriminator's logits (B,) for images with the batch's labels, taken through the augmentation."""
        return self.logits(self.augment(images))

    def squared_gradient_norms(self, images: Tensor) -> Tensor:
        """||grad_x D(x)||^2 of each image (B,), differentiable with respect to the discriminator's parameters."""
        images = images.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.score(images).sum(), images, create_graph=True)
        return gradient.flatten(1).square().sum(1)


Penalty = Callable[[PenaltyContext], Any]
"""A regularizer without options: a plain function to a scalar tensor.

(Any: the parser of the command line would otherwise refuse functions without annotations.)
"""


class Regularizer(nn.Module):
    """Base of the regularizers with options or state: implement ``forward(context) -> scalar``.

    Buffers and parameters are saved and resumed with the model; parameters are trained by the optimizer of the network
    that the regularizer belongs to. Under several processes a buffer must get the same value on each
    (`lit_gen.core.distributed.mean_over_ranks`).

    Args:
        weight: factor of the term.
        every: evaluate in every k-th update only, times k, which keeps the expected gradient (Karras et al., 2019,
            appendix B, https://arxiv.org/abs/1912.04958, without their correction of the optimizer).

    Raises:
        UserError: for a negative weight or an ``every`` below 1.
    """

    network: Network | Literal["both"] = "discriminator"
    """Whose step the term belongs to."""

    def __init__(self, weight: float = 1.0, every: int = 1) -> None:
        super().__init__()
        name = f"model.regularizers.{type(self).__name__}"
        not_negative(f"{name}.", weight=weight)
        expect(isinstance(every, int) and every >= 1, f"{name}.every", every, whole_number(1))
        self.weight, self.every = weight, every

    @property
    def name(self) -> str:
        """What messages and logs call it."""
        return type(self).__name__


class FunctionRegularizer(Regularizer):
    """A plain function as a regularizer; its attributes ``network`` and ``every`` are used if it has them.

    Args:
        function: of one `PenaltyContext`, to a scalar.
    """

    def __init__(self, function: Penalty) -> None:
        super().__init__(every=getattr(function, "every", 1))
        self.function = function
        self.network = getattr(function, "network", "discriminator")

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def forward(self, context: PenaltyContext) -> Any:
        """The function's value."""
        return self.function(context)
