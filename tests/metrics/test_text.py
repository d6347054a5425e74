"""BLEU, chrF, ROUGE and exact match: worked examples, sacrebleu's and rouge_score's corpus numbers, torchmetrics'."""

import math
import sys

import numpy as np
import pytest
import torchmetrics.text
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF
from support.pairs import pairs, streams

from lit_gen.core.errors import UserError
from lit_gen.metrics.corpus import total
from lit_gen.metrics.text import KEYS, metrics_of

CAT, MAT = "the the the the the the the", "the cat is on the mat"


def only(name, **options):
    (metric,) = metrics_of([name], **options)
    return metric


def corpus(metric, texts, references):
    return metric.score(total([metric.counts(t, r) for t, r in zip(texts, references, strict=True)]))


# ---- by hand


def test_matches_are_clipped_as_in_the_paper_of_bleu():
    metric = only("bleu")
    words, reference_words, *both = metric.counts(CAT, [MAT]).tolist()
    assert (words, reference_words) == (7, 6)
    assert both == [2, 0, 0, 0, 7, 6, 5, 4]
    found = metric.record(total([metric.counts(CAT, [MAT])]), [1])
    assert found["precisions"][0] == pytest.approx(100 * 2 / 7)
    assert found["brevity_penalty"] == 1
    # an order without a match counts as 1/2, 1/4, 1/8 of one
    by_hand = 100 * math.prod((2 / 7, 1 / 2 / 6, 1 / 4 / 5, 1 / 8 / 4)) ** (1 / 4)
    assert metric.score(metric.counts(CAT, [MAT]))["bleu"] == pytest.approx(by_hand)


def test_matches_with_several_references_and_the_closest_length():
    metric = only("bleu")
    counts = metric.counts("the cat the cat on the mat", ["the cat is on the mat", "there is a cat on the mat now"])
    assert counts[:3].tolist() == [7, 6, 5]  # of 6 and 8 the shorter; the twice, cat, on, mat once


@pytest.mark.parametrize("name", KEYS)
def test_equal_texts_have_the_highest_number_and_others_the_lowest(name):
    best = 100 if name in ("bleu", "chrf") else 1
    same, other = ["the cat is on the mat", "a dog is not on it"], ["zzz qqq www jjj", "vvv kkk xxx ppp"]
    assert corpus(only(name), same, [(t,) for t in same]) == pytest.approx(dict.fromkeys(KEYS[name], best))
    assert corpus(only(name), other, [(t,) for t in same]) == dict.fromkeys(KEYS[name], 0)
    assert corpus(only(name), ["", ""], [(t,) for t in same]) == dict.fromkeys(KEYS[name], 0)


def test_a_short_text_is_penalized():
    found = corpus(only("bleu"), ["the cat is on"], [(MAT,)])
    assert found["bleu"] == pytest.approx(100 * math.exp(1 - 6 / 4))


def test_chrf_by_hand():
    # abc and abd: 2/3, 1/2 and 0 of the 1-, 2- and 3-grams, as precision and as recall
    assert corpus(only("chrf"), ["a bc"], [("abd",)])["chrf"] == pytest.approx(100 * (2 / 3 + 1 / 2) / 3)


def test_rouge_by_hand():
    found = corpus(only("rouge"), ["The cat sat; the cat ran"], [("the cat sat on the cat",)])
    # 5 of 6 words; of 5 pairs each, "the cat" twice and "cat sat"; in order, the cat sat the cat
    assert found == pytest.approx({"rouge1": 5 / 6, "rouge2": 3 / 5, "rougeL": 5 / 6})


def test_each_number_of_rouge_takes_its_best_reference():
    words, order = "b a d c x y", "a b z z z z z"  # the same words in another order; fewer, in order
    found = corpus(only("rouge"), ["a b c d"], [(words, order)])
    assert found["rouge1"] == pytest.approx(2 * 4 / 10)
    assert found["rouge2"] == pytest.approx(2 * 1 / 9)


def test_exact_match_disregards_white_space_at_the_ends_alone():
    texts = [" 12\n", "12 ", "1 2", "Yes"]
    references = [("11", "12"), ("12",), ("12",), ("yes",)]
    assert corpus(only("exact"), texts, references)["exact"] == 0.5
    assert corpus(only("exact", lowercase=True), texts, references)["exact"] == 0.75


def test_bleu_of_a_corpus_is_no_mean_of_sentences():
    texts, references = pairs(50)
    metric = only("bleu")
    each = [metric.score(metric.counts(t, r))["bleu"] for t, r in zip(texts, references, strict=True)]
    assert abs(corpus(metric, texts, references)["bleu"] - sum(each) / len(each)) > 5


# ---- against the packages


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("lowercase", [False, True])
def test_bleu_and_chrf_are_sacrebleus(most, lowercase):
    texts, references = pairs(300, most)
    for name, reference in (("bleu", BLEU(lowercase=lowercase)), ("chrf", CHRF(lowercase=lowercase))):
        metric = only(name, lowercase=lowercase)
        expected = reference.corpus_score(texts, streams(references))
        counts = total([metric.counts(t, r) for t, r in zip(texts, references, strict=True)])
        assert metric.score(counts)[name] == expected.score
        record = metric.record(counts, [len(r) for r in references])
        assert record["signature"] == str(reference.get_signature())
        assert f"nrefs:{'var' if most > 1 else 1}|" in record["signature"]
        if name == "bleu":
            assert (record["matches"], record["ngrams"]) == (expected.counts, expected.totals)
            assert (record["text_words"], record["reference_words"]) == (expected.sys_len, expected.ref_len)
    assert 1 < expected.score < 99


