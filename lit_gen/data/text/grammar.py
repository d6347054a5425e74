"""A probabilistic grammar of English-like sentences, whose entropy is known exactly: the floor of every loss on it.

Booth & Thompson, 1973, https://doi.org/10.1109/T-C.1973.223746, on probabilistic context-free grammars. Sentences are
independent, so the best bits per character that any model can reach on a long text is

    H(sentence) / E[characters of a sentence],

and both follow from one linear system each: the entropy of a symbol is that of the choice among its alternatives plus
that of what the chosen one holds, H(A) = H(choice) + sum_r p_r sum_{B in r} H(B), and so for lengths.

That H counts derivations; it is the entropy of the *text* because no text has two. The grammar is LL(1): the next word
decides which alternative was taken (checked when a `Grammar` is built), so that a sentence has one derivation; words
are letters between spaces, so that a string has one division into words; and every sentence ends with ``.`` and a
newline, which stand nowhere else, so that a text has one division into sentences.
"""

import hashlib
import json
import math
import re
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

import numpy as np

from lit_gen.core import randomness
from lit_gen.data.text.grammar_rules import ENGLISH_RULES

Rules = Mapping[str, Sequence[tuple[float, str]]]
"""Alternatives of each symbol: (weight, what it becomes, symbols and words with spaces between; "" for nothing)."""

_WORDS = re.compile(r"[a-z]+|[.,]")


