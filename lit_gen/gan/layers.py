"""Parts that the networks share: conditional and synchronized batch norm, minibatch deviation, spectral norm, labels.

A conditional network keeps ``num_classes``, an unconditional one has None there, whatever it was given.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrizations

from lit_gen.errors import UserError, nearest
from lit_gen.gan.losses import Logits
from lit_gen.parallel import mean_over_ranks, world_size

# ---- what a constructor checks


def doublings(network: str, shape: Sequence[int], width: int, sizes: Mapping[int, int]) -> int:
    """How often the resolution doubles between the innermost maps and the image.

    Args:
        network: the family's name, for the message.
        shape: image shape (C, H, W).
        width: the network's width.
        sizes: image side to doublings.

    Raises:
        UserError: for a width below 1 or a shape whose sides are not one of ``sizes``.
    """
    if width < 1:
        raise UserError(f"{network}: width {width} was found, a whole number of at least 1 is expected")
    _, height, breadth = shape
    if height != breadth or height not in sizes:
        raise UserError(
            f"{network}: images of {height}x{breadth} were found, but sizes {', '.join(map(str, sizes))} (square) are "
            f"expected; data.resize sets the shorter side and data.crop cuts a square, or choose another network"
        )
    return sizes[height]


def classes_of(network: str, conditioning: str, known: Sequence[str], num_classes: int | None) -> int | None:
    """The number of classes that a network keeps: ``num_classes`` where it is conditional, else None.

    Raises:
        UserError: for an unknown ``conditioning``, or one that needs labels where the data has none.
    """
    if conditioning not in known:
        raise UserError(
            f"{network}.conditioning: {conditioning!r} was found, one of {', '.join(known)} is expected"
            f"{nearest(str(conditioning), known)}"
        )
    if conditioning == "none":
        return None
    if num_classes is None:
        raise UserError(f"{network}.conditioning: {conditioning!r} needs num_classes, but the data set has no labels")
    return num_classes


def needed(labels: Tensor | None, network: nn.Module) -> Tensor:
    """``labels``, which a conditional network cannot do without.

    Raises:
        UserError: if they are None.
    """
    if labels is None:
        of = type(network)
        raise UserError(f"{of.__module__}.{of.__name__}: a conditional network was called without labels")
    return labels


# ---- labels


def append_one_hot(x: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Append labels (B,) as one-hot features: vectors (B, D) to (B, D + K), maps (B, C, H, W) to (B, C + K, H, W).

    Mirza and Osindero, 2014, https://arxiv.org/abs/1411.1784; on maps each one-hot value fills a constant map.
    """
    hot = F.one_hot(labels, num_classes).to(x.dtype)
    return torch.cat([x, hot.reshape(*hot.shape, *(1,) * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])], 1)


class LabelHead(nn.Module):
    """What a discriminator makes of its last features (B, F) beside its linear logit, where it is conditional.

    ``projection`` adds <embedding(y), features> to the logit (Miyato and Koyama, 2018,
    https://arxiv.org/abs/1802.05637). ``auxiliary`` leaves it alone and classifies the image as well: `Logits` (Odena
    et al., 2017, https://arxiv.org/abs/1610.09585); it does not look at the labels.

    Args:
        conditioning: "projection" or "auxiliary"; anything else adds nothing.
        features: F.
        num_classes: K; None where unconditional.
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


# ---- normalisation


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm whose gain and bias depend on the class.

    Dumoulin et al., 2017, https://arxiv.org/abs/1610.07629; de Vries et al., 2017, https://arxiv.org/abs/1707.00683; in
    GANs Miyato and Koyama, 2018, https://arxiv.org/abs/1802.05637.
    """

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(features, affine=False)
        self.gain, self.bias = nn.Embedding(num_classes, features), nn.Embedding(num_classes, features)
        nn.init.ones_(self.gain.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Maps (B, C, H, W) and labels (B,) to maps (B, C, H, W)."""
        out: Tensor = self.gain(labels)[:, :, None, None] * self.norm(x) + self.bias(labels)[:, :, None, None]
        return out


class SynchronizedBatchNorm(_BatchNorm):
    """Batch norm over the batches of all ranks, (B, C, ...), with gradients of any order and on any device.

    Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167. torch's own synchronized batch norm runs on GPUs alone
    and has no second derivative, which gradient penalties need. Every rank brings equally many samples.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # one class for vectors and maps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...); in training by the mean and variance over all ranks, else by the running ones."""
        if not self.training and self.running_mean is not None:
            return super().forward(x)
        axes, shape = [0, *range(2, x.ndim)], (1, -1, *(1,) * (x.ndim - 2))
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # statistics of half-precision maps need the digits
        mean = mean_over_ranks(wide.mean(axes))
        deviation = wide - mean.view(shape)
        variance = mean_over_ranks(deviation.square().mean(axes))
        if self.training and self.running_mean is not None:
            self._track(mean.detach(), variance.detach(), x.numel() // x.shape[1] * world_size())
        out = deviation * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        unbiased = variance * (count / max(count - 1, 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)


def synchronize(network: nn.Module) -> None:
    """Let every batch norm inside ``network`` see all ranks: replaced in place, with its own parameters and buffers."""
    for name, child in list(network.named_children()):
        if not isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            synchronize(child)
            continue
        norm = SynchronizedBatchNorm(
            child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
        )
        norm._parameters, norm._buffers = child._parameters, child._buffers  # the optimizer may hold them already
        setattr(network, name, norm.train(child.training))


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a sample's output depends on the rest of its batch through batch norm, synchronized or not."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def apply_spectral_norm(network: nn.Module) -> None:
    """Divide every convolution's, linear layer's and embedding's weight by its largest singular value.

    Miyato et al., 2018, https://arxiv.org/abs/1802.05957. One power iteration for each forward pass in training mode,
    none in evaluation. To be called last in a constructor: initialisation must reach the weights themselves. The gains
    of conditional batch norm are left alone: they are scales, which start at 1.
    """
    for child in network.children():
        if isinstance(child, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding):
            parametrizations.spectral_norm(child)
        elif not isinstance(child, ConditionalBatchNorm2d):
            apply_spectral_norm(child)


class MinibatchStd(nn.Module):
    """Append one map: the standard deviation over a group of samples, averaged over maps and pixels.

    Karras et al., 2018, section 3, https://arxiv.org/abs/1710.10196. A group is ``group`` consecutive rows, so that
    spreading a batch over ranks changes nothing while each part is a multiple of it; of a batch that is not, the
    largest divisor up to ``group``. A group of one has no deviation: zeros.

    Args:
        group: samples in a group, at least 1.
    """

    def __init__(self, group: int = 4) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to maps (B, C + 1, H, W)."""
        group = max(d for d in range(1, self.group + 1) if len(x) % d == 0)
        if group == 1:
            return F.pad(x, (0, 0, 0, 0, 0, 1))
        groups = x.unflatten(0, (-1, group))  # (B / g, g, C, H, W)
        variance = (groups - groups.mean(1, keepdim=True)).square().mean(1)
        deviation = (variance + 1e-8).sqrt().mean([1, 2, 3])  # inside the root: finite gradients where nothing varies
        spread = deviation.repeat_interleave(group).view(-1, 1, 1, 1)
        return torch.cat([x, spread.expand(-1, 1, *x.shape[2:])], 1)
