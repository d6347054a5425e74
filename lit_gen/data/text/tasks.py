"""Instructions with one right answer, generated from a seed: words reversed, letters sorted, sums, plurals."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lit_gen.core import randomness

VERSION = 1
CONSONANTS, VOWELS = "bcdfghjklmnprstvwxz", "aeiou"
TASKS = ("reverse", "sort", "add", "plural")


def plural(word: str) -> str:
    """The regular English plural of a word: ``box`` gives ``boxes``, ``city`` cities, ``day`` days."""
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in VOWELS:
        return word[:-1] + "ies"
    return word + "s"


def example(draws: np.random.Generator) -> tuple[str, str]:
    """A prompt and its answer."""
    task = TASKS[int(draws.integers(len(TASKS)))]
    if task == "add":
        a, b = (int(x) for x in draws.integers(0, 100, size=2))
        return f"add {a} and {b}", str(a + b)
    word = "".join(str(draws.choice(list(VOWELS if i % 2 else CONSONANTS))) for i in range(int(draws.integers(3, 6))))
    if task == "plural":
        word += str(draws.choice(["", "y", "ch", "x", "t"]))
        return f"plural of {word}", plural(word)
    return f"{task} {word}", word[::-1] if task == "reverse" else "".join(sorted(word))


def examples(count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """``count`` different prompts, each with its answer; fewer ones are the first of more."""
    draws, seen = randomness.host(seed, "instruction tasks"), set[str]()
    while len(seen) < count:
        prompt, answer = example(draws)
        if prompt not in seen:
            seen.add(prompt)
            yield prompt, answer


def write(path: Path, count: int) -> None:
    """Write them as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for prompt, answer in examples(count):
            file.write(json.dumps({"prompt": prompt, "response": answer}) + "\n")
