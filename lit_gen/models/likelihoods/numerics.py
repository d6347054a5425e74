"""Two small functions that keep logarithms of scales finite and exact."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """``x`` in float32 at least: sums and exponentials of half-precision numbers need the digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def soften(x: Tensor, low: float, high: float) -> Tensor:
    """``x`` itself within [low, high], and slowed to a logarithm beyond: high + log(1 + x - high), likewise below.

    For numbers that are exponentiated. A clamp has no gradient beyond its limits, so a value that got there stays; this
    function's derivative is continuous, 1 inside and 1 / (1 + distance) outside. 1e4 becomes high + 9.2.
    """
    if x.is_cpu and x.numel():  # where reading a value waits for nothing: the usual case costs one pass
        least, most = x.detach().aminmax()
        if low <= float(least) and float(most) <= high:
            return x
    limit = x.detach().clamp(low, high)  # the nearest number within them
    beyond = x - limit
    return torch.where(x == limit, x, limit + beyond.sign() * torch.log1p(beyond.abs()))
