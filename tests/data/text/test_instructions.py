"""Prompts and responses from files: what is read, refused, held out, scored."""

import json
import re

import pytest
from support.instructed import PAIRS, data, put

from lit_gen.core.errors import UserError
from lit_gen.data.text import tasks
from lit_gen.protocols.text import Prompted

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "a?"}, {"role": "assistant", "content": "b."},
    {"role": "user", "content": "c?"}, {"role": "assistant", "content": "d."},
]  # fmt: skip


def documents(of, split="train"):
    """The text of each document, and of what is scored in it."""
    found, end = of.stream(split).documents, "$"
    decode = lambda ids: "".join(end if i == of.tokenizer.end_of_text else of.tokenizer.decode([i]) for i in ids)  # noqa: E731
    for begin, last in zip(found.begins[:-1], found.begins[1:], strict=True):
        ids, scored = found.tokens[begin:last].tolist(), found.scored[begin:last]
        yield decode(ids), decode([i for i, of_answer in zip(ids, scored, strict=True) if of_answer])


def test_only_the_response_and_its_end_are_scored(tmp_path):
    of = data(path=put(tmp_path / "a.jsonl", PAIRS), val_fraction=0.25)
    found = list(documents(of))
    assert found[0] == ("User: say 7 twice\nAssistant: 7 7$", "7 7$")
    assert len(found) == 30
    assert of.stream("train").counts["scored_tokens"] == len("".join(scored for _, scored in found))
    assert of.prompted("val")[0] == Prompted("User: say 37 twice\nAssistant: ", ("37 37",))
    assert len(of.prompted("test")) == 10


def test_all_turns_of_the_assistant_are_scored(tmp_path):
    of = data(path=put(tmp_path / "a.jsonl", [{"messages": TALK}, *PAIRS]), template="<{prompt}>", tokenizer="byte")
    assert next(documents(of)) == ("Be brief.\n\n<a?>b.$<c?>d.$", "b.$d.$")
    of = data(path=put(tmp_path / "b.jsonl", [{"m": TALK}] * 2), messages="m", template="<{prompt}>", val_fraction=0.0)
    assert of.prompted("train") == [Prompted("Be brief.\n\n<a?>b.<|endoftext|><c?>", ("d.", "d."))]


def test_equal_prompts_are_one_with_several_references(tmp_path):
    (tmp_path / "e2e.csv").write_text(
        'mr,ref\n"name[A], food[B]",A has B.\nname[C],C.\n"name[A], food[B]",B is at A.\n'
    )
    of = data(path=str(tmp_path / "e2e.csv"), prompt="mr", response="ref", template="{prompt}<|endoftext|> {response}",
              val_fraction=0.0)  # fmt: skip
    assert of.prompted("train") == [
        Prompted("name[A], food[B]<|endoftext|>", ("A has B.", "B is at A.")),
        Prompted("name[C]<|endoftext|>", ("C.",)),
    ]
    assert list(documents(of)) == [
        ("name[A], food[B]$ A has B.$", " A has B.$"),
        ("name[A], food[B]$ B is at A.$", " B is at A.$"),
        ("name[C]$ C.$", " C.$"),
    ]
    records = [{"prompt": "x", "response": ["y", "z"]}]
    assert len(list(documents(data(path=put(tmp_path / "a.jsonl", records), val_fraction=0.0)))) == 2


def test_no_held_out_prompt_is_trained_on(tmp_path):
    records = [{"prompt": str(i % 10), "response": str(i)} for i in range(40)]
    of = data(path=put(tmp_path / "a.jsonl", records), val_fraction=0.3)
    prompts = [{one.prompt for one in of.prompted(split)} for split in ("train", "val")]
    assert [len(p) for p in prompts] == [7, 3]
    assert not prompts[0] & prompts[1]


def test_a_held_out_file_may_be_named_and_repetitions_are_told(tmp_path, capfd):
    paths = {"path": put(tmp_path / "a.jsonl", PAIRS[:9]), "val_path": put(tmp_path / "b.jsonl", PAIRS[8:12])}
    of = data(**paths, test_path=put(tmp_path / "c.jsonl", PAIRS[:1]))
    of.prepare_data()
    assert [len(of.prompted(split)) for split in ("train", "val", "test")] == [9, 4, 1]
    assert "1 of the 4 held-out prompts are trained on too" in capfd.readouterr().err


def test_empty_responses_are_told(tmp_path, capfd):
    records = [*PAIRS[:6], {"prompt": "p", "response": ""}, {"prompt": "q", "response": [" ", "a"]}]
    data(path=put(tmp_path / "a.jsonl", records), val_fraction=0.0, tokenizer="byte").prepare_data()
    assert "2 of 9 responses of the train split are empty" in capfd.readouterr().err


LONG = [*PAIRS[:3], {"prompt": "p", "response": "r" * 200}, {"prompt": "q" * 200, "response": "r"}]


def test_what_is_too_long_is_refused_with_its_line(tmp_path):
    path = put(tmp_path / "a.jsonl", LONG)
    with pytest.raises(UserError) as refused:
        data(path=path, val_fraction=0.0).stream("train")
    assert f"{path}, line 4: 220 tokens were found, at most 65 are expected, one more than data.block_size" in str(
        refused.value
    )


