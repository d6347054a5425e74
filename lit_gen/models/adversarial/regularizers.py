"""Regularizers beyond gradient penalties: consistency, moving anchors, diversity, and the auxiliary classifier."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_gen.core.batches import Batches
from lit_gen.core.distributed import mean_over_ranks
from lit_gen.core.errors import UserError
from lit_gen.core.options import above, not_negative, within
from lit_gen.models.adversarial.augment import Augmentation, DiffAugment
from lit_gen.models.adversarial.context import PenaltyContext, Regularizer, call
from lit_gen.models.adversarial.losses import Logits

__all__ = ["AuxiliaryClassifier", "Consistency", "LeCam", "ModeSeeking"]


class Consistency(Regularizer):
    """bCR: weight * E (D(x) - D(T(x)))^2 on real images plus fake_weight * the same on generated ones.

    Zhao et al., 2020, https://arxiv.org/abs/2002.04724 (balanced consistency regularization). With the identity as T it
    is 0 for a deterministic discriminator (without dropout or spectral norm's power iteration).

    Args:
        transform: T, the augmentation that should not change the discriminator's output.
        weight: lambda of real images, 10 in the paper.
        fake_weight: lambda of generated images, 10 in the paper; 0 gives CR-GAN (https://arxiv.org/abs/1910.12027).
        every: see `Regularizer`.
    """

    def __init__(
        self,
        transform: Augmentation | None = None,
        weight: float = 10.0,
        fake_weight: float = 10.0,
        every: int = 1,
    ) -> None:
        super().__init__(weight, every)
        not_negative("model.regularizers.Consistency.", fake_weight=fake_weight)
        self.transform = transform if transform is not None else DiffAugment("translation")
        self.fake_weight = fake_weight

    def forward(self, context: PenaltyContext) -> Tensor:
        """The term of one batch."""
        total = self.weight * self._change(context, context.real)
        if self.fake_weight:
            total = total + self.fake_weight * self._change(context, context.fake)
        return total

    def _change(self, context: PenaltyContext, images: Tensor) -> Tensor:
        seen = context.augment(images)  # both as the discriminator sees them, by the same draw
        transformed: Tensor = self.transform(seen, context.random)
        return (context.logits(seen) - context.logits(transformed)).square().mean()


class LeCam(Regularizer):
    """LeCam: weight * (E (D(real) - a_fake)^2 + E (D(fake) - a_real)^2), anchors a being moving averages of the logits.

    Tseng et al., 2021, https://arxiv.org/abs/2104.03310, equation 5. The anchors are means over all ranks, saved with
    the model, and lag: a batch is compared with the anchors of the batches before. (The authors' code takes relu of
    both distances before squaring; the formula is the paper's.)

    Args:
        weight: lambda, 0.3 in the paper for BigGAN on CIFAR.
        decay: of the moving averages.
        start: updates before which the term is 0 and only the anchors move.
        every: see `Regularizer`.
    """

    anchors: Tensor

    def __init__(self, weight: float = 0.3, decay: float = 0.99, start: int = 0, every: int = 1) -> None:
        super().__init__(weight, every)
        within("[0, 1)", "model.regularizers.LeCam.", decay=decay)
        not_negative("model.regularizers.LeCam.", start=start)
        self.decay, self.start = decay, start
        self.register_buffer("anchors", torch.zeros(2))  # of real, of fake logits

    def forward(self, context: PenaltyContext) -> Tensor:
        """The term of one batch; moves the anchors."""
        assert context.real_logits is not None
        real, fake = context.real_logits.adversarial, context.fake_logits.adversarial
        anchor_real, anchor_fake = self.anchors.clone()
        distance: Tensor = (real - anchor_fake).square().mean() + (fake - anchor_real).square().mean()
        with torch.no_grad():
            means = mean_over_ranks(torch.stack([real.mean(), fake.mean()]))
            self.anchors.lerp_(means.to(self.anchors.dtype), 1 - self.decay)
        return self.weight * float(context.update >= self.start) * distance

    def meets(self, batches: Batches) -> str | None:
        """Say that each micro-batch moves the anchors."""
        return "LeCam's anchors per micro-batch" if batches.micro_batches > 1 else None


class ModeSeeking(Regularizer):
    """Diversity of the generator: weight * E 1 / (d(G(z), G(z')) / d(z, z') + epsilon), d the mean absolute difference.

    MSGAN, Mao et al., 2019, https://arxiv.org/abs/1903.05628. The ratio is taken for each pair of latents with the same
    label, so the term is a mean over samples.

    Args:
        weight: lambda, 1 in the paper.
        epsilon: makes the term finite for two equal images.
        every: see `Regularizer`.
    """

    network = "generator"

    def __init__(self, weight: float = 1.0, epsilon: float = 1e-2, every: int = 1) -> None:
        super().__init__(weight, every)
        above(0, "model.regularizers.ModeSeeking.", epsilon=epsilon)
        self.epsilon = epsilon

    def forward(self, context: PenaltyContext) -> Tensor:
        """The term of one batch; one more pass through the generator."""
        if context.latents is None or context.generator is None:
            raise UserError(
                "model.regularizers: ModeSeeking compares images of other latents, which this model does not have"
            )
        other = context.random.normal(*context.latents.shape)
        images = call(context.generator, other, context.labels)
        assert isinstance(images, Tensor)
        apart = (context.fake - images).abs().flatten(1).mean(1)
        latents_apart = (context.latents - other).abs().mean(1)
        return self.weight * (1 / (apart / latents_apart + self.epsilon)).mean()


class AuxiliaryClassifier(Regularizer):
    """AC-GAN: the discriminator classifies each image, and the generator makes images that are classified correctly.

    Odena et al., 2016, https://arxiv.org/abs/1610.09585: L_C = E -log P(c | real) + E -log P(c | fake) is added to both
    networks' losses (the real part is constant to the generator). It needs a discriminator that returns
    ``Logits(adversarial, classes)``.

    Args:
        weight: of the discriminator's term.
        generator_weight: of the generator's term.
        fakes: whether the discriminator learns from generated images too, as in the paper; false is the common
            modification that keeps bad samples from hurting the classifier.
        every: see `Regularizer`.
    """

    network: Literal["both"] = "both"

    def __init__(self, weight: float = 1.0, generator_weight: float = 1.0, fakes: bool = True, every: int = 1) -> None:
        super().__init__(weight, every)
        not_negative("model.regularizers.AuxiliaryClassifier.", generator_weight=generator_weight)
        self.generator_weight, self.fakes = generator_weight, fakes

    def forward(self, context: PenaltyContext) -> Tensor:
        """The cross-entropy of one batch, in nats."""
        of_fakes = _cross_entropy(context.fake_logits, context.labels)
        if context.network == "generator":
            return self.generator_weight * of_fakes
        assert context.real_logits is not None
        of_reals = _cross_entropy(context.real_logits, context.labels)
        return self.weight * (of_reals + of_fakes if self.fakes else of_reals)


def _cross_entropy(logits: Logits, labels: Tensor | None) -> Tensor:
    if logits.classes is None or labels is None:
        raise UserError(
            "model.regularizers.AuxiliaryClassifier: it needs a labelled data set and a discriminator that names "
            "classes, such as --model.discriminator.conditioning auxiliary"
        )
    return F.cross_entropy(logits.classes, labels)
