"""The low-rank change of one layer's weight."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gen.training.adapters.change import Change

KINDS: dict[type[nn.Module], tuple[str, str]] = {
    nn.Linear: ("lora_A", "lora_B"),
    nn.Conv2d: ("lora_A", "lora_B"),
    nn.Embedding: ("lora_embedding_A", "lora_embedding_B"),
}
"""The layers that can be adapted, with peft's names of the two factors."""

MAGNITUDE = "lora_magnitude_vector"


class LowRank(Change):
    """The change of one layer's weight W (out, in): W + s B A, with A (r, in) and B (out, r).

    Hu et al., 2021, https://arxiv.org/abs/2106.09685. The factors have their own names and shapes of each kind of
    layer, which are peft's: of a convolution A (r, in, h, w) and B (out, r, 1, 1); of an embedding of n rows A (r, n)
    and B (dim, r), whose weight is (n, dim) and changes by s (B A)^T.

    With ``dora``, Liu et al., 2024, https://arxiv.org/abs/2402.09353: the changed weight's rows (an embedding's
    columns) get trained lengths m, ``m (W + s B A) / ||W + s B A||``; the norm counts as a constant in the gradient
    (their section 4.3).

    At the start the network computes what it did: B is zero and A is uniform as a linear layer's weight; of an
    embedding A is zero and B is normal. m is the norm of W.

    Args:
        layer: the layer; it is not kept.
        r: the rank.
        scaling: s.
        dropout: probability that an entry of the input is zero in training; unused by embeddings.
        dora: whether lengths are trained; a row of zeros then gives NaN, see `directed`.
    """

    def __init__(self, layer: nn.Module, r: int, scaling: float, dropout: float, dora: bool) -> None:
        super().__init__()
        self.scaling, self.dropout = scaling, dropout
        self.kind = next(kind for kind in KINDS if isinstance(layer, kind))
        weight: Tensor = layer.weight  # type: ignore[assignment]
        half = weight.dtype in (torch.float16, torch.bfloat16)  # small updates of a factor would be rounded away
        dtype = torch.float32 if half else weight.dtype
        self._fill(weight, r, dtype)
        self.register_parameter(MAGNITUDE, nn.Parameter(self._norm(weight).to(dtype)) if dora else None)

    def _fill(self, weight: Tensor, r: int, dtype: torch.dtype) -> None:
        """Make the factors, on the device of the layer's own weight."""
        shapes: dict[type[nn.Module], tuple[tuple[int, ...], tuple[int, ...]]] = {
            nn.Linear: ((r, weight.shape[1]), (weight.shape[0], r)),
            nn.Conv2d: ((r, *weight.shape[1:]), (weight.shape[0], r, *(1 for _ in weight.shape[2:]))),
            nn.Embedding: ((r, weight.shape[0]), (weight.shape[1], r)),
        }
        for name, shape in zip(KINDS[self.kind], shapes[self.kind], strict=True):
            self.register_parameter(name, nn.Parameter(torch.zeros(shape, dtype=dtype, device=weight.device)))
        if self.kind is nn.Embedding:
            nn.init.normal_(self.factors[1])
        else:
            nn.init.kaiming_uniform_(self.factors[0], a=5**0.5)

    @property
    def factors(self) -> tuple[Tensor, Tensor]:
        """A and B."""
        first, second = (getattr(self, name) for name in KINDS[self.kind])
        return first, second

    def forward(self, layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """See `Change`."""
        if self.unmerged is not None:
            return y
        a, b = self.factors
        active = self.training and self.dropout > 0 and self.kind is not nn.Embedding
        given = x if self.kind is nn.Embedding else x.to(a.dtype)
        given = F.dropout(given, self.dropout) if active else given
        change = (self._low(layer, given, a, b) * self.scaling).to(y.dtype)
        lengths = getattr(self, MAGNITUDE)
        if lengths is None:
            return y + change
        weight, bias = layer.weight.detach(), getattr(layer, "bias", None)  # type: ignore[operator]
        ratio = lengths / self._norm(weight.to(lengths.dtype) + self._delta())
        ratio = (ratio.view(-1, 1, 1) if self.kind is nn.Conv2d else ratio).to(y.dtype)  # also of one image alone
        if active:  # the layer's own part sees the dropped input too, as in peft
            own = self._own(layer, given.to(weight.dtype), weight)
        else:
            own = y if bias is None else y - (bias.view(-1, 1, 1) if self.kind is nn.Conv2d else bias)
        changed: Tensor = y + (ratio - 1) * own + ratio * change
        return changed

    @torch.no_grad()
    def measure(self, layer: nn.Module) -> None:
        """Set the lengths, if they are trained, to those of the layer's own weight."""
        lengths = getattr(self, MAGNITUDE)
        if lengths is not None:
            lengths.copy_(self._norm(layer.weight))  # type: ignore[arg-type]

    def merged(self, weight: Tensor) -> Tensor:
        """The changed weight, of the layer's own ``weight`` and of its shape, computed in float32 at least."""
        wide = weight.to(torch.promote_types(weight.dtype, torch.float32)) + self._delta()
        lengths = getattr(self, MAGNITUDE)
        if lengths is not None:
            ratio = lengths / self._norm(wide)
            wide = wide * (ratio if self.kind is nn.Embedding else ratio.view(-1, *(1 for _ in weight.shape[1:])))
        return wide.to(weight.dtype)

    def _delta(self) -> Tensor:
        """S B A, of the weight's shape."""
        a, b = self.factors
        product = self.scaling * (b.flatten(1) @ a.flatten(1))
        return product.T if self.kind is nn.Embedding else product.view(b.shape[0], *a.shape[1:])

    def _norm(self, weight: Tensor) -> Tensor:
        """Lengths of a weight's rows, of an embedding's columns; peft's shape: of a convolution (1, out, 1, 1)."""
        if self.kind is nn.Embedding:
            columns: Tensor = weight.detach().norm(dim=0)
            return columns
        norm: Tensor = weight.detach().flatten(1).norm(dim=1)
        return norm.view(1, -1, 1, 1) if self.kind is nn.Conv2d else norm

    def _low(self, layer: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """B A x, through the r numbers in between."""
        if self.kind is nn.Linear:
            return F.linear(F.linear(x, a), b)
        if self.kind is nn.Conv2d:
            return F.conv2d(layer._conv_forward(x, a, None), b)
        return F.linear(F.embedding(x, a.T, layer.padding_idx, scale_grad_by_freq=layer.scale_grad_by_freq), b)

    def _own(self, layer: Any, x: Tensor, weight: Tensor) -> Tensor:
        """The layer's output without its bias."""
        own: Tensor = F.linear(x, weight) if self.kind is nn.Linear else layer._conv_forward(x, weight, None)
        return own

    def extra_repr(self) -> str:
        """The rank and the scale."""
        return f"r={self.factors[1].shape[1]}, scaling={self.scaling:g}, dropout={self.dropout:g}"


def directed(layer: nn.Module) -> bool:
    """Whether each row of a layer's weight, each column of an embedding's, has a direction: is not all zeros."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return bool((weight.any(0) if isinstance(layer, nn.Embedding) else weight.flatten(1).any(1)).all())
