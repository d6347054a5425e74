"""``evaluate TEXTS.jsonl``: texts as a language model's run writes them, against references in several forms."""

import hashlib
import json
from pathlib import Path

import pytest
from sacrebleu.metrics import BLEU, CHRF
from support.cli import refused
from support.pairs import pairs, streams

from lit_gen.evaluation.texts import read_prompted


def put(name, *lines):
    Path(name).write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return name


def test_texts_are_scored_line_by_line_with_their_record(lit_gen):
    texts, references = pairs(40, 3)
    put("texts.jsonl", *({"prompt": "p", "index": 0, "text": text} for text in texts))
    put("references.jsonl", *({"references": list(found)} for found in references))
    code, out, err = lit_gen("evaluate", "texts.jsonl", "--reference=references.jsonl", "--out=found.json")
    assert (code, err) == (0, "")
    record = json.loads(Path("found.json").read_text(encoding="utf-8"))
    values, protocol = record["values"], record["protocol"]
    assert list(values) == ["bleu", "chrf", "rouge1", "rouge2", "rougeL", "exact"]
    assert all(name in out for name in values)
    bleu, chrf = BLEU(), CHRF()
    assert values["bleu"] == bleu.corpus_score(texts, streams(references)).score
    assert values["chrf"] == chrf.corpus_score(texts, streams(references)).score
    assert protocol["metrics"]["bleu"]["signature"] == str(bleu.get_signature())
    assert protocol["metrics"]["chrf"]["signature"] == str(chrf.get_signature())
    assert (protocol["count"], protocol["references_of_a_text"]) == (40, {"least": 1, "most": 3})
    assert set(protocol["versions"]) == {"lit-gen", "torch", "torch-fidelity", "sacrebleu", "rouge-score"}
    hashes = [hashlib.sha256(Path(f).read_bytes()).hexdigest() for f in ("texts.jsonl", "references.jsonl")]
    assert [protocol["source_sha256"], protocol["reference"]["sha256"]] == hashes


def test_all_forms_of_lines_and_the_options_of_texts(lit_gen):
    Path("texts.jsonl").write_text('\ufeff"Yes."\r\n\n{"text": "no\\n"}\n"é"\n""', encoding="utf-8")
    put("references.jsonl", "yes.", ["maybe", "No"], {"response": "é"}, {"text": "x"})
    found = {}
    for options in ((), ("--lowercase",)):
        code, _, err = lit_gen(
            "evaluate", "texts.jsonl", "--reference=references.jsonl", "--metrics=exact, bleu",
            "--bleu_tokenize=char", "--out=found", *options,
        )  # fmt: skip
        assert (code, err) == (0, "")
        found[options] = json.loads(Path("found.json").read_text(encoding="utf-8"))
    plain, lowered = found[()], found[("--lowercase",)]
    assert list(plain["values"]) == ["bleu", "exact"]
    assert (plain["values"]["exact"], lowered["values"]["exact"]) == (0.25, 0.75)
    assert [f["protocol"]["metrics"]["bleu"]["signature"].partition("|version")[0] for f in found.values()] == [
        f"nrefs:var|case:{case}|eff:no|tok:char|smooth:exp" for case in ("mixed", "lc")
    ]
    assert set(plain["protocol"]["versions"]) == {"lit-gen", "torch", "torch-fidelity", "sacrebleu"}


def test_prompts_with_references(lit_gen):
    lines = {"prompt": "1 + 1", "response": "2", "id": 7}, {"prompt": "", "references": ["a", "b"]}
    found = read_prompted(Path(put("p.jsonl", *lines)), "path").values
    assert found == [("1 + 1", ("2",)), ("", ("a", "b"))]
    put("texts.jsonl", "2", "b")  # such a file is one of references too
    code, out, _ = lit_gen("evaluate", "texts.jsonl", "--reference=p.jsonl", "--metrics=exact")
    assert (code, out.split()) == (0, ["exact", "1"])


LINES = {
    "broken JSON": ('"a"\n{"text": \n', "line 2: broken JSON (Expecting value)"),
    "another object": ('{"words": "a"}', "line 1: one of text, response, references is expected, none of them was"),
    "two kinds": ('{"text": "a", "references": ["b"]}', "line 1: one of text, response, references is expected, text"),
    "a number": ('"a"\n\n7', "line 3: a string, a list of strings"),
    "numbers": ("[7]", "line 1: a string, a list of strings"),
    "an empty reference": ('"a"\n" "', "line 2: an empty reference was found"),
    "no references": ('{"references": []}', "line 1: an empty reference was found"),
    "an empty file": ("\n", "r.jsonl is empty, at least one line is expected"),
    "unequal numbers": ('"a"\n"b"', "r.jsonl holds references of 2 texts, and t.jsonl holds 1 texts; equal numbers"),
    "deep": ("[" * 100_000, "line 1: broken JSON"),
}


@pytest.mark.parametrize("case", LINES)
def test_references_that_do_not_fit_are_refused(lit_gen, case):
    content, told = LINES[case]
    put("t.jsonl", "a")
    Path("r.jsonl").write_text(content, encoding="utf-8")
    refused(lit_gen, told, "evaluate", "t.jsonl", "--reference=r.jsonl", "--metrics=exact", "--out=found.json")


def test_other_mistakes_are_refused(lit_gen):
    put("t.jsonl", "a")
    put("bad.jsonl", ["a"])
    put("few.jsonl", {"text": "a"})
    Path("latin.jsonl").write_bytes(b'"\xe9"')
    Path("folder.jsonl").mkdir()
    to = ("--reference=t.jsonl", "--metrics=exact")

    def told(sentence, *arguments):
        refused(lit_gen, sentence, "evaluate", *arguments)

    told("--metrics: 'blue' is not a metric of texts; did you mean 'bleu'?", "t.jsonl", to[0], "--metrics=exact,blue")
    told("--metrics: 'fid' is not a metric of texts", "t.jsonl", to[0], "--metrics=fid")
    told("--metrics: bleu is of texts; folder was found, a .jsonl is expected", "folder", to[0], "--metrics=bleu,fid")
    told("--lowercase: it has no meaning for folder", "folder", "--reference=mnist-5k", "--lowercase")
    told("--count: it has no meaning for texts", "t.jsonl", *to, "--count=7")
    told("--adapter: it has no meaning for texts", "t.jsonl", *to, "--adapter=runs/a")
    told("--bleu_tokenize: 'spm' was found", "t.jsonl", to[0], "--metrics=bleu", "--bleu_tokenize=spm")
    told("--bleu_tokenize: 'char' was found, but bleu is not", "t.jsonl", *to, "--bleu_tokenize=char")
    told("unrecognized arguments: --steps", "t.jsonl", *to, "--steps=7")
    told("no.jsonl does not exist", "no.jsonl", *to)
    told("--reference: no.jsonl does not exist", "t.jsonl", "--reference=no.jsonl", "--metrics=exact")
    told("folder.jsonl is a folder", "folder.jsonl", *to)
    told("latin.jsonl: byte 1 is not UTF-8 text", "latin.jsonl", *to)
    told("bad.jsonl, line 1: a string or an object with a text is expected", "bad.jsonl", *to)