class Grammar:
    """Sentences of a probabilistic LL(1) grammar, from the symbol ``sentence``.

    A symbol is a key of the rules; everything else is a word (lower-case letters), a comma or the full stop, which each
    sentence has once, at its end. The first letter of a sentence is made a capital.

    Args:
        rules: the alternatives of each symbol; their weights are normalized.

    Raises:
        ValueError: if the next word does not always decide between alternatives, a sentence would be infinitely long on
            average, a word is not valid, or a full stop occurs elsewhere.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = {
            symbol: [(weight / sum(w for w, _ in options), tuple(text.split())) for weight, text in options]
            for symbol, options in rules.items()
        }
        for word in {s for options in self.rules.values() for _, body in options for s in body} - set(rules):
            if not _WORDS.fullmatch(word):
                raise ValueError(
                    f"{word!r} is neither a symbol nor a word of lower-case letters, a comma or a full stop"
                )
        inner = [body[: -1 if a == "sentence" else None] for a, options in self.rules.items() for _, body in options]
        if any("." in body for body in inner) or any(body[-1:] != (".",) for _, body in self.rules["sentence"]):
            raise ValueError("each alternative of 'sentence' ends with the full stop, which may stand nowhere else")
        self.sha256 = hashlib.sha256(json.dumps(self.rules, sort_keys=True).encode()).hexdigest()
        self._bounds = {a: list(accumulate(p for p, _ in options[:-1])) for a, options in self.rules.items()}
        self._table = self._predictions()
        self.sentence_nats = self._expectation(lambda p, body: -math.log(p))
        """Entropy of a sentence."""
        self.sentence_characters = self._expectation(lambda p, body: sum(_width(s) for s in body if s not in rules))
        """Mean length of a sentence, its newline included."""

    @property
    def entropy_bits_per_char(self) -> float:
        """Entropy per character, which is per byte: all is ASCII."""
        return self.sentence_nats / self.sentence_characters / math.log(2)

    def text(self, characters: int, seed: int = 0) -> str:
        """Whole sentences, the first ones that together have at least ``characters`` characters."""
        draws = self._draws(seed)
        sentences: list[str] = []
        while characters > 0:
            sentences.append(_spelled(self._sentence(draws)))
            characters -= len(sentences[-1])
        return "".join(sentences)

    def log_prob(self, text: str) -> float:
        """The exact log-probability of a text of whole sentences, in nats; -inf for other texts."""
        if not text.endswith("\n"):
            return -math.inf if text else 0.0
        return sum(self._sentence_log_prob(line) for line in text[:-1].split("\n"))

    def _sentence_log_prob(self, line: str) -> float:
        words = _WORDS.findall(line[:1].lower() + line[1:])
        if _spelled(words) != line + "\n":  # another spelling: spaces, capitals, other characters
            return -math.inf
        total, stack = 0.0, ["sentence"]
        for word in words:
            while stack and stack[-1] in self.rules:
                found = self._table.get((stack.pop(), word))
                if found is None:
                    return -math.inf
                total += found[0]
                stack.extend(reversed(found[1]))
            if not stack or stack.pop() != word:
                return -math.inf
        return -math.inf if stack else total  # the full stop leaves nothing to come: it ends every sentence

    def _draws(self, seed: int) -> Iterator[float]:
        generator = randomness.host(seed, "grammar")
        while True:
            yield from generator.random(1 << 14).tolist()

    def _sentence(self, draws: Iterator[float]) -> list[str]:
        words: list[str] = []
        stack = ["sentence"]
        while stack:
            symbol = stack.pop()
            if symbol in self.rules:
                stack.extend(reversed(self.rules[symbol][bisect(self._bounds[symbol], next(draws))][1]))
            else:
                words.append(symbol)
        return words

    def _expectation(self, gain: Callable[[float, tuple[str, ...]], float]) -> float:
        """The mean over sentences of a sum over derivation steps of ``gain(probability, alternative)``."""
        row = {symbol: i for i, symbol in enumerate(self.rules)}
        matrix, gains = np.eye(len(row)), np.zeros(len(row))
        for symbol, options in self.rules.items():
            for p, body in options:
                gains[row[symbol]] += p * gain(p, body)
                for part in body:
                    if part in row:
                        matrix[row[symbol], row[part]] -= p
        if max(abs(np.linalg.eigvals(np.eye(len(row)) - matrix))) >= 1:
            raise ValueError("a sentence would be infinitely long on average; make recursive alternatives rarer")
        return float(np.linalg.solve(matrix, gains)[row["sentence"]])

    def _predictions(self) -> dict[tuple[str, str], tuple[float, tuple[str, ...]]]:
        """For (symbol, next word): the log-probability and the body of the one alternative that fits."""
        first, follow = self._first_and_follow()
        table: dict[tuple[str, str], tuple[float, tuple[str, ...]]] = {}
        for symbol, options in self.rules.items():
            for p, body in options:
                start = _first_of(body, first)
                for word in (start - {""}) | (follow[symbol] if "" in start else set()):
                    if (symbol, word) in table:
                        raise ValueError(f"{symbol}: the next word {word!r} does not decide between two alternatives")
                    table[symbol, word] = (math.log(p), body)
        return table

    def _first_and_follow(self) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
        """The words that a symbol may begin with ("" if it may be empty), and those that may come after it."""
        first: dict[str, set[str]] = {symbol: set() for symbol in self.rules}
        follow: dict[str, set[str]] = {symbol: set() for symbol in self.rules}
        size = -1
        while size != (size := sum(map(len, [*first.values(), *follow.values()]))):  # until nothing is added
            for symbol, options in self.rules.items():
                for _, body in options:
                    first[symbol] |= _first_of(body, first)
                    for i, part in enumerate(body):
                        if part in follow:
                            after = _first_of(body[i + 1 :], first)
                            follow[part] |= (after - {""}) | (follow[symbol] if "" in after else set())
        return first, follow


def _first_of(body: Sequence[str], first: Mapping[str, set[str]]) -> set[str]:
    words: set[str] = set()
    for part in body:
        starts = first.get(part, {part})
        words |= starts - {""}
        if "" not in starts:
            return words
    return words | {""}


def _width(word: str) -> int:
    """Characters that a word adds to a sentence: its space too; the first one's is the newline at the end."""
    return 1 if word in ".," else len(word) + 1


def _spelled(words: Sequence[str]) -> str:
    sentence = " ".join(words).replace(" ,", ",").replace(" .", ".")
    return sentence[:1].upper() + sentence[1:] + "\n"


ENGLISH = Grammar(ENGLISH_RULES)
"""A few dozen words with agreement in number across relative clauses of any depth, and pairs such as if ... then."""
