"""Gradient penalties: means over the batch of per-sample gradient norms ||grad_x D(x)||.

With an augmentation, D's logits are taken through it. Each docstring states its constant. All assume that
one sample's logit does not depend on the others: batch norm in the discriminator breaks that.
"""

from torch import Tensor

from lit_gen.core.options import not_negative
from lit_gen.models.adversarial.context import PenaltyContext, Regularizer

__all__ = ["R1", "R2", "Dragan", "GradientPenalty", "ZeroCentered"]

EPSILON = 1e-12  # inside every square root: the norm of a zero gradient must have a finite gradient itself


class GradientPenalty(Regularizer):
    """WGAN-GP: weight * E (||grad D(x)|| - 1)^2 at x = u * real + (1 - u) * fake, u uniform for each pair.

    Gulrajani et al., 2017, https://arxiv.org/abs/1704.00028.

    Args:
        weight: lambda, 10 in the paper.
        every: see `Regularizer`.
    """

    def __init__(self, weight: float = 10.0, every: int = 1) -> None:
        super().__init__(weight, every)

    def forward(self, context: PenaltyContext) -> Tensor:
        """The penalty of one batch."""
        return self.weight * _distance_from_one(context, between(context)).mean()


class Dragan(Regularizer):
    """DRAGAN: weight * E (||grad D(x)|| - 1)^2 around the data, at x = real + d, d from N(0, sigma^2 I).

    Kodali et al., 2017, https://arxiv.org/abs/1705.07215. (The authors' code draws d uniformly and scales it by the
    batch's standard deviation; this is the paper's formula, which does not depend on the batch.)

    Args:
        weight: lambda, 10 in the paper.
        sigma: size of the disturbance, in the units of images in [-1, 1].
        every: see `Regularizer`.
    """

    def __init__(self, weight: float = 10.0, sigma: float = 0.5, every: int = 1) -> None:
        super().__init__(weight, every)
        not_negative("model.regularizers.Dragan.", sigma=sigma)
        self.sigma = sigma

    def forward(self, context: PenaltyContext) -> Tensor:
        """The penalty of one batch."""
        near = context.real + self.sigma * context.random.normal(*context.real.shape)
        return self.weight * _distance_from_one(context, near).mean()


class R1(Regularizer):
    """R1: gamma/2 * E ||grad D(real)||^2.

    Mescheder et al., 2018, https://arxiv.org/abs/1801.04406, equation 9.

    Args:
        gamma: the constant; note the factor 1/2, which some code bases omit.
        every: see `Regularizer`; 16 in StyleGAN2.
    """

    def __init__(self, gamma: float = 10.0, every: int = 1) -> None:
        super().__init__(every=every)
        not_negative("model.regularizers.R1.", gamma=gamma)
        self.gamma = gamma

    def forward(self, context: PenaltyContext) -> Tensor:
        """The penalty of one batch."""
        return self.gamma / 2 * context.squared_gradient_norms(context.real).mean()


class R2(Regularizer):
    """R2: gamma/2 * E ||grad D(fake)||^2, R1's counterpart on generated images.

    Mescheder et al., 2018, https://arxiv.org/abs/1801.04406; R3GAN (Huang et al., 2024) needs both,
    https://arxiv.org/abs/2501.05441.

    Args:
        gamma: the constant; note the factor 1/2.
        every: see `Regularizer`.
    """

    def __init__(self, gamma: float = 10.0, every: int = 1) -> None:
        super().__init__(every=every)
        not_negative("model.regularizers.R2.", gamma=gamma)
        self.gamma = gamma

    def forward(self, context: PenaltyContext) -> Tensor:
        """The penalty of one batch."""
        return self.gamma / 2 * context.squared_gradient_norms(context.fake).mean()


class ZeroCentered(Regularizer):
    """0-GP: weight * E ||grad D(x)||^2 at x = u * real + (1 - u) * fake, u uniform for each pair.

    Thanh-Tung et al., 2019, https://arxiv.org/abs/1902.03984.

    Args:
        weight: lambda.
        every: see `Regularizer`.
    """

    def __init__(self, weight: float = 10.0, every: int = 1) -> None:
        super().__init__(weight, every)

    def forward(self, context: PenaltyContext) -> Tensor:
        """The penalty of one batch."""
        return self.weight * context.squared_gradient_norms(between(context)).mean()


def between(context: PenaltyContext) -> Tensor:
    """A point on the line between each real image and its fake, (B, C, H, W)."""
    u = context.random.uniform(len(context.real), *[1] * (context.real.ndim - 1))
    return u * context.real + (1 - u) * context.fake.detach()


def _distance_from_one(context: PenaltyContext, images: Tensor) -> Tensor:
    norms = (context.squared_gradient_norms(images) + EPSILON).sqrt()
    return (norms - 1).square()
