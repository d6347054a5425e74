"""BLEU and chrF of a corpus, as sacrebleu (https://github.com/mjpost/sacrebleu) computes and signs them.

Post, 2018, https://aclanthology.org/W18-6319: the same name stands for numbers that differ by the tokenizer and the
smoothing; a signature says which one it is.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from lit_gen.core.options import one_of
from lit_gen.metrics.corpus import Counts, imported

TOKENIZERS = ("13a", "intl", "zh", "char", "none")
"""Those of sacrebleu that need neither a download nor another package."""
ORDER = 4  # the longest n-gram of BLEU


class Bleu:
    """Corpus BLEU, in [0, 100]: the geometric mean of clipped n-gram precisions, n = 1 to 4, times a brevity penalty.

    Papineni et al., 2002, https://aclanthology.org/P02-1040. With c_n matches among t_n n-grams of all texts, sys_len
    and ref_len words in the texts and in each text's reference of the closest length,

        BLEU = 100 min(1, exp(1 - ref_len / sys_len)) (prod_n c_n / t_n)^(1/4)

    An order without a match counts as 1/2, 1/4, ... of a match (sacrebleu's smoothing "exp"); without any match, and
    where no text has four words, BLEU is 0.

    Args:
        tokenize: one of `TOKENIZERS`; ``13a`` is that of the WMT evaluations.
        lowercase: whether case is disregarded.

    Raises:
        UserError: for another tokenizer, or a missing sacrebleu.
    """

    name, keys, packages = "bleu", ("bleu",), ("sacrebleu",)

    def __init__(self, tokenize: str = "13a", lowercase: bool = False) -> None:
        one_of(TOKENIZERS, bleu_tokenize=tokenize)
        library = imported("sacrebleu.metrics.bleu", "sacrebleu", "bleu")
        self._new = lambda: library.BLEU(tokenize=tokenize, lowercase=lowercase)
        self._metric = self._new()

    def counts(self, text: str, references: Sequence[str]) -> Counts:
        """sys_len, ref_len, the matches c_1 to c_4, the n-grams t_1 to t_4: float64 (10,), whole numbers."""
        found = self._metric.corpus_score([text], [[reference] for reference in references])
        return np.array([found.sys_len, found.ref_len, *found.counts, *found.totals], dtype=np.float64)

    def score(self, counts: Counts) -> dict[str, float]:
        """``bleu``."""
        return {"bleu": float(self._found(counts).score)}

    def record(self, counts: Counts, numbers: Collection[int]) -> dict[str, Any]:
        """The signature, and what the number was computed from."""
        found = self._found(counts)
        return {
            "signature": _signature(self._new(), numbers),
            "matches": found.counts,
            "ngrams": found.totals,
            "precisions": [float(p) for p in found.precisions],
            "brevity_penalty": float(found.bp),
            "text_words": found.sys_len,
            "reference_words": found.ref_len,
        }

    def _found(self, counts: Counts) -> Any:
        words, reference_words, *both = (int(count) for count in counts)
        how = {"smooth_method": self._metric.smooth_method, "smooth_value": self._metric.smooth_value}
        return self._metric.compute_bleu(both[:ORDER], both[ORDER:], words, reference_words, **how)


class Chrf:
    """Corpus chrF, in [0, 100]: the F-measure of character n-grams, n = 1 to 6, with twice the weight on recall.

    Popovic, 2015, https://aclanthology.org/W15-3049, and beta = 2 of https://aclanthology.org/W16-2341. Spaces do not
    count. Precision and recall are means over the orders that texts and references have; of several references, each
    text counts the one with its highest chrF.

    Args:
        lowercase: whether case is disregarded.

    Raises:
        UserError: for a missing sacrebleu.
    """

    name, keys, packages = "chrf", ("chrf",), ("sacrebleu",)

    def __init__(self, lowercase: bool = False) -> None:
        library = imported("sacrebleu.metrics.chrf", "sacrebleu", "chrf")
        self._new = lambda: library.CHRF(lowercase=lowercase)
        self._metric = self._new()

    def counts(self, text: str, references: Sequence[str]) -> Counts:
        """n-grams of the text, of the reference, and of both, for n = 1 to 6: float64 (18,), whole numbers."""
        # no public function of sacrebleu gives the counts of chrF; its own significance tests add these up
        found = self._metric._extract_corpus_statistics([text], [[reference] for reference in references])
        return np.array(found[0], dtype=np.float64)

    def score(self, counts: Counts) -> dict[str, float]:
        """``chrf``."""
        return {"chrf": float(self._metric._aggregate_and_compute([[int(count) for count in counts]]).score)}

    def record(self, counts: Counts, numbers: Collection[int]) -> dict[str, Any]:
        """The signature, and what the number was computed from."""
        text, reference, both = (counts[i::3].astype(int).tolist() for i in range(3))
        signature = _signature(self._new(), numbers)
        return {"signature": signature, "matches": both, "ngrams": text, "reference_ngrams": reference}


def _signature(metric: Any, numbers: Collection[int]) -> str:
    """sacrebleu's, which it gives after it has seen texts with these numbers of references."""
    each = sorted(set(numbers))
    streams = [["a" if i < number else None for number in each] for i in range(max(each))]
    metric.corpus_score(["a"] * len(each), streams)
    return str(metric.get_signature())
