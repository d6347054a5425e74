"""Batch norm over the batches of all ranks."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lit_gen.core.distributed import mean_over_ranks, world_size

SYNCHRONIZED = (nn.BatchNorm1d, nn.BatchNorm2d)
"""What `synchronize` replaces."""


class SynchronizedBatchNorm(_BatchNorm):
    """Batch norm over the batches of all ranks, (B, C, ...), with gradients of any order and on any device.

    Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167. torch's own synchronized batch norm runs only on GPUs
    and has no second derivative, which gradient penalties need. Every rank has the same number of samples.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # one class for vectors and maps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...); in training by the mean and variance over all ranks, else by the running ones."""
        if not self.training:  # not a collective: ranks evaluate unequal numbers of batches
            return super().forward(x)
        axes, shape = [0, *range(2, x.ndim)], (1, -1, *(1,) * (x.ndim - 2))
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # statistics of half-precision maps need the digits
        mean = mean_over_ranks(wide.mean(axes))
        deviation = wide - mean.view(shape)
        variance = mean_over_ranks(deviation.square().mean(axes))
        if self.running_mean is not None:
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
        unbiased = variance * (count / max(count - 1, 1))
        for running, found in ((self.running_mean, mean), (self.running_var, unbiased)):
            # without momentum a mean over all batches so far, whose number no step reads: it would wait for the device
            share = 1 / self.num_batches_tracked.to(running.dtype) if self.momentum is None else self.momentum
            running.lerp_(found.to(running.dtype), share)


def synchronize(network: nn.Module) -> None:
    """Replace every batch norm of torch's inside ``network`` by one over all ranks, with its parameters and buffers.

    A subclass of them has its own ``forward`` and stays as it is.
    """
    for name, child in list(network.named_children()):
        if not (isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d) and type(child) in SYNCHRONIZED):
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
