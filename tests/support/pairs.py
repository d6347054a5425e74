"""Texts and references that share many words, drawn from a seed."""

from lit_gen.core import randomness

WORDS = [
    "the", "a", "cat", "dog", "mat", "sat", "on", "is", "was,", "not.", "7", "x-ray", "café", "ÜBER", "The", "(big)",
    "it's",
]  # fmt: skip


def pairs(count, most_references=1, seed=0):
    """Texts, and the references of each: a changed copy, and other texts."""
    draws = randomness.host(seed, "pairs")

    def text(longest):
        return " ".join(WORDS[i] for i in draws.integers(len(WORDS), size=draws.integers(0, longest)))

    texts, references = [], []
    for _ in range(count):
        words = f"{text(12)} the end".split(" ")
        kept = [word for word in words if draws.random() < 0.8]
        texts.append(" ".join(kept))
        others = [f"{text(12)} a" for _ in range(draws.integers(most_references))]
        references.append((" ".join(words), *others))
    return texts, references


def streams(references):
    """As sacrebleu takes them: the first reference of all texts, the second ones, ...; None where there is none."""
    return [[r[i] if i < len(r) else None for r in references] for i in range(max(map(len, references)))]
