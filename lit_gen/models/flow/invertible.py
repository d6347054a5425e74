"""The layers of Glow: each maps h (B, C, H, W) to the same shape, with its log-determinant, and back.

Kingma and Dhariwal, 2018, https://arxiv.org/abs/1807.03039. Where a layer has a scale, it standardizes: data have a
``shift`` and a ``log_scale``, and the latent is (h - shift) / exp(log_scale).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gen.core.distributed import mean_over_ranks
from lit_gen.core.errors import UserError
from lit_gen.models.nn.conditioning import needed

LEAST_DEVIATION = 1e-6
"""A channel of the first batch that varies less is refused: ActNorm would divide by nothing but rounding."""
LIMIT = 2.0
"""Of a coupling's log scale, in both directions: one coupling stretches or shrinks no more than 7.4 times."""


def squeeze(h: Tensor) -> Tensor:
    """Space to depth: (B, C, H, W) to (B, 4 C, H / 2, W / 2).

    The channels of one pixel stay together: channel (2 y + x) C + c is channel c of pixel (y, x) of its square of four.
    So a half of the channels is whole pixels, in colour too.
    """
    b, c, height, width = h.shape
    squares = h.reshape(b, c, height // 2, 2, width // 2, 2)
    return squares.permute(0, 3, 5, 1, 2, 4).reshape(b, 4 * c, height // 2, width // 2)


def unsqueeze(h: Tensor) -> Tensor:
    """The inverse of `squeeze`."""
    b, c, height, width = h.shape
    squares = h.reshape(b, 2, 2, c // 4, height, width)
    return squares.permute(0, 3, 4, 1, 5, 2).reshape(b, c // 4, 2 * height, 2 * width)


class ActNorm(nn.Module):
    """Per channel (h - shift) / exp(log_scale); mean 0 and variance 1 of the first batch, learned from there on.

    Attributes:
        initialized: whether it has seen the first batch, and was saved so; before, it is the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift, self.log_scale = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))
        self.initialized: Tensor
        self.register_buffer("initialized", torch.tensor(False))

    @torch.no_grad()
    def initialize(self, h: Tensor) -> None:
        """Set shift and scale to the mean and the (population) deviation of h (B, C, H, W), B equal on all ranks.

        Nothing changes if it was initialized before.

        Raises:
            UserError: if a channel is constant, so that there is no scale; on every rank.
        """
        if self.initialized:
            return
        mean = mean_over_ranks(h.mean((0, 2, 3)))
        deviation = mean_over_ranks((h - mean[:, None, None]).square().mean((0, 2, 3))).sqrt()
        for channel, found in enumerate(deviation.tolist()):
            if not LEAST_DEVIATION < found < float("inf"):
                raise UserError(
                    f"model.transform: channel {channel} of the first batch has the standard deviation {found:.3g}, "
                    f"but ActNorm divides by it: a finite number above {LEAST_DEVIATION:g} is expected; "
                    f"dequantize the data, or enlarge data.batch_size if it is 1"
                )
        self.shift.copy_(mean)
        self.log_scale.copy_(deviation.log())
        self.initialized.fill_(True)

    def forward(self, h: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Standardized h, and the log-determinant, the same for all, ()."""
        shift, log_scale = self.shift[:, None, None], self.log_scale[:, None, None]
        return (h - shift) * (-log_scale).exp(), -h[0, 0].numel() * self.log_scale.sum()

    def inverse(self, h: Tensor, labels: Tensor | None = None) -> Tensor:
        """The inverse of `forward`."""
        return h * self.log_scale[:, None, None].exp() + self.shift[:, None, None]


class Convolution(nn.Module):
    """Invertible 1x1 convolution: each pixel's channels times W = P L (U + diag(sign exp(log_scale))).

    W begins as a random orthogonal matrix; P and the signs stay. Its log-determinant is the sum of ``log_scale``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        start = nn.init.orthogonal_(torch.empty(channels, channels))
        permutation, lower, upper = torch.linalg.lu(start)
        self.permutation: Tensor
        self.sign: Tensor
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", upper.diagonal().sign())
        self.lower, self.upper = nn.Parameter(lower.tril(-1)), nn.Parameter(upper.triu(1))
        self.log_scale = nn.Parameter(upper.diagonal().abs().log())

    def triangles(self) -> tuple[Tensor, Tensor]:
        """L, with ones on its diagonal, and U with its own: (C, C) each."""
        lower = self.lower.tril(-1) + torch.eye(len(self.lower), dtype=self.lower.dtype, device=self.lower.device)
        return lower, self.upper.triu(1) + (self.sign * self.log_scale.exp()).diag()

    def forward(self, h: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The product, and the log-determinant, ()."""
        lower, upper = self.triangles()
        # a matrix product: a convolution would run in TF32 on a GPU, and not be inverted exactly
        out = (self.permutation @ lower @ upper) @ h.flatten(2)
        return out.view_as(h), h[0, 0].numel() * self.log_scale.sum()

    def inverse(self, h: Tensor, labels: Tensor | None = None) -> Tensor:
        """The inverse of `forward`, by two triangular systems."""
        lower, upper = self.triangles()
        columns: Tensor = self.permutation.T @ h.transpose(0, 1).flatten(1)
        columns = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        columns = torch.linalg.solve_triangular(upper, columns, upper=True)
        return columns.view(h.shape[1], len(h), *h.shape[2:]).transpose(0, 1)


class Coupling(nn.Module):
    """Affine coupling: the second half of the channels is standardized by what a network makes of the first half.

    The network is 3x3, 1x1 and 3x3 convolutions with ReLU. Its last layer begins at zero, and the coupling with it as
    the identity. The log scale is 2 tanh(r / 2) of the network's output r (`LIMIT`).

    Args:
        channels: of h; of an odd number, the first half has one more.
        width: hidden channels of the network.
        num_classes: None, or classes of labels, of which each has a learned vector added to the first hidden channels.
    """

    def __init__(self, channels: int, width: int, num_classes: int | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels - channels // 2, width, 3, padding=1)
        self.classes = nn.Embedding(num_classes, width) if num_classes else None
        self.second = nn.Conv2d(width, width, 1)
        self.last = nn.Conv2d(width, 2 * (channels // 2), 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def given(self, half: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Shift and log scale of the second half, given the first."""
        hidden = self.first(half)
        if self.classes is not None:
            hidden = hidden + self.classes(needed(labels, self))[:, :, None, None]
        shift, raw = self.last(F.relu(self.second(F.relu(hidden)))).chunk(2, 1)
        return shift, LIMIT * torch.tanh(raw / LIMIT)

    def forward(self, h: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The first half as it is, the second standardized, and the log-determinants (B,)."""
        half, other = h.chunk(2, 1)
        shift, log_scale = self.given(half, labels)
        return torch.cat([half, (other - shift) * (-log_scale).exp()], 1), -log_scale.flatten(1).sum(1)

    def inverse(self, h: Tensor, labels: Tensor | None = None) -> Tensor:
        """The inverse of `forward`."""
        half, other = h.chunk(2, 1)
        shift, log_scale = self.given(half, labels)
        return torch.cat([half, other * log_scale.exp() + shift], 1)
