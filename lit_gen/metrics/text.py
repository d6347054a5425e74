"""The metrics of written texts by name: BLEU, chrF, ROUGE, exact match. See `lit_gen.metrics.corpus`."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from lit_gen.core.errors import UserError
from lit_gen.core.options import expect, one_of
from lit_gen.metrics.corpus import CorpusMetric, Counts
from lit_gen.metrics.ngrams import Bleu, Chrf
from lit_gen.metrics.rouge import Rouge

KEYS = {"bleu": Bleu.keys, "chrf": Chrf.keys, "rouge": Rouge.keys, "exact": ("exact",)}
"""Names of metrics, and of the numbers of each."""


class Exact:
    """The share of texts, in [0, 1], that equal one of their references, apart from white space at both ends.

    Args:
        lowercase: whether case is disregarded.
    """

    name, packages = "exact", ()
    keys = KEYS["exact"]

    def __init__(self, lowercase: bool = False) -> None:
        self.lowercase = lowercase

    def counts(self, text: str, references: Sequence[str]) -> Counts:
        """1 if it equals one, and 1 for the text: float64 (2,)."""
        equal = self._normal(text) in [self._normal(reference) for reference in references]
        return np.array([equal, 1], dtype=np.float64)

    def score(self, counts: Counts) -> dict[str, float]:
        """``exact``."""
        return {"exact": float(counts[0] / counts[1])}

    def record(self, counts: Counts, numbers: Collection[int]) -> dict[str, Any]:
        """How texts are compared, and how many are equal."""
        return {"stripped": True, "lowercase": self.lowercase, "equal": int(counts[0])}

    def _normal(self, text: str) -> str:
        return text.strip().lower() if self.lowercase else text.strip()


def metrics_of(names: Sequence[str], bleu_tokenize: str = "13a", lowercase: bool = False) -> list[CorpusMetric]:
    """Metrics by name, in the order of `KEYS`; their packages are imported here.

    Args:
        names: some of bleu, chrf, rouge, exact.
        bleu_tokenize: one of `lit_gen.metrics.ngrams.TOKENIZERS`.
        lowercase: whether case is disregarded; ROUGE always does.

    Raises:
        UserError: for no name, an unknown one, an unknown tokenizer, or a missing package.
    """
    expect(bool(names), "metrics", list(names), f"some of {', '.join(KEYS)}")
    for name in names:
        one_of(KEYS, metrics=name)
    if bleu_tokenize != "13a" and "bleu" not in names:
        raise UserError(f"bleu_tokenize: {bleu_tokenize!r} was found, but bleu is not among the metrics")
    made: dict[str, Callable[[], CorpusMetric]] = {
        "bleu": lambda: Bleu(bleu_tokenize, lowercase),
        "chrf": lambda: Chrf(lowercase),
        "rouge": Rouge,
        "exact": lambda: Exact(lowercase),
    }
    return [make() for name, make in made.items() if name in names]