@pytest.mark.parametrize(("long", "left"), [("truncate", 4), ("drop", 3)])
def test_what_is_too_long_is_cut_or_dropped_and_counted(tmp_path, capfd, long, left):
    of = data(path=put(tmp_path / "a.jsonl", LONG), val_fraction=0.0, long=long)
    found = list(documents(of))
    assert len(found) == left
    if long == "truncate":
        assert found[3][0] == "User: p\nAssistant: " + "r" * 46
        assert found[3][1] == "r" * 46, "without its end, which the model would have to guess"
        assert "is cut at 65 tokens" in of.stream("train").lost, "bits per byte would count bytes that are not scored"
    told = capfd.readouterr().err
    assert f"data.long: 2 documents of the train split had more than 65 tokens and were {long}" in told.replace(
        "dropped", "drop"
    )
    assert f"; {left} are left" in told


@pytest.mark.parametrize(("sentence", "record"), [
    ("line 2: 'promt', 'response' was found, 'messages', or 'prompt' and 'response', are",
     {"promt": "a", "response": ""}),
    ("did you mean 'promt'?", {"promt": "a", "response": "b"}),
    ("line 2: 'response' holds 3, a string is expected", {"prompt": "a", "response": 3}),
    ("line 2: 'prompt' holds a NUL character", {"prompt": "a\0", "response": "b"}),
    ("line 2: 'response' holds half a surrogate pair", {"prompt": "a", "response": "\ud800"}),
    ("line 2: 'response' holds no response", {"prompt": "a", "response": []}),
    ("the role in 'messages': 'bot' was found, one of system, user, assistant is",
     {"messages": [{"role": "bot", "content": ""}]}),
    ("line 2: 'messages' does not end with a message of assistant", {"messages": TALK[:2]}),
    ("line 2: message 2 is of 'assistant' after 'system'", {"messages": [TALK[0], TALK[2]]}),
    ("line 2: 'messages' holds 'x', a list of objects", {"messages": "x"}),
])  # fmt: skip
def test_a_record_that_is_none_is_refused_with_its_line(tmp_path, sentence, record):
    with pytest.raises(UserError) as refused:
        data(path=put(tmp_path / "a.jsonl", [PAIRS[0], record]), val_fraction=0.0, tokenizer="byte").stream("train")
    assert sentence in str(refused.value)


@pytest.mark.parametrize(("sentence", "options"), [
    ("data.long: 'cut' was found, one of refuse, truncate, drop is expected", {"long": "cut"}),
    ("data.tasks: 100000 was found, at most 20,000 is expected", {"tasks": 100_000}),
    ("data.val_fraction: 1.0 was found", {"val_fraction": 1.0}),
    ("data.path: embedded was found, which holds no conversations", {"path": "embedded"}),
    ("data.path: nowhere.jsonl was not found", {"path": "nowhere.jsonl"}),
])  # fmt: skip
def test_options_out_of_range_are_refused(sentence, options):
    with pytest.raises(UserError) as refused:
        data(**options)
    assert sentence in str(refused.value)


def test_windows_that_would_cut_a_response_are_refused():
    with pytest.raises(UserError, match="responses are scored whole"):
        data().windows("val", 64, 32, 4)


def test_another_template_than_the_checkpoints_is_refused():
    of = data()
    stored = {"text": {"tokenizer": of.tokenizer.to_json(), "sha256": "x", "chat": of.chat.to_json()}}
    same, other = data(), data(template="{prompt}:")
    for one in (same, other):
        one.adopt(stored)
    assert same.chat.template == of.chat.template
    told = r"data.template: '{prompt}:' of data.template was found, but the checkpoint's model was trained with 'User: "
    with pytest.raises(UserError, match=re.escape(told)):
        _ = other.chat


def test_a_run_that_begins_with_another_takes_its_tokenizer(tmp_path, capfd):
    of, fewer = data(tokenizer="char"), data(path=put(tmp_path / "a.jsonl", PAIRS))
    assert fewer.vocab_size < of.vocab_size
    fewer = data(path=put(tmp_path / "a.jsonl", PAIRS), template="{prompt}:")
    fewer.begin_with({"text": {"tokenizer": of.tokenizer.to_json(), "chat": of.chat.to_json()}}, "model.finetune.start")
    assert fewer.tokenizer.sha256 == of.tokenizer.sha256
    assert fewer.chat.template == "{prompt}:"
    assert "that of the run which model.finetune.start names" in capfd.readouterr().err


def test_bpe_is_learned_from_the_training_part():
    of = data(tokenizer="bpe", bpe_vocab_size=270, template="{prompt} ={response}")
    assert of.vocab_size == 270
    assert (
        data(tokenizer="bpe", bpe_vocab_size=270, template="{prompt} ={response}").tokenizer.sha256
        == of.tokenizer.sha256
    )
    assert of.stream("val").lost == ""


def test_the_generated_tasks_have_right_answers():
    found = list(tasks.examples(600))
    assert found[:100] == list(tasks.examples(100))
    assert len({prompt for prompt, _ in found}) == 600
    kinds = set()
    for prompt, answer in found:
        kind, *words = prompt.split()
        kinds.add(kind)
        if kind == "add":
            assert int(answer) == int(words[0]) + int(words[2])
        elif kind == "plural":
            assert answer.startswith(words[1][:-1])
            assert answer.endswith("s")
        else:
            assert list(answer) == (sorted(words[0]) if kind == "sort" else [*reversed(words[0])])
    assert kinds == set(tasks.TASKS)
    words = {"box": "boxes", "city": "cities", "day": "days", "cat": "cats", "church": "churches", "bus": "buses"}
    assert {word: tasks.plural(word) for word in words} == words


def test_the_records_protocol_says_what_was_scored():
    of = data(tasks=20)
    assert json.loads(json.dumps(of.protocol))["val"]["documents"] == 2
    assert of.protocol["split"] == "the last 0.1 of prompts"
