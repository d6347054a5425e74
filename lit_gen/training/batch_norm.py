"""Batch norm over the batches of all ranks."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lit_gen.core.distributed import mean_over_ranks, stack_over_ranks, world_size

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
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # statistics of half-precision maps need the digits
        weight = wide.new_ones(wide.shape[1]) if self.weight is None else self.weight.to(wide.dtype)
        bias = None if self.bias is None else self.bias.to(wide.dtype)
        out, mean, variance = _Normalized.apply(wide, weight, bias, self.eps)
        if self.running_mean is not None:
            self._track(mean, variance, x.numel() // x.shape[1] * world_size())
        normalized: Tensor = out.to(x.dtype)
        return normalized

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


class _Normalized(torch.autograd.Function):
    """Weight * (x - mean) / sqrt(variance + eps) + bias, with mean and variance over batch, positions and ranks.

    With h = (x - mean) / sqrt(variance + eps) and M the mean over batch, positions and ranks, the gradient is
    dx = weight / sqrt(variance + eps) * (dy - M(dy) - h M(dy h)).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        axes, shape = _layout(x)
        local = x.mean(axes)
        means, variances = stack_over_ranks(torch.stack([local, (x - local.view(shape)).square().mean(axes)])).unbind(1)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps, ctx.has_bias = eps, bias is not None
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        x, weight, mean, variance = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the gradient will be differentiated in its turn
            dx, dweight, dbias = _gradients(x, weight, dy, ctx.eps)
            return dx, dweight, dbias if ctx.has_bias else None, None
        # what the gradient would be with constant mean and variance; then their part of it, A x + B
        dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        of_dyh, of_dy = mean_over_ranks(torch.stack([dweight, dbias])) * (x.shape[1] / x.numel())
        slope = weight * torch.rsqrt(variance + ctx.eps)
        a = -slope * torch.rsqrt(variance + ctx.eps) * of_dyh
        shape = _layout(x)[1]
        dx += torch.addcmul((-slope * of_dy - a * mean).view(shape), x, a.view(shape))
        return dx, dweight, dbias if ctx.has_bias else None, None


def _gradients(x: Tensor, weight: Tensor, dy: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Those of x, weight and bias, in operations that have a gradient."""
    axes, shape = _layout(x)

    def mean_of(values: Tensor) -> Tensor:
        return mean_over_ranks(values.mean(axes)).view(shape)

    deviation = x - mean_of(x)
    scale = torch.rsqrt(mean_of(deviation.square()) + eps)
    h, inner = deviation * scale, dy * weight.view(shape)
    dx = scale * (inner - mean_of(inner) - h * mean_of(inner * h))
    return dx, (dy * h).sum(axes), dy.sum(axes)


def _layout(x: Tensor) -> tuple[list[int], tuple[int, ...]]:
    """The axes that are averaged, and the shape of a number for each channel."""
    return [0, *range(2, x.ndim)], (1, -1, *(1,) * (x.ndim - 2))


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
