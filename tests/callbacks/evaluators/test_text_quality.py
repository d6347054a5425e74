"""Texts that a model writes against references: the metrics' own numbers, on any number of ranks."""

import json
import os
from pathlib import Path

import pytest
from support import instructed, kills, prompted
from support.fitting import fit, rows
from support.lm import build, corpus
from support.prompted import COUNT, questions, trainer_of, writer

from lit_gen.callbacks.evaluators.text_quality import BLOCK, TextQuality
from lit_gen.core.errors import UserError
from lit_gen.evaluation.texts import count_each, scored
from lit_gen.metrics.text import metrics_of

NAMES = ("bleu", "chrf", "rouge1", "rouge2", "rougeL", "exact")


class Echo:
    """Writes the prompt backwards; counts how many prompts each call had."""

    seed, tokenizer = 3, None

    def __init__(self, tokenizer):
        self.tokenizer, self.calls = tokenizer, []

    def write(self, prompts, **options):
        self.calls.append((len(prompts), options))
        return [[prompt[::-1] + "abc"] for prompt in prompts]


def measured(model, data, callback, split="val"):
    trainer = trainer_of(data, Path(), callback)
    callback.prepare(trainer, model)
    return callback.evaluate(trainer, model, split)


def test_the_numbers_are_those_of_the_texts():
    data = questions()
    model = writer(data)
    found = measured(model, data, TextQuality(max_new_tokens=7, temperature=1.0))
    metrics, pairs = metrics_of(["bleu", "chrf", "rouge", "exact"]), data.prompted("val")
    texts = [model.write([prompt], max_new_tokens=7)[0][0] for prompt, _ in pairs]  # one by one
    each = [count_each(metrics, text, references) for text, (_, references) in zip(texts, pairs, strict=True)]
    values, record = scored(metrics, each, [len(references) for _, references in pairs])
    assert found.values == values
    assert tuple(values) == NAMES
    assert 0 < values["chrf"] < 100
    assert found.protocol["metrics"] == record["metrics"]
    assert [shown["text"] for shown in found.protocol["texts"]] == texts[:4]
    assert len(set(texts)) > COUNT // 2


def test_what_the_writer_is_asked_for(capfd):
    data = questions()
    model = Echo(data.tokenizer)
    found = measured(model, data, TextQuality(count=20, metrics=["exact"], max_new_tokens=9, stop=["b"]))
    assert found.values == {"exact": 1}
    wanted = {"max_new_tokens": 9, "temperature": 0, "stop": ["b"], "weights": "ema"}
    assert model.calls == [(BLOCK, wanted), (20 - BLOCK, wanted)]
    record = found.protocol
    assert (record["count"], record["seed"], record["block"]) == (20, 3, BLOCK)
    assert record["reference"]["text_sha256"] == data.text_sha256
    assert measured(model, data, TextQuality(weights="raw", count=6), "test").protocol["count"] == 5
    assert "count: 6 was found; all 5 prompts of the test split of Questions are taken" in capfd.readouterr().err


@pytest.mark.parametrize("world", [2, 3, 5])
def test_the_parts_of_ranks_are_the_whole(world):
    data = questions()
    model, callback = writer(data), TextQuality(max_new_tokens=6, temperature=1.0)
    pairs = data.prompted("val")
    (whole, *parts) = (callback._mine(model, pairs, *part) for part in ((0, 1), *((r, world) for r in range(world))))
    together = sorted((one for part in parts for one in part), key=lambda one: one.number)
    assert [one.number for one in together] == list(range(COUNT))
    assert [one.text for one in together] == [one.text for one in whole]
    each = [[one.counts for one in some] for some in (whole, [one for part in reversed(parts) for one in part])]
    numbers = [len(references) for _, references in pairs]
    assert scored(callback.metrics, each[0], numbers) == scored(callback.metrics, each[1], numbers)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("how", [prompted.rank, prompted.greedy], ids=["drawn", "greedy"])
def test_one_two_and_three_processes_find_the_same(tmp_path, how):
    found = kills.at_each_world_size(how, tmp_path)
    assert found[1] == found[2] == found[3]
    assert found[1]["protocol"]["count"] == COUNT


