"""Tokens of a corpus: learned, adopted, cached, and refused where they do not fit."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.texts import TEXT, damage, encode, put

from lit_gen.core.cache import cache_folder
from lit_gen.core.errors import UserError
from lit_gen.data.text import encoding
from lit_gen.data.text.module import TextCorpus
from lit_gen.tokenizers.plain import CharTokenizer


def test_bpe_learns_from_the_training_part_alone(tmp_path):
    data = TextCorpus(put(tmp_path, "a.txt", "abc abc\n" * 50 + "xyzzy " * 20), "bpe", val_fraction=0.3)
    assert data.vocab_size < 1024
    assert len(data.tokenizer.encode("xyzzy")) == 5


@pytest.mark.parametrize("tokenizer", ["char", "bpe"])
def test_a_text_is_encoded_once(tmp_path, monkeypatch, tokenizer):
    path = put(tmp_path, "a.txt", TEXT)

    def files():
        data = TextCorpus(path, tokenizer, bpe_vocab_size=300)
        data.prepare_data()
        return {p: p.stat().st_mtime_ns for p in cache_folder().rglob("*") if p.is_file()}, data

    before, first = files()
    monkeypatch.setattr("lit_gen.data.text.splits.encode", lambda *a, **k: pytest.fail("encoded again"))
    monkeypatch.setattr("lit_gen.data.text.tokenizers.train_bpe", lambda *a, **k: pytest.fail("learned again"))
    monkeypatch.setattr("lit_gen.data.text.documents._read", lambda *a, **k: pytest.fail("read again"))
    after, second = files()
    assert before == after
    assert np.array_equal(first.stream("train").tokens, second.stream("train").tokens)


def test_a_changed_file_is_noticed(tmp_path):
    path = put(tmp_path, "a.txt", TEXT)
    first = TextCorpus(path)
    old = first.stream("train").tokens.copy()
    put(tmp_path, "a.txt", TEXT.swapcase())
    os.utime(path, (0, 0))
    second = TextCorpus(path)
    assert second.tokenizer.decode(second.stream("train").tokens) == TEXT.swapcase()[: len(old)]
    assert first.text_sha256 != second.text_sha256


def test_a_damaged_cache_is_refused_by_name(tmp_path):
    path = put(tmp_path, "a.txt", TEXT)
    (_, tokens, _) = TextCorpus(path).files()
    tokens.write_bytes(tokens.read_bytes()[:-2])
    with pytest.raises(UserError, match=rf"{tokens.name} is truncated or damaged.*move it away"):
        TextCorpus(path).stream("train")
    tokens.unlink()
    assert len(TextCorpus(path).stream("train"))
    TextCorpus(path, "bpe").prepare_data()
    (learned,) = tokens.parent.glob("bpe*.json")
    learned.write_text(learned.read_text(encoding="utf-8")[:-5], encoding="utf-8")
    with pytest.raises(UserError, match=rf"{learned.name}: the stored tokenizer is damaged.*move it away"):
        _ = TextCorpus(path, "bpe").vocab_size


def test_a_character_that_is_missing_is_named_with_its_place(tmp_path):
    data = TextCorpus(put(tmp_path, "a.txt", "a" * 50 + "b" + "a" * 49))
    data.adopt_tokenizer(CharTokenizer("a").to_json(), "another text")
    with pytest.raises(UserError, match=r"data\.path, a\.txt: the text has 'b' at position 50, which"):
        data.stream("test")


@pytest.mark.parametrize("documents", [False, True])
def test_the_place_of_a_missing_character_is_that_in_the_whole_text(tmp_path, monkeypatch, documents):
    monkeypatch.setattr(encoding.encode, "__kwdefaults__", encoding.encode.__kwdefaults__ | {"shard": 16})
    paths = [put(tmp_path, "a.txt", "a" * 60), put(tmp_path, "b.txt", "a" * 35 + "b" + "a" * 4)]
    text = put(tmp_path, "c.txt", "a" * 95 + "b" + "a" * 4)
    data = TextCorpus(paths if documents else text, val_fraction=0.4)
    data.adopt_tokenizer(CharTokenizer("a", end_of_text=documents).to_json(), data.text_sha256)
    data.stream("train")
    with pytest.raises(UserError, match=r"the text has 'b' at position 95, which is not one of the 1 characters"):
        data.stream("val")


def test_an_adopted_tokenizer_is_used_and_another_text_is_tested_whole(tmp_path):
    path = put(tmp_path, "a.txt", TEXT)
    trained = TextCorpus(path, "bpe", bpe_vocab_size=300)
    stored = trained.tokenizer.to_json()
    same = TextCorpus(path, "bpe", bpe_vocab_size=256)
    same.adopt_tokenizer(stored, trained.text_sha256)
    assert same.tokenizer.sha256 == trained.tokenizer.sha256
    assert not same.foreign
    assert np.array_equal(same.stream("test").tokens, trained.stream("val").tokens)
    other = TextCorpus(put(tmp_path, "b.txt", "something else\n" * 20), "bpe")
    assert other.vocab_size < 300
    other.adopt_tokenizer(stored, trained.text_sha256)
    assert other.foreign
    other.prepare_data()
    stream = other.stream("test")
    assert other.tokenizer.decode(stream.tokens.tolist()) == "something else\n" * 20
    assert (stream.prefix, stream.vocab_size) == (None, 300)
    assert set(other.protocol) & {"train", "val", "test"} == {"test"}
    assert sum(int(b.scored.sum()) for b in other.test_dataloader()) == len(stream) - 1


def test_another_text_needs_no_split(tmp_path):
    data = TextCorpus([put(tmp_path, "a.txt", "abab")])  # one document: there is nothing to hold out
    data.adopt_tokenizer(CharTokenizer("ab", end_of_text=True).to_json(), "another text")
    data.prepare_data()
    assert data.stream("test").tokens.tolist() == [0, 1, 0, 1, 2]
    assert data.val_dataloader() == []
    assert data.protocol["test"]["documents"] == 1
    for split in ("train", "val"):
        with pytest.raises(UserError) as refused:
            data.stream(split)
        assert str(refused.value) == (
            f"data.path: a.txt is not the text that the model was trained on (sha256 another text then, "
            f"{data.text_sha256[:12]} now); test scores it whole"
        )


def test_documents_without_an_end_in_the_adopted_tokenizer_run_on(tmp_path):
    paths = [put(tmp_path, f"{i}.txt", "ab" * (i + 1)) for i in range(3)]
    data = TextCorpus(paths)
    data.adopt_tokenizer(CharTokenizer("ab").to_json(), "another text")
    stream = data.stream("test")
    assert (stream.tokens.tolist(), stream.prefix, stream.end_of_text) == ([0, 1] * 6, None, None)
    assert stream.documents == 3


def test_a_tokenizer_of_a_file_under_the_root(tmp_path):
    path = put(tmp_path, "a.txt", TEXT)
    library = TextCorpus(path, "bpe", bpe_vocab_size=300).tokenizer._library
    library.save(put(tmp_path, "root/mine.json", ""))
    shutil.copy(path, tmp_path / "root")
    data = TextCorpus("a.txt", "mine.json", root=str(tmp_path / "root"), workers=1)
    assert data.tokenizer.name == "mine"
    assert data.tokenizer.decode(data.stream("val").tokens) == TEXT[int(len(TEXT) * 0.9) :]


@pytest.mark.parametrize("on_device", [False, True])
def test_an_id_beyond_the_vocabulary_is_refused_with_the_file(tmp_path, on_device):
    path = put(tmp_path, "a.txt", TEXT)
    data = TextCorpus(path, block_size=32, batch_size=64, on_device=on_device)
    _, train, val = data.files()
    for place in range(0, 10_000, 100):
        damage(train, place, 40_000)
    damage(val, 0, data.vocab_size)
    message = "less than {} .the size of the vocabulary. is expected; the file is damaged: move it away"
    fresh = TextCorpus(path, block_size=32, batch_size=64, on_device=on_device)
    with pytest.raises(UserError, match=rf"{train.name}: the id 40000 was found, {message.format(data.vocab_size)}"):
        list(fresh.train_dataloader())
    with pytest.raises(UserError, match=rf"{val.name}: the id {data.vocab_size} was found"):
        list(fresh.val_dataloader())
    damage(train, len(data.stream("train")) - 1, 40_000)  # the token before the held-out part
    with pytest.raises(UserError, match=rf"{train.name}: the id 40000 was found"):
        TextCorpus(path).stream("val")


def test_a_generated_text_may_be_made_again_by_a_process_that_started_at_the_same_time():
    data = TextCorpus("grammar", "byte", grammar_characters=2000)
    assert data.text_sha256
    (file,) = data._source.files
    again = file.with_name("again")
    again.write_bytes(file.read_bytes())
    again.replace(file)  # another inode, another time
    data.prepare_data()
    other = TextCorpus("grammar", "byte", grammar_characters=3000)
    assert other.text_sha256
    other._source.files[0].write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="has changed while it was read; run the command again"):
        other.prepare_data()


@pytest.mark.parametrize("when", ["the scan", "learning"])
def test_a_text_that_changes_after_the_scan_is_not_kept_under_its_name(tmp_path, monkeypatch, when):
    path = put(tmp_path, "a.txt", TEXT)
    status = Path(path).stat()
    data = TextCorpus(path, "byte" if when == "the scan" else "bpe", bpe_vocab_size=300)
    assert data.text_sha256
    put(tmp_path, "a.txt", TEXT.swapcase())  # of the same size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    with pytest.raises(UserError, match=r"a\.txt has changed while it was read; run the command again"):
        data.prepare_data()
    assert not [p for p in cache_folder().rglob("*") if p.suffix in (".tokens", ".json", ".partial")]
    put(tmp_path, "a.txt", TEXT)  # as it was: nothing of the other text is taken for it
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = TextCorpus(path, data.tokenizer_spec, bpe_vocab_size=300)
    assert again.tokenizer.decode(again.stream("train").tokens.tolist()) == TEXT[: int(0.9 * len(TEXT))]


def test_another_number_of_characters_than_was_scanned_is_refused(tmp_path):
    with pytest.raises(UserError, match="characters were found, 7 are expected: the text has changed"):
        encode(tmp_path / "t", CharTokenizer(TEXT), characters=7)
    assert not (tmp_path / "t").exists()


def test_a_tokenizer_that_is_not_the_checkpoints_is_refused(tmp_path):
    path = put(tmp_path, "a.txt", TEXT)
    learned = TextCorpus(path, "bpe", bpe_vocab_size=300)
    stored = {"char": TextCorpus(path).tokenizer, "byte": TextCorpus(path, "byte").tokenizer, "bpe": learned.tokenizer}
    for found in stored:
        for kind, tokenizer in stored.items():
            data = TextCorpus(path, found)
            if found == kind:
                data.adopt_tokenizer(tokenizer.to_json(), data.text_sha256)
                continue
            trained = "bpe300" if kind == "bpe" else kind
            expected = rf"data\.tokenizer: {found} was found, but the checkpoint's model was trained with {trained}"
            with pytest.raises(UserError, match=expected):
                data.adopt_tokenizer(tokenizer.to_json(), data.text_sha256)
    library = learned.tokenizer._library
    library.save(put(tmp_path, "mine.json", ""))
    for text in (path, [path]):  # of documents, with an end of text
        mine = TextCorpus(text, "mine.json", val_fraction=0).tokenizer.to_json()
        for other in (path, [path]):
            TextCorpus(other, "mine.json").adopt_tokenizer(mine, "another text")
    TextCorpus(path, "bpe", bpe_vocab_size=280).tokenizer._library.save(put(tmp_path, "other.json", ""))
    for name in ("mine.json", "other.json"):
        wrong = stored["char"] if name == "mine.json" else learned.tokenizer
        with pytest.raises(
            UserError, match=rf"data\.tokenizer: {name} was found \(sha256 .* was trained with \w+ \(sha"
        ):
            TextCorpus(path, name).adopt_tokenizer(wrong.to_json(), "another text")