@pytest.mark.parametrize("tokenize", ["13a", "intl", "zh", "char", "none"])
def test_every_tokenizer_is_sacrebleus(tokenize):
    texts, references = pairs(60)
    expected = BLEU(tokenize=tokenize)
    score = expected.corpus_score(texts, streams(references)).score
    metric = only("bleu", bleu_tokenize=tokenize)
    assert corpus(metric, texts, references)["bleu"] == score
    assert f"tok:{tokenize}" in metric.record(metric.counts("a", ["a"]), [1])["signature"]


@pytest.mark.parametrize("most", [1, 3])
def test_rouge_is_the_mean_of_rouge_scores(most):
    texts, references = pairs(200, most)
    scorer = RougeScorer(list(KEYS["rouge"]))
    each = [scorer.score_multi(r, t) for t, r in zip(texts, references, strict=True)]
    found = corpus(only("rouge"), texts, references)
    for key in KEYS["rouge"]:
        assert found[key] == math.fsum(s[key].fmeasure for s in each) / len(each)
    assert 0.2 < found["rougeL"] < 0.99


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("parts", [2, 3])
def test_parts_in_any_order_add_up_to_the_whole(name, parts):
    texts, references = pairs(301, 3)
    metric = only(name)
    rows = [metric.counts(t, r) for t, r in zip(texts, references, strict=True)]
    assert all(row.dtype == np.float64 for row in rows)
    dealt = [rows[i::parts] for i in reversed(range(parts))]
    assert metric.score(total([row for part in dealt for row in part])) == metric.score(total(rows))
    partial = metric.score(total([total(part) for part in dealt]))  # sums of sums round once more
    assert partial == pytest.approx(metric.score(total(rows)), rel=1e-14)


# ---- torchmetrics


def test_torchmetrics_sacrebleu_is_ours_where_every_order_matches():
    texts, references = pairs(100)
    theirs = torchmetrics.text.SacreBLEUScore()(texts, references)
    assert corpus(only("bleu"), texts, references)["bleu"] == pytest.approx(100 * float(theirs), rel=1e-5)
    # without smoothing: zero where an order has no match
    assert float(torchmetrics.text.SacreBLEUScore()([CAT], [[MAT]])) == 0
    assert corpus(only("bleu"), [CAT], [(MAT,)])["bleu"] > 1
    # of two references as close in length it takes the first, sacrebleu the shorter
    references = ["a b c d e f g", "a b c d e"]
    theirs = [float(torchmetrics.text.SacreBLEUScore()(["a b c d e f"], [r])) for r in (references, references[::-1])]
    assert theirs == pytest.approx([math.exp(1 - 7 / 6), 1])
    assert corpus(only("bleu"), ["a b c d e f"], [references])["bleu"] == pytest.approx(100)


def test_torchmetrics_bleu_is_ours_without_a_tokenizer():
    texts, references = pairs(100)
    theirs = 100 * float(torchmetrics.text.BLEUScore()(texts, references))
    assert corpus(only("bleu", bleu_tokenize="none"), texts, references)["bleu"] == pytest.approx(theirs, rel=1e-5)
    assert abs(corpus(only("bleu"), texts, references)["bleu"] - theirs) > 0.1  # it splits at white space alone


def test_torchmetrics_chrf_is_another_number():
    """A mean of the orders' F-measures: sacrebleu's with ``eps_smoothing``, and chrF++ unless it is told otherwise."""
    texts, references = pairs(15)
    theirs = 100 * float(torchmetrics.text.CHRFScore(n_word_order=0)(texts, references))
    smoothed = CHRF(eps_smoothing=True).corpus_score(texts, streams(references)).score
    assert theirs == pytest.approx(smoothed, rel=1e-5)
    assert abs(corpus(only("chrf"), texts, references)["chrf"] - theirs) > 1e-4


def test_torchmetrics_rouge_is_ours_in_float32():
    texts, references = pairs(60, 3)
    theirs = torchmetrics.text.ROUGEScore(rouge_keys=KEYS["rouge"])(texts, references)
    found = corpus(only("rouge"), texts, references)
    assert found == pytest.approx({key: float(theirs[f"{key}_fmeasure"]) for key in found}, rel=1e-5)


# ---- what is refused


@pytest.mark.parametrize(
    ("names", "options", "told"),
    [
        (["blue"], {}, "metrics: 'blue' was found, one of bleu, chrf, rouge, exact is expected; did you mean 'bleu'"),
        ([], {}, r"metrics: \[\] was found, some of bleu, chrf, rouge, exact is expected"),
        (["rougeLsum"], {}, "metrics: 'rougeLsum' was found"),
        (["bleu"], {"bleu_tokenize": "spm"}, "bleu_tokenize: 'spm' was found, one of 13a, intl, zh, char, none"),
        (["chrf"], {"bleu_tokenize": "char"}, "bleu_tokenize: 'char' was found, but bleu is not among the metrics"),
    ],
)
def test_what_is_unknown_is_refused(names, options, told):
    with pytest.raises(UserError, match=told):
        metrics_of(names, **options)


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("bleu", "sacrebleu.metrics.bleu", "sacrebleu"),
        ("chrf", "sacrebleu.metrics.chrf", "sacrebleu"),
        ("rouge", "rouge_score.rouge_scorer", "rouge-score"),
    ],
)
def test_a_missing_package_is_told_with_its_command(monkeypatch, name, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    told = f"{name} needs the package {package}, which is missing; pip install {package}"
    with pytest.raises(UserError, match=told):
        metrics_of([name])
    assert metrics_of(["exact"])  # needs none
