"""Metrics of likelihoods: of text, and of images by importance weights."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.metrics.importance import ImportanceWeights, summarize
from lit_gen.metrics.torchmetrics.rows import Rows, scalar


class _Text(Rows):
    """Base of the metrics of text: exact sums of each window, so that batching changes no bit of a number.

    Args:
        **options: of `torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(self, **options: Any) -> None:
        super().__init__("windows", **options)

    def _add_windows(self, nats: Tensor, scored: Tensor | None, sizes: Tensor | None, indices: Tensor | None) -> None:
        """Keep nats and size of each window, as rows (b, 2): ``sizes``, or the number of tokens that count."""
        masks = torch.ones(nats.shape, dtype=torch.bool) if scored is None else scored.cpu()
        if nats.ndim != 2 or masks.shape != nats.shape:
            found = f"{tuple(nats.shape)} and {tuple(masks.shape)}"
            raise UserError(f"nats, scored: shapes {found} were found, (windows, tokens) is expected of both")
        sizes = masks.sum(1) if sizes is None else sizes
        if sizes.shape != nats.shape[:1]:
            raise UserError(f"text_bytes: shape {tuple(sizes.shape)} was found, {tuple(nats.shape[:1])} is expected")
        rows = zip(nats.detach().cpu().double(), masks, sizes.tolist(), strict=True)
        sums = np.array([(math.fsum(row[mask].tolist()), size) for row, mask, size in rows], dtype=np.float64)
        self.keep("windows", torch.from_numpy(sums.reshape(-1, 2)), indices)

    def _totals(self) -> tuple[float, float]:
        """Nats and size of all windows together."""
        nats, size = (math.fsum(column) for column in self.rows("windows").T.tolist())
        if not size:
            raise UserError(f"{type(self).__name__}: no token or byte was found, at least 1 is expected")
        return nats, size


class Perplexity(_Text):
    """exp of the mean nats per token, as `lit_gen.callbacks.evaluators.perplexity` computes it.

    Args:
        **options: of `torchmetrics.Metric`.
    """

    def update(self, nats: Tensor, scored: Tensor | None = None, indices: Tensor | None = None) -> None:
        """Add some windows of text.

        Args:
            nats: (b, T), each token's negative log-likelihood: cross-entropy with ``reduction="none"``.
            scored: bool (b, T), which tokens count; None for all.
            indices: int64 (b,), each window's place in the text, from 0.

        Raises:
            UserError: for tensors of another shape.
        """
        self._add_windows(nats, scored, None, indices)

    def compute(self) -> Tensor:
        """The perplexity, float64 on the CPU; infinite where float64 ends."""
        nats, count = self._totals()
        loss = nats / count
        return scalar(math.exp(loss) if loss < 709 else math.inf)


class BitsPerByte(_Text):
    """Bits of the text's tokens over the UTF-8 bytes of the text: compares models with different tokenizers.

    Args:
        **options: of `torchmetrics.Metric`.
    """

    def update(
        self, nats: Tensor, text_bytes: Tensor, scored: Tensor | None = None, indices: Tensor | None = None
    ) -> None:
        """Add some windows of text.

        Args:
            nats: (b, T), each token's negative log-likelihood.
            text_bytes: (b,), UTF-8 bytes of each window's tokens that count.
            scored: bool (b, T), which tokens count: those that are text, not ends of documents; None for all.
            indices: int64 (b,), each window's place in the text, from 0.

        Raises:
            UserError: for tensors of another shape.
        """
        self._add_windows(nats, scored, text_bytes, indices)

    def compute(self) -> Tensor:
        """Bits per byte, float64 on the CPU."""
        nats, size = self._totals()
        return scalar(nats / (math.log(2) * size))


class ImportanceWeightedNLL(Rows):
    """`lit_gen.metrics.importance.summarize` of -L_k, https://arxiv.org/abs/1509.00519.

    Args:
        **options: of `torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(self, **options: Any) -> None:
        super().__init__("images", **options)

    def update(self, log_weights: Tensor, indices: Tensor | None = None) -> None:
        """Add some images.

        Args:
            log_weights: (b, k), log p(x, z_i) - log q(z_i|x) in nats, of all k samples of each image.
            indices: int64 (b,), each image's place in its set, from 0.

        Raises:
            UserError: for a tensor of another shape.
        """
        weights = ImportanceWeights.of(log_weights.detach())
        self.keep("images", torch.stack([weights.bound, weights.effective_samples], dim=1), indices)

    def compute(self) -> dict[str, Tensor]:
        """``nll`` in nats per image, ``standard_error``, ``effective_samples``, ``least_effective_samples``."""
        bounds, sizes = self.rows("images").T.tolist()
        return {name: scalar(value) for name, value in summarize(bounds, sizes)._asdict().items()}
