"""The rules of the English-like grammar: what each symbol becomes, and how often.

Number is part of a symbol's name (``np_one``, ``np_many``), so that a verb agrees with a noun at any distance
between them: "the dog that chases the cats sleeps". A relative clause belongs to the noun right before it, and a noun
has at most one, so nothing is ambiguous. Weights of words fall off as in real texts.
"""


def _words(text: str) -> list[tuple[float, str]]:
    """Words by falling frequency: the weight of the k-th is 1 / (k + 1)."""
    return [(1 / (k + 2), word) for k, word in enumerate(text.split())]


def _number(own: str) -> dict[str, list[tuple[float, str]]]:
    """The rules of one number, ``one`` or ``many``."""
    return {
        f"clause_{own}": [(1.0, f"np_{own} vp_{own}")],
        f"np_{own}": [(1.0, f"det_{own} adjectives noun_{own} relative_{own}")],
        f"relative_{own}": [(0.78, ""), (0.22, f"that inner_{own}")],
        # the noun is the one that acts, or the one that something is done to
        f"inner_{own}": [(0.7, f"vp_{own}"), (0.12, "np_one see_one"), (0.18, "np_many see_many")],
        f"vp_{own}": [(0.4, f"sleep_{own} adverb"), (0.45, f"see_{own} object"), (0.15, f"say_{own} that clause")],
    }


ENGLISH_RULES: dict[str, list[tuple[float, str]]] = {
    "sentence": [(0.85, "clause rest ."), (0.1, "if clause , then clause ."), (0.05, "either clause , or clause .")],
    "rest": [(0.8, ""), (0.2, ", linked clause")],
    "linked": _words("and but while"),
    "clause": [(0.6, "clause_one"), (0.4, "clause_many")],
    "object": [(0.55, "np_one"), (0.45, "np_many")],
    **_number("one"),
    **_number("many"),
    "adjectives": [(0.7, ""), (0.3, "adjective adjectives")],
    "adjective": _words("old small big clever red quiet hungry strange"),
    "adverb": [(0.75, ""), *((0.25 * w, word) for w, word in _words("often again slowly today alone"))],
    "det_one": _words("the this every each"),
    "det_many": _words("all some these many two"),
    "noun_one": _words("dog girl king cat teacher bird queen wolf child garden"),
    "noun_many": _words("dogs girls kings cats teachers birds queens wolves children gardens"),
    "sleep_one": _words("sleeps sings waits runs falls"),
    "sleep_many": _words("sleep sing wait run fall"),
    "see_one": _words("sees likes follows hears chases remembers"),
    "see_many": _words("see like follow hear chase remember"),
    "say_one": _words("says thinks knows"),
    "say_many": _words("say think know"),
}
