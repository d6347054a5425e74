import math

import pytest

from lit_gen.data.text.grammar import ENGLISH, Grammar

# every sentence of it can be listed: two numbers, an adjective or none, one verb of each
TINY = {
    "sentence": [(3, "it mood sleeps rest ."), (1, "all mood sleep .")],
    "mood": [(0.7, ""), (0.2, "old"), (0.1, "sad")],
    "rest": [(1, ""), (2, ", but it mood waits")],
}


def sentences(grammar, symbols=("sentence",), probability=1.0):
    """All (probability, words) that the symbols become, for a grammar without recursion."""
    for i, symbol in enumerate(symbols):
        if symbol in grammar.rules:
            for p, body in grammar.rules[symbol]:
                yield from sentences(grammar, (*symbols[:i], *body, *symbols[i + 1 :]), probability * p)
            return
    yield probability, symbols


def test_closed_forms_are_what_enumeration_gives():
    grammar = Grammar(TINY)
    listed = list(sentences(grammar))
    texts = [(" ".join(words).replace(" ,", ",").replace(" .", ".").capitalize() + "\n", p) for p, words in listed]
    assert len(dict(texts)) == len(texts) == 3 * (1 + 3) + 3
    assert sum(p for _, p in texts) == pytest.approx(1)
    assert grammar.sentence_nats == pytest.approx(-sum(p * math.log(p) for _, p in texts), rel=1e-12)
    assert grammar.sentence_characters == pytest.approx(sum(p * len(text) for text, p in texts), rel=1e-12)
    for text, p in texts:
        assert grammar.log_prob(text) == pytest.approx(math.log(p), rel=1e-12)
    bits = grammar.sentence_nats / grammar.sentence_characters / math.log(2)
    assert grammar.entropy_bits_per_char == pytest.approx(bits)


def test_the_texts_follow_the_probabilities():
    grammar = Grammar(TINY)
    lines = grammar.text(400_000, seed=3).splitlines(keepends=True)
    for p, words in sentences(grammar):
        text = " ".join(words).replace(" ,", ",").replace(" .", ".").capitalize() + "\n"
        error = math.sqrt(p * (1 - p) / len(lines))
        assert abs(lines.count(text) / len(lines) - p) < 4.5 * error


def test_the_entropy_is_what_a_long_text_costs():
    """Sums over sentences, divided: the error of the ratio from the scatter of cost - h * length."""
    lines = ENGLISH.text(1_500_000, seed=1).splitlines(keepends=True)
    costs = [-ENGLISH.log_prob(line) for line in lines]
    lengths = [len(line) for line in lines]
    nats_per_character = ENGLISH.sentence_nats / ENGLISH.sentence_characters
    residuals = [c - nats_per_character * n for c, n in zip(costs, lengths, strict=True)]
    error = math.sqrt(sum(r * r for r in residuals)) / sum(lengths)
    assert error < 0.005 * nats_per_character
    assert abs(sum(costs) / sum(lengths) - nats_per_character) < 3 * error
    mean, count = sum(lengths) / len(lines), len(lines)
    scatter = math.sqrt(sum((n - mean) ** 2 for n in lengths) / count / count)
    assert abs(mean - ENGLISH.sentence_characters) < 3 * scatter


def test_texts_are_named_by_their_seed_and_continue_each_other():
    short, long = ENGLISH.text(1000), ENGLISH.text(5000)
    assert long.startswith(short)
    assert 1000 <= len(short) < 1400
    assert short.endswith(".\n")
    assert short.isascii()
    assert ENGLISH.text(1000, seed=1) != short


def test_log_prob_of_a_text_is_the_sum_over_its_sentences():
    text = ENGLISH.text(2000)
    lines = text.splitlines(keepends=True)
    assert ENGLISH.log_prob(text) == pytest.approx(sum(map(ENGLISH.log_prob, lines)))
    assert ENGLISH.log_prob("") == 0


@pytest.mark.parametrize(
    "text",
    [
        "The dog sleep.\n",  # number
        "The dogs sleep.\n",
        "All dogs that the cat sees sleeps.\n",  # number, across a relative clause
        "the dog sleeps.\n",
        "The dog sleeps.",
        "The dog sleeps\n",
        "The  dog sleeps.\n",
        "The dog sleeps. \n",
        "The dog sleeps..\n",
        "If the dog sleeps.\n",
        "The frog sleeps.\n",
        "The DOG sleeps.\n",
        "\n",
    ],
)
def test_other_texts_have_no_probability(text):
    assert ENGLISH.log_prob("The dog sleeps.\n") > -math.inf
    assert ENGLISH.log_prob(text) == -math.inf


def test_it_agrees_in_number_at_any_distance():
    assert ENGLISH.log_prob("All dogs that the cat that some girls see likes sleep.\n") > -math.inf
    assert ENGLISH.log_prob("All dogs that the cat that some girls see likes sleeps.\n") == -math.inf
    assert ENGLISH.log_prob("All dogs that the cat that some girls see like sleep.\n") == -math.inf


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"sentence": [(1, "a tail ."), (1, "a .")], "tail": [(1, "b")]}, "'a' does not decide"),
        ({"sentence": [(1, "many a .")], "many": [(1, ""), (1, "a many")]}, "'a' does not decide"),  # a follows
        ({"sentence": [(1, "two two .")], "two": [(1, "a two"), (2, "b two two two"), (3, "c")]}, "infinitely long"),
        ({"sentence": [(1, "A1 .")]}, "'A1' is neither"),
        ({"sentence": [(1, "a end")], "end": [(1, "."), (1, "b .")]}, "full stop"),
        ({"sentence": [(1, "a . b .")]}, "full stop"),
    ],
)
def test_grammars_without_a_known_entropy_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        Grammar(rules)