def test_a_file_of_prompts_measured_during_a_run(tmp_path):
    lines = ({"prompt": "ab", "response": "cd"}, {"prompt": "", "references": ["a", "b"]})
    Path("p.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    data = questions()
    callbacks = [
        TextQuality(every=2, path="p.jsonl", max_new_tokens=4),
        TextQuality(every=2, path="p.jsonl", max_new_tokens=4, metrics=["exact"], weights="raw"),
    ]
    fit(build(data), data, 4, tmp_path / "run", callbacks)
    logged = [row for row in rows(tmp_path / "run") if "val/bleu" in row]
    assert [row["step"] for row in logged] == [2, 4]
    assert {f"val/{name}" for name in NAMES} <= set(logged[0])
    assert [row["step"] for row in rows(tmp_path / "run") if "val/exact_raw" in row] == [2, 4]
    records = sorted(path.name for path in (tmp_path / "run" / "eval").glob("step=00000004*.json"))
    assert records == ["step=00000004-val-text-quality-raw.json", "step=00000004-val-text-quality.json"]
    content = json.loads((tmp_path / "run" / "eval" / records[1]).read_text(encoding="utf-8"))
    assert content["protocol"]["reference"]["file"] == "p.jsonl"
    assert content["protocol"]["references_of_a_text"] == {"least": 1, "most": 2}
    assert tuple(callbacks[0].announced(data)) == NAMES
    assert callbacks[1].announced(data) == ["exact_raw"]


def test_prompts_of_conversations_hold_special_tokens(tmp_path):
    """A tokenizer of characters knows none of the end token's name, which ends each earlier answer."""
    turns = [{"role": role, "content": "ab"} for role in ("user", "assistant") * 2]
    path = instructed.put(
        tmp_path / "talks.jsonl", [{"messages": [{**turns[0], "content": str(i)}, *turns[1:]]} for i in range(8)]
    )
    data = instructed.data(path=path, val_fraction=0.5)
    assert "<|endoftext|>" in data.prompted("val")[0].prompt
    quality = TextQuality(every=1, metrics=["exact"], max_new_tokens=4)
    fit(instructed.build(data), data, 1, tmp_path / "run", [quality])
    assert [row["step"] for row in rows(tmp_path / "run") if "val/exact" in row] == [1]


def test_a_run_is_ranked_by_it(lit_gen):
    questions()
    Path("p.jsonl").write_text('{"prompt": "ab", "response": "cd"}\n', encoding="utf-8")
    fit_it = (
        "fit", "--config=gpt.yaml", "--trainer.callbacks.Perplexity=false", "--trainer.logger.TensorBoardLogger=false",
        "--trainer.max_steps=4", "--trainer.accelerator=cpu", "--data.path=letters.txt", "--data.block_size=16",
        "--data.batch_size=4", "--model.network.n_layer=1", "--model.network.n_embd=16", "--model.network.n_head=2",
        "--samples.enabled=false", "--trainer.callbacks+=TextQuality", "--trainer.callbacks.TextQuality.every=2",
        "--trainer.callbacks.TextQuality.path=p.jsonl", "--trainer.callbacks.TextQuality.max_new_tokens=4",
        "--trainer.callbacks.TextQuality.metrics=[chrf,exact]", "--checkpoint.mode=max", "--run_name=r", "--run_id=a",
    )  # fmt: skip
    code, _, err = lit_gen(*fit_it, "--checkpoint.monitor=val/bleu")
    assert code == 2
    assert "nothing logs val/bleu" in err
    assert "val/chrf, val/exact" in err
    code, out, err = lit_gen(*fit_it, "--checkpoint.monitor=val/chrf")
    assert code == 0, err
    assert "val/chrf" in out
    assert list(Path("runs/r/a/eval").glob("step=*4-val-text-quality.json"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"count": 0}, "TextQuality.count: 0 was found"),
        ({"max_new_tokens": 0}, "TextQuality.max_new_tokens: 0 was found"),
        ({"temperature": -1.0}, "TextQuality.temperature: -1.0 was found"),
        ({"metrics": ["blue"]}, "TextQuality.metrics: 'blue' was found, .*; did you mean 'bleu'"),
        ({"stop": ["\n", ""]}, "TextQuality.stop: an empty string was found"),
        ({"path": "none.jsonl"}, "TextQuality.path: none.jsonl does not exist"),
        ({"path": "bad.jsonl"}, "TextQuality.path: bad.jsonl, line 1: an object with a prompt, and a response"),
        ({"path": "other.jsonl"}, "TextQuality: .*'Z'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_first_step(options, told):
    Path("bad.jsonl").write_text('{"text": "a"}', encoding="utf-8")
    Path("other.jsonl").write_text('{"prompt": "Z", "response": "a"}', encoding="utf-8")
    data = questions()
    with pytest.raises(UserError, match=told):
        measured(Echo(data.tokenizer), data, TextQuality(**options))


def test_data_without_prompts_and_models_without_texts_are_refused():
    data, callback = corpus(), TextQuality()
    with pytest.raises(UserError, match="path: null was found, but TextCorpus has no prompts"):
        callback.prepare(trainer_of(data, Path(), callback), build(data))
    for model, told in ((Echo(None), "Echo without a tokenizer was found"), (object(), "expected, object was found")):
        with pytest.raises(UserError, match=told):
            callback.prepare(trainer_of(None, Path(), callback), model)
