"""AdaLoRA's change of one layer: low-rank, in the form of a singular value decomposition, and its rank shrinks."""

import torch
from torch import Tensor, nn

from lit_gen.training.adapters.low_rank import LowRank

FACTORS = ("lora_A", "lora_E", "lora_B")
"""peft's names of A, of the diagonal E, and of B."""


class Triplets(LowRank):
    """The change W + s B diag(E) A of one layer, with A (r, in), E (r, 1), B (out, r); a convolution's in is in h w.

    Zhang et al., 2023, https://arxiv.org/abs/2303.10512, section 3.1. A row of A, its number in E and its column of B
    are a triplet. A and B are normal with standard deviation 0.02 at first and E is zero, so that nothing is changed;
    A and B have no gradient of the loss then. Names, shapes, first weights and s are peft's.

    Args:
        layer: linear or a convolution; it is not kept.
        r: the number of triplets.
        alpha: s is ``alpha / (r + 1e-5)``, whatever is dropped later.
        dropout: see `LowRank`.

    Attributes:
        kept: bool (r,): which triplets the last allocation kept; a buffer, as are the averages that it ranks by.
        steps: int64: the number of steps of the fit by which its budget shrinks; 0 before one.
    """

    kept: Tensor
    steps: Tensor
    lora_A: nn.Parameter
    lora_B: nn.Parameter
    lora_E: nn.Parameter

    def __init__(self, layer: nn.Module, r: int, alpha: float, dropout: float) -> None:
        super().__init__(layer, r, alpha / (r + 1e-5), dropout, dora=False)
        weight: Tensor = layer.weight  # type: ignore[assignment]
        self.width = tuple(weight.shape[1:])

    def _fill(self, weight: Tensor, r: int, dtype: torch.dtype) -> None:
        shapes = ((r, weight[0].numel()), (r, 1), (weight.shape[0], r))
        for name, shape in zip(FACTORS, shapes, strict=True):
            factor = torch.zeros(shape, dtype=dtype, device=weight.device)
            self.register_parameter(name, nn.Parameter(factor))
            for kind in ("sensitivity", "uncertainty"):
                self.register_buffer(f"{kind}_{name[-1]}", torch.zeros_like(factor))
        for name in ("lora_A", "lora_B"):
            nn.init.normal_(getattr(self, name), std=0.02)
        self.register_buffer("kept", torch.ones(r, dtype=torch.bool, device=weight.device))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64, device=weight.device))

    @property
    def rank(self) -> int:
        """How many triplets there are, dropped ones included."""
        return len(self.kept)

    @property
    def factors(self) -> tuple[Tensor, Tensor]:
        """diag(E) A and B, in the shapes of `LowRank`."""
        a, e, b = (getattr(self, name) for name in FACTORS)
        return (a * e).view(-1, *self.width), b.view(*b.shape, *(1 for _ in self.width[1:]))

    def correlations(self) -> Tensor:
        """``||A A^T - I||`` + ``||B^T B - I||`` (Frobenius): 0 if rows of A and columns of B are orthonormal."""
        grams = (self.lora_A @ self.lora_A.T, self.lora_B.T @ self.lora_B)
        norms = [torch.linalg.norm(gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)) for gram in grams]
        return torch.stack(norms).sum()

    @torch.no_grad()
    def observe(self, beta1: float, beta2: float) -> None:
        """Average each weight's sensitivity ``|w dL/dw|`` and its deviation from that average (equations 8 to 10).

        Args:
            beta1: of the average of the sensitivity.
            beta2: of the average of the deviation, the uncertainty.
        """
        for name in FACTORS:
            weight = getattr(self, name)
            if weight.grad is None:
                continue
            # a step of half precision that was left out has infinite gradients
            now = (weight * weight.grad).abs().nan_to_num(0, 0, 0)
            sensitivity, uncertainty = (getattr(self, f"{kind}_{name[-1]}") for kind in ("sensitivity", "uncertainty"))
            sensitivity.copy_(beta1 * sensitivity + (1 - beta1) * now)
            uncertainty.copy_(beta2 * uncertainty + (1 - beta2) * (now - sensitivity).abs())

    def importance(self) -> Tensor:
        """Of each triplet, (r,): sensitivity times uncertainty of its E, and their means over its row and column.

        Equation 7, with the sums of peft.
        """
        of: dict[str, Tensor] = {
            name: getattr(self, f"sensitivity_{name}") * getattr(self, f"uncertainty_{name}") for name in "AEB"
        }
        return of["E"].flatten() + (of["A"].mean(1) + of["B"].mean(0))

    @torch.no_grad()
    def drop(self) -> None:
        """Set E of the triplets that are not kept to zero."""
        self.lora_E.masked_fill_(~self.kept[:, None], 0.0)
