"""Adversarial losses: pure functions ``(real_logits, fake_logits) -> AdversarialLoss``.

Both logits go in, so relativistic losses are not a special case. Each function returns the discriminator's loss and the
generator's; the module uses the one of the current step. Logits are the discriminator's raw outputs (B,), or (B, h, w)
of one that judges patches; a loss is a scalar, a mean over all of them. To add one, write such a function anywhere and
name it: ``--model.loss my_file.my_loss``.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from lit_gen.core.distributed import mean_over_ranks

__all__ = [
    "AdversarialLoss",
    "Logits",
    "hinge",
    "least_squares",
    "minimax",
    "non_saturating",
    "relativistic",
    "relativistic_average",
    "wasserstein",
]


class AdversarialLoss(NamedTuple):
    """The two scalar losses of one adversarial game; both are minimised."""

    discriminator: Tensor
    generator: Tensor


class Logits(NamedTuple):
    """What a discriminator may return instead of its bare logits (B,): those, and the logits of an image's class."""

    adversarial: Tensor
    """(B,), or (B, h, w), a logit for each patch."""
    classes: Tensor | None = None
    """(B, num_classes) of an auxiliary classifier, or None."""


Loss = Callable[[Tensor, Tensor], AdversarialLoss]
"""What a module takes: logits (B,) of real and of generated images to the two losses."""


def threshold(loss: Loss) -> float:
    """The logit above which a discriminator trained with ``loss`` says "real": 0, or the loss's own ``threshold``."""
    return float(getattr(loss, "threshold", 0.0))


def with_threshold(value: float) -> Callable[[Loss], Loss]:
    """A decorator that gives a loss its own `threshold`."""

    def give(loss: Loss) -> Loss:
        vars(loss)["threshold"] = value
        return loss

    return give


def minimax(real: Tensor, fake: Tensor) -> AdversarialLoss:
    """The original game, min_G max_D E log D(x) + E log(1 - D(G(z))); the generator's gradient saturates.

    Goodfellow et al., 2014, https://arxiv.org/abs/1406.2661. With D = sigmoid(logit). At D = 1/2 the discriminator's
    loss is 2 ln 2.
    """
    value = F.logsigmoid(real).mean() + F.logsigmoid(-fake).mean()
    return AdversarialLoss(discriminator=-value, generator=F.logsigmoid(-fake).mean())


def non_saturating(real: Tensor, fake: Tensor) -> AdversarialLoss:
    """As `minimax`, but the generator maximises E log D(G(z)).

    Goodfellow et al., 2014, section 3, https://arxiv.org/abs/1406.2661.
    """
    return AdversarialLoss(
        discriminator=F.softplus(-real).mean() + F.softplus(fake).mean(), generator=F.softplus(-fake).mean()
    )


@with_threshold(0.5)  # its labels are 0 and 1
def least_squares(real: Tensor, fake: Tensor) -> AdversarialLoss:
    """LSGAN with labels a = 0, b = c = 1: D minimises E (D(x) - 1)^2 / 2 + E D(G(z))^2 / 2.

    Mao et al., 2017, equation 9, https://arxiv.org/abs/1611.04076.
    """
    return AdversarialLoss(
        discriminator=((real - 1).square().mean() + fake.square().mean()) / 2,
        generator=(fake - 1).square().mean() / 2,
    )


def hinge(real: Tensor, fake: Tensor) -> AdversarialLoss:
    """The hinge loss of geometric GAN and SNGAN.

    Lim and Ye, 2017, https://arxiv.org/abs/1705.02894; Miyato et al., 2018, https://arxiv.org/abs/1802.05957.
    """
    return AdversarialLoss(discriminator=F.relu(1 - real).mean() + F.relu(1 + fake).mean(), generator=-fake.mean())


def wasserstein(real: Tensor, fake: Tensor) -> AdversarialLoss:
    """The dual of the Wasserstein-1 distance; the critic must be kept Lipschitz by other means.

    Arjovsky et al., 2017, https://arxiv.org/abs/1701.07875. The distance's estimate is minus the discriminator's loss.
    """
    return AdversarialLoss(discriminator=fake.mean() - real.mean(), generator=-fake.mean())


def relativistic(real: Tensor, fake: Tensor) -> AdversarialLoss:
    """The relativistic pairing loss: each real is compared with one fake, E softplus(-(D(x) - D(G(z)))).

    Jolicoeur-Martineau, 2018, https://arxiv.org/abs/1807.00734; R3GAN (Huang et al., 2024),
    https://arxiv.org/abs/2501.05441.
    """
    return AdversarialLoss(discriminator=F.softplus(fake - real).mean(), generator=F.softplus(real - fake).mean())


def relativistic_average(real: Tensor, fake: Tensor) -> AdversarialLoss:
    """RaSGAN: each real is compared with the mean fake and each fake with the mean real.

    Jolicoeur-Martineau, 2018, https://arxiv.org/abs/1807.00734. The means run over all ranks, differentiably: two ranks
    with half the batch give the gradient of one rank with the whole.
    """
    real_mean, fake_mean = mean_over_ranks(real.mean()), mean_over_ranks(fake.mean())
    return AdversarialLoss(
        discriminator=F.softplus(fake_mean - real).mean() + F.softplus(fake - real_mean).mean(),
        generator=F.softplus(real - fake_mean).mean() + F.softplus(real_mean - fake).mean(),
    )
