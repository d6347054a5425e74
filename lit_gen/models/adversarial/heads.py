"""The last layers of discriminators: labels and minibatch deviation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gen.core.batches import Batches
from lit_gen.models.adversarial.losses import Logits
from lit_gen.models.nn.conditioning import needed


class LabelHead(nn.Module):
    """The conditional part of a discriminator's output, from its last features (B, F).

    ``projection`` adds <embedding(y), features> to the logit (Miyato and Koyama, 2018,
    https://arxiv.org/abs/1802.05637). ``auxiliary`` leaves the logit unchanged and also classifies the image: `Logits`
    (Odena et al., 2017, https://arxiv.org/abs/1610.09585); it does not use the labels.

    Args:
        conditioning: "projection" or "auxiliary"; anything else adds nothing.
        features: F.
        num_classes: K; None if unconditional.
    """

    def __init__(self, conditioning: str, features: int, num_classes: int | None) -> None:
        super().__init__()
        self.embedding = self.classifier = None
        if num_classes is not None and conditioning == "projection":
            self.embedding = nn.Embedding(num_classes, features)
            nn.init.xavier_uniform_(self.embedding.weight)
        elif num_classes is not None and conditioning == "auxiliary":
            self.classifier = nn.Linear(features, num_classes)
            nn.init.xavier_uniform_(self.classifier.weight)
            nn.init.zeros_(self.classifier.bias)

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor | None) -> Tensor | Logits:
        """Logits (B,), features (B, F) and labels (B,) to logits (B,) or `Logits` with classes (B, K)."""
        if self.embedding is not None:
            logits = logits + (self.embedding(needed(labels, self)) * features).sum(1)
        return logits if self.classifier is None else Logits(logits, self.classifier(features))


class MinibatchStd(nn.Module):
    """Append one map: the standard deviation over a group of samples, averaged over maps and pixels.

    Karras et al., 2018, section 3, https://arxiv.org/abs/1710.10196. A group is ``group`` consecutive rows, so
    dividing a batch among ranks changes nothing if each part is a multiple of it; for another batch it is the
    largest divisor up to ``group``. A group of one has no deviation: zeros.

    Args:
        group: samples in a group, at least 1.
    """

    def __init__(self, group: int = 4) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to maps (B, C + 1, H, W)."""
        group = self._group_of(len(x))
        if group == 1:
            return F.pad(x, (0, 0, 0, 0, 0, 1))
        groups = x.unflatten(0, (-1, group))  # (B / g, g, C, H, W)
        variance = (groups - groups.mean(1, keepdim=True)).square().mean(1)
        deviation = (variance + 1e-8).sqrt().mean([1, 2, 3])  # inside the root: finite gradients if the rows are equal
        spread = deviation.repeat_interleave(group).view(-1, 1, 1, 1)
        return torch.cat([x, spread.expand(-1, 1, *x.shape[2:])], 1)

    def meets(self, batches: Batches) -> str | None:
        """Say if the groups of a part are not those of the whole batch."""
        return "minibatch deviation" if self._group_of(batches.rows) != self._group_of(batches.size) else None

    def _group_of(self, rows: int) -> int:
        return max(d for d in range(1, self.group + 1) if rows % d == 0)
