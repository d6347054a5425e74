"""Reconstruction terms: how far an output is from its target, a mean over the images of a batch.

A plain function ``(made, target) -> scalar`` is enough: ``reconstruction: [my_file.my_term]``. One with a weight or a
region subclasses `Reconstruction`. The log shows terms without their weights.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gen.core.blame import named, shown
from lit_gen.core.errors import UserError
from lit_gen.core.options import above, not_negative, one_of
from lit_gen.core.similarity import SIDE, structural_similarity

__all__ = ["L1", "L2", "SSIM", "Charbonnier", "FeatureDistance", "Reconstruction", "TotalVariation"]

Region = Literal["all", "holes", "known"]
Comparison = Callable[[Tensor, Tensor], Any]
"""A term without options: images made (B, C, H, W) and their targets to a scalar tensor.

(Any: the parser of the command line would otherwise refuse functions without annotations.)
"""
OPTION = "model.reconstruction."


class Reconstruction(nn.Module):
    """Base of the terms: implement ``forward(made, target, mask) -> scalar``, a mean over images.

    Args:
        weight: factor of the term in the generator's loss.

    Raises:
        UserError: for a negative weight.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        not_negative(f"{OPTION}{type(self).__name__}.", weight=weight)
        self.weight = weight

    @property
    def name(self) -> str:
        """What the log calls it: ``TotalVariation`` is ``total_variation``."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    def forward(self, made: Tensor, target: Tensor, mask: Tensor | None = None) -> Any:
        """The term.

        Args:
            made: float (B, C, H, W).
            target: float (B, C, H, W) in [-1, 1].
            mask: (B, 1, H, W), 1 where the source had a hole; None where the data have none.
        """
        raise NotImplementedError


class _Pixels(Reconstruction):
    """Base of the terms that are a mean over values of a function of the difference.

    Args:
        weight: factor of the term in the generator's loss.
        region: which pixels count, for data with masks: all, those in holes, or those that are known. The mean is then
            over these pixels of each image, and over images.
    """

    def __init__(self, weight: float = 1.0, region: Region = "all") -> None:
        super().__init__(weight)
        one_of(get_args(Region), f"{OPTION}{type(self).__name__}.", region=region)
        self.region = region

    def distance(self, difference: Tensor) -> Tensor:
        """The function, value by value."""
        raise NotImplementedError

    def forward(self, made: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """See `Reconstruction`.

        Raises:
            UserError: for a region of data without masks.
        """
        distances = self.distance(made - target)
        if self.region == "all":
            return distances.mean()
        if mask is None:
            raise UserError(f"{OPTION}{type(self).__name__}.region: {self.region} was found, but the data have no mask")
        counted = (mask if self.region == "holes" else 1 - mask).expand_as(distances)
        sums, counts = ((x * counted).flatten(1).sum(1) for x in (distances, torch.ones_like(distances)))
        return (sums / counts.clamp(min=1)).mean()


class L1(_Pixels):
    """The mean absolute difference |x - y|; its best guess is the conditional median."""

    def distance(self, difference: Tensor) -> Tensor:
        """See `L1`."""
        return difference.abs()


class L2(_Pixels):
    """The mean squared difference (x - y)^2; its best guess is the conditional mean, and the highest PSNR."""

    def distance(self, difference: Tensor) -> Tensor:
        """See `L2`."""
        return difference.square()


class Charbonnier(_Pixels):
    """A smooth L1: sqrt((x - y)^2 + epsilon^2).

    Lai et al., 2017, https://arxiv.org/abs/1704.03915; Charbonnier et al., 1994,
    https://doi.org/10.1109/ICIP.1994.413553.

    Args:
        weight: factor of the term in the generator's loss.
        region: see `L1`.
        epsilon: below it, the term is nearly quadratic.
    """

    def __init__(self, weight: float = 1.0, region: Region = "all", epsilon: float = 1e-3) -> None:
        super().__init__(weight, region)
        above(0, f"{OPTION}Charbonnier.", epsilon=epsilon)
        self.epsilon = epsilon

    def distance(self, difference: Tensor) -> Tensor:
        """See `Charbonnier`."""
        return (difference.square() + self.epsilon**2).sqrt()


class SSIM(Reconstruction):
    """1 - SSIM, the structural similarity; Wang et al., 2004, https://doi.org/10.1109/TIP.2003.819861.

    The mean over windows of 11 x 11 pixels within the image, over channels and images; see `lit_gen.core.similarity`.
    """

    @property
    def name(self) -> str:
        """Not that of the metric: this is 1 - SSIM."""
        return "ssim_loss"

    def forward(self, made: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """See `Reconstruction`.

        Raises:
            UserError: for images that are smaller than the window.
        """
        height, width = made.shape[2:]
        if min(height, width) < SIDE:
            raise UserError(f"{OPTION}SSIM: {height}x{width} pixels were found, its window has {SIDE}x{SIDE}")
        return 1 - structural_similarity(made.float(), target.float(), 2).mean()  # pixels in [-1, 1]


class TotalVariation(Reconstruction):
    """The mean absolute difference of neighbours, down and to the right, of the output only; it smooths.

    Rudin et al., 1992, https://doi.org/10.1016/0167-2789(92)90242-F, in its anisotropic form.
    """

    def forward(self, made: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """See `Reconstruction`."""
        vertical = (made[:, :, 1:] - made[:, :, :-1]).abs().flatten(1).sum(1)
        horizontal = (made[:, :, :, 1:] - made[:, :, :, :-1]).abs().flatten(1).sum(1)
        return ((vertical + horizontal) / made[0].numel()).mean()


class FeatureDistance(Reconstruction):
    """The distance of features of a fixed network: a perceptual loss.

    Johnson et al., 2016, https://arxiv.org/abs/1603.08155; Ledig et al., 2017, https://arxiv.org/abs/1609.04802.

    Args:
        extractor: images (B, C, H, W) in [-1, 1] to a tensor of features, or a tuple or list of tensors whose distances
            are added; or a classifier of `lit_gen.evaluation.extractors.lenet`. It is frozen, in evaluation mode, and
            part of the checkpoint.
        weight: factor of the term in the generator's loss.
        squared: squared differences; else absolute ones.
    """

    def __init__(self, extractor: nn.Module, weight: float = 1.0, squared: bool = True) -> None:
        super().__init__(weight)
        self.extractor, self.squared = extractor.eval().requires_grad_(False), squared

    def train(self, mode: bool = True) -> Self:
        """The extractor stays in evaluation mode."""
        super().train(mode)
        self.extractor.eval()
        return self

    def forward(self, made: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """See `Reconstruction`."""
        with torch.no_grad():
            expected = self._features(target)
        pairs = zip(self._features(made), expected, strict=True)
        compare = F.mse_loss if self.squared else F.l1_loss
        return torch.stack([compare(a.float(), b.float()) for a, b in pairs]).sum()

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        classify = getattr(self.extractor, "classify", None)
        found: Any = self.extractor(images) if classify is None else classify(images).features
        features = [found] if isinstance(found, Tensor) else found
        if not isinstance(features, list | tuple) or not all(isinstance(x, Tensor) for x in features):
            expected = "a tensor of features, or several, are expected"
            raise UserError(f"{OPTION}FeatureDistance: {named(self.extractor)} returned {shown(found)}, {expected}")
        return features
