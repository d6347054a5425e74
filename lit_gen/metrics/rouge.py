"""ROUGE-1, ROUGE-2 and ROUGE-L, as rouge_score (https://github.com/google-research/google-research, rouge) does."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from lit_gen.metrics.corpus import Counts, imported


class Rouge:
    """Means over texts of F-measures, in [0, 1]: of words, of pairs of words, of the longest common subsequence.

    Lin, 2004, https://aclanthology.org/W04-1013. By definition a mean over texts; of several references each text
    counts, for each of the three numbers, the one that gives the highest. Words are runs of the letters a to z and of
    digits, in lower case, not stemmed: text in other letters has none, and scores 0.

    ROUGE-Lsum is left out: it needs texts split into sentences, by a model that nltk downloads.

    Raises:
        UserError: for a missing rouge-score.
    """

    name, keys, packages = "rouge", ("rouge1", "rouge2", "rougeL"), ("rouge-score",)

    def __init__(self) -> None:
        library = imported("rouge_score.rouge_scorer", "rouge-score", "rouge")
        self._scorer = library.RougeScorer(list(self.keys), use_stemmer=False)

    def counts(self, text: str, references: Sequence[str]) -> Counts:
        """The three F-measures of a text, and 1 for the text: float64 (4,)."""
        found = self._scorer.score_multi(list(references), text)
        return np.array([*(found[key].fmeasure for key in self.keys), 1.0], dtype=np.float64)

    def score(self, counts: Counts) -> dict[str, float]:
        """``rouge1``, ``rouge2``, ``rougeL``."""
        return {key: float(value / counts[-1]) for key, value in zip(self.keys, counts, strict=False)}

    def record(self, counts: Counts, numbers: Collection[int]) -> dict[str, Any]:
        """What is taken of each text."""
        return {"of": "F-measure", "references": "maximum", "texts": "mean", "stemming": False, "words": "[a-z0-9]+"}
