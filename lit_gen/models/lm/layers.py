"""The parts of a transformer's blocks: RMS norm, rotary positions, ALiBi's slopes, the MLP.

Rotations and slopes are computed where they are used: a buffer could be cast to a lower precision, or left empty when a
network is built on the meta device.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["gelu_tanh", "gelu", "swiglu", "relu2"]


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x^2) + eps) * weight, in float32 under any precision.

    Zhang and Sennrich, 2019, https://arxiv.org/abs/1910.07467.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last dimension of x."""
        return F.rms_norm(x.float(), self.normalized_shape, self.weight.float(), self.eps).type_as(x)


def dropped(drop: nn.Dropout, x: Tensor) -> Tensor:
    """``drop(x)``, without the call where it changes nothing: a text written token by token is mostly such calls."""
    return drop(x) if drop.training else x


def plain_inference(device: torch.device) -> bool:
    """Whether a forward pass on this device has neither gradients nor autocast."""
    mixed = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return not (torch.is_grad_enabled() or mixed)


def turns(positions: Tensor, head_dim: int, base: float) -> Tensor:
    """What `rotate` needs: cosines and sines of the angles ``position * base**(-2i/D)``, the same in every layer.

    Args:
        positions: int64 (B, T) or (1, T).
        head_dim: D.
        base: the slowest coordinate's wavelength is nearly 2 pi times this.

    Returns:
        float32 (2, B or 1, 1, T, D/2).
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions[:, None, :, None] * base**-exponents
    return torch.stack((angles.cos(), angles.sin()))


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Rotary positions (Su et al., 2021, https://arxiv.org/abs/2104.09864), in Llama's half-split order.

    Coordinates (i, i + D/2) of each head turn together, by an angle that grows with the position.

    Args:
        x: queries or keys (B, H, T, D).
        turn: as of `turns`.
    """
    cos, sin = turn.unbind()
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).type_as(x)


def alibi_slopes(n_head: int, device: torch.device | None = None) -> Tensor:
    """The slope of each head's linear bias (Press et al., 2021, https://arxiv.org/abs/2108.12409): float (n_head,).

    A geometric sequence from 2^(-8/n) to 2^-8. If n is not a power of two: that of the power below, then every other
    slope of the power above, as in the authors' code.
    """
    power = 1 << (n_head.bit_length() - 1)
    below = torch.arange(1, power + 1, device=device) / power
    above = (torch.arange(n_head - power, device=device) + 0.5) / power
    return torch.exp2(-8 * torch.cat((below, above)))


class MLP(nn.Module):
    """Two linear layers around an activation, or three if it is gated."""

    def __init__(self, n_embd: int, hidden: int, activation: Activation, bias: bool) -> None:
        super().__init__()
        self.activation = activation
        self.up = nn.Linear(n_embd, hidden, bias=bias)
        self.gate = nn.Linear(n_embd, hidden, bias=bias) if activation == "swiglu" else None
        self.down = nn.Linear(hidden, n_embd, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_embd) to the same."""
        h = self.up(x)  # (..., hidden)
        if self.gate is not None:
            h = F.silu(self.gate(x)) * h
        elif self.activation == "relu2":
            h = F.relu(h).square()
        else:
            h = F.gelu(h, approximate="tanh" if self.activation == "gelu_tanh" else "none")
        out: Tensor = self.down(h)
        return out
