"""Which part of a text is for training and which is held out."""

import json
from pathlib import Path

import pytest
from support.texts import TEXT, put

from lit_gen.core.errors import UserError, note
from lit_gen.data.text.module import TextCorpus


@pytest.mark.data
def test_tiny_shakespeare_is_split_as_nanogpt_splits_it(data_root, monkeypatch):
    monkeypatch.setenv("LIT_GEN_DATA", str(data_root))
    data = TextCorpus("tinyshakespeare/input.txt")
    train, val = data.stream("train"), data.stream("val")
    assert (len(train), len(val), data.vocab_size) == (1_003_854, 111_540, 65)
    text = (data_root / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    assert data.tokenizer.characters == "".join(sorted(set(text)))
    assert data.tokenizer.decode(val.tokens) == text[1_003_854:]
    assert (train.prefix, val.prefix) == (None, data.tokenizer.encode(text[1_003_853])[0])
    assert (val.text_bytes, val.end_of_text) == (111_540, None)
    assert TextCorpus("tinyshakespeare/input.txt", tokenizer="bpe").tokenizer.encode("the ") != []


@pytest.mark.parametrize("tokenizer", ["char", "byte", "bpe"])
def test_the_parts_of_a_text_are_the_text(tmp_path, tokenizer):
    path = put(tmp_path, "a.txt", TEXT)
    data = TextCorpus(path, tokenizer, bpe_vocab_size=300, val_fraction=0.3, workers=2)
    cut = int(0.7 * len(TEXT))
    for split, text in {"train": TEXT[:cut], "val": TEXT[cut:], "test": TEXT[cut:]}.items():
        stream = data.stream(split)
        assert data.tokenizer.decode(stream.tokens.tolist()) == text
        assert stream.tokens.tolist() == data.tokenizer.encode(text)
        assert (stream.text_bytes, stream.characters) == (len(text.encode()), len(text))
        assert stream.vocab_size == data.vocab_size
    assert data.protocol["train"] == {
        "characters": cut,
        "bytes": len(TEXT[:cut].encode()),
        "tokens": len(data.stream("train")),
    }


def test_documents_are_split_at_the_nearest_boundary(tmp_path):
    lengths = [100, 300, 100, 80, 20]
    paths = [put(tmp_path, f"{i}.txt", str(i) * n) for i, n in enumerate(lengths)]
    for fraction, training in [(0.05, 4), (0.17, 3), (0.5, 2), (0.9, 1), (0.001, 4), (0.999, 1)]:
        data = TextCorpus(paths, "byte", val_fraction=fraction, block_size=8)
        assert (data.stream("train").documents, data.stream("val").documents) == (training, 5 - training)
    with pytest.raises(UserError, match=r"data\.val_fraction: 0\.1 was found, but .* holds a single document"):
        TextCorpus(paths[:1]).prepare_data()


def test_held_out_by_file(tmp_path):
    paths = [put(tmp_path, f"{i}.txt", text) for i, text in enumerate(["abab" * 30, "abcc", "xyz"])]
    data = TextCorpus(paths[0], val_path=paths[1], test_path=paths[2], block_size=8)
    assert data.vocab_size == 6
    assert [data.tokenizer.decode(data.stream(s).tokens) for s in ("train", "val", "test")] == [
        "abab" * 30,
        "abcc",
        "xyz",
    ]
    assert data.stream("val").prefix is None
    assert len(data.files()) == 6
    assert data.protocol["split"] == "held out by file"


def test_nothing_held_out(tmp_path):
    data = TextCorpus(put(tmp_path, "a.txt", TEXT), val_fraction=0)
    assert (data.stream("train").characters, data.val_dataloader(), data.test_dataloader()) == (len(TEXT), [], [])
    with pytest.raises(
        UserError, match=r"has no val split \(nothing held out: data\.val_fraction is 0\), train is expected"
    ):
        data.stream("val")


def test_texts_that_are_too_short_are_refused(tmp_path):
    with pytest.raises(UserError, match="leave one side of the split empty"):
        TextCorpus(put(tmp_path, "a.txt", "a")).prepare_data()
    with pytest.raises(UserError, match=r"data\.block_size: 256 was found, but the training text has 18 tokens"):
        TextCorpus(put(tmp_path, "b.txt", "ab" * 10)).train_dataloader()
    short = TextCorpus(put(tmp_path, "c.txt", TEXT), val_path=put(tmp_path, "d.txt", "L"))
    with pytest.raises(UserError, match=r"d\.txt has 1 tokens, at least 2 are expected"):
        short.val_dataloader()


def test_documents_that_are_trained_on_are_not_held_out(tmp_path):
    train = [put(tmp_path, f"t/{i}.txt", f"document {i} of the training text") for i in range(5)]
    held = [put(tmp_path, f"h/{i}.txt", f"document {i} of the training text" + "!" * (i != 3)) for i in range(2, 5)]
    message = (
        r"1 of its 3 documents stand in the training text too, the first is 3\.txt, 'document 3 of the training text'"
    )
    for option in ("val_path", "test_path"):
        with pytest.raises(UserError, match=rf"data\.{option}: {message}; documents that are not trained on"):
            TextCorpus(train, **{option: held}).prepare_data()
    records = put(tmp_path, "r.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in ["new", "a" * 50, "b"]))
    again = put(tmp_path, "again.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in ["b", "a" * 50, "c"]))
    with pytest.raises(UserError, match=r"val_path: 2 of its 3 .* the first is again\.jsonl, 'b'; "):
        TextCorpus(records, val_path=again, column="text").prepare_data()
    unseen = TextCorpus(train, val_path=[held[0], held[2]], test_path=held[2], block_size=8)
    unseen.prepare_data()
    assert unseen.stream("val").documents == 2


def test_a_text_that_is_trained_on_is_not_held_out(tmp_path):
    path, copy = put(tmp_path, "a.txt", TEXT), put(tmp_path, "copy.txt", TEXT)
    for held in (path, copy):
        for option in ("val_path", "test_path"):
            with pytest.raises(UserError, match=rf"data\.{option}: .* stands in the training text too, as a whole"):
                TextCorpus(path, **{option: held}).prepare_data()
    with pytest.raises(
        UserError, match=r"copy\.txt stands in the training text too, as a whole \(it begins with 'Line 0"
    ):
        TextCorpus([path, put(tmp_path, "b.txt", "b")], val_path=copy).prepare_data()
    with pytest.raises(UserError, match=r"val_path: 1 of its 2 documents .*, the first is copy\.txt, 'Line 0"):
        TextCorpus(path, val_path=[put(tmp_path, "b.txt", "b"), copy]).prepare_data()
    TextCorpus(path, val_path=put(tmp_path, "c.txt", TEXT[:-1])).prepare_data()


def test_documents_on_both_sides_of_a_split_are_counted_and_named_once(tmp_path, capsys):
    note.cache_clear()
    texts = ["one " * 9, "two " * 9, "three " * 9, "two " * 9, "four " * 9, "one " * 9]
    paths = [put(tmp_path, f"{i}.txt", text) for i, text in enumerate(texts)]
    for _ in range(2):  # the second time from what is kept
        TextCorpus(paths, val_fraction=0.5).prepare_data()
    said = capsys.readouterr().err
    assert said == (
        "note: 2 of the 3 held-out documents of "
        f"{Path(paths[0]).name}+5 stand in the training part too, the first is 3.txt, {('two ' * 9)[:40]!r}\n"
    )
    TextCorpus(paths[:3], val_fraction=0.5).prepare_data()
    TextCorpus(put(tmp_path, "a.txt", "ab" * 50), val_fraction=0.5).prepare_data()
    assert capsys.readouterr().err == ""
