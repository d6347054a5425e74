"""Byte-level BPE: its laws, files of others, and large texts."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tokenized import (
    ANYTHING,
    TEXT,
    bpe,  # noqa: F401  a fixture
)

from lit_gen.core.errors import UserError
from lit_gen.data.text import encoding
from lit_gen.data.text.encoding import shards
from lit_gen.tokenizers.bpe import END_OF_TEXT, LONGEST_WORD, BpeTokenizer, _short_words, read_bpe, train_bpe
from lit_gen.tokenizers.plain import ByteTokenizer, CharTokenizer
from lit_gen.tokenizers.stored import from_json

HARD = st.text(alphabet=st.sampled_from("ab'sltre 1٣é日\n\n\n\r\t\u00a0\u2028\x1c\x85.,!<|>😀\u0301"), max_size=200)


@pytest.fixture(scope="module")
def library():
    return pytest.importorskip("tokenizers")


@settings(max_examples=100, deadline=None)
@given(text=ANYTHING | HARD)
def test_bytes_and_bpe_give_back_any_unicode(bpe, text):
    for tokenizer in (bpe, ByteTokenizer(), ByteTokenizer(end_of_text=True)):
        ids = tokenizer.encode(text)
        assert all(0 <= i < tokenizer.vocab_size and i != tokenizer.end_of_text for i in ids)
        assert tokenizer.decode(ids) == text
        assert tokenizer.encode_array(text).tolist() == ids
    assert ByteTokenizer().encode(text) == list(text.encode())


@settings(max_examples=300, deadline=None)
@given(text=HARD, size=st.integers(1, 40), documents=st.booleans(), data=st.data())
def test_pieces_give_the_tokens_of_the_whole(bpe, text, size, documents, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    blocks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    blocks = [block for block in blocks if block]
    for tokenizer in (bpe, ByteTokenizer(), CharTokenizer(text)):
        groups = list(shards(blocks, documents, tokenizer.cut, size))
        pieces = [piece for group in groups for piece in group]
        assert "".join(piece for piece, _ in pieces) == text
        assert all(piece for piece, _ in pieces)
        assert sum(end for _, end in pieces) == (len(blocks) if documents else 0)
        found = [i for piece, _ in pieces for i in tokenizer.encode(piece)]
        whole = blocks if documents else [text]
        assert found == [i for one in whole for i in tokenizer.encode(one)]
        if not documents:
            assert groups == list(shards([text], False, tokenizer.cut, size))  # however it came in
        if tokenizer.cut == "character":
            assert all(sum(len(p) for p, _ in group) >= size for group in groups[:-1])


def test_line_ends_are_where_texts_are_cut(bpe):
    assert bpe.cut == "line"
    groups = list(shards(["one\ntwo\n\nthree\n four\nfive\n"], False, "line", 2))
    assert groups == [[("one\n", False)], [("two\n\nthree\n four\n", False)], [("five\n", False)]]
    assert len(list(shards([TEXT], False, "document", 2))) == 1
    for before, after in (("x \n\n", "y"), ("x\n", "\n y")):  # any other newline may be part of a longer token
        assert bpe.encode(before) + bpe.encode(after) != bpe.encode(before + after)


def test_bpe_learns_the_same_from_pieces_and_in_another_process(bpe):
    pieces = [text for group in shards([TEXT], False, "line", 50) for text, _ in group]
    assert len(pieces) > 10
    assert train_bpe(pieces, 310, True).sha256 == bpe.sha256
    program = (
        "import sys; from lit_gen.tokenizers.bpe import train_bpe\n"
        "print(train_bpe([sys.stdin.buffer.read().decode()], 310, True).sha256)"
    )
    done = subprocess.run([sys.executable, "-c", program], input=TEXT.encode(), capture_output=True, check=True)
    assert done.stdout.decode().strip() == bpe.sha256


def test_a_small_text_gives_fewer_ids_than_asked():
    tokenizer = train_bpe(["abab abab"], 5000, True)
    assert 257 < tokenizer.vocab_size < 270
    assert tokenizer.end_of_text == tokenizer.vocab_size - 1
    assert tokenizer.name == f"bpe{tokenizer.vocab_size}"
    assert len(tokenizer.encode("abab abab")) < 5
    with pytest.raises(UserError, match=r"data\.bpe_vocab_size: 256 was found, at least 257 is expected"):
        train_bpe(["a"], 256, True)


def test_bpe_shortens(bpe):
    assert bpe.vocab_size == 310
    assert len(bpe.encode(TEXT)) < 0.5 * len(TEXT.encode())
    assert ByteTokenizer().end_of_text is None
    assert ByteTokenizer(True).vocab_size == 257


def test_the_text_of_a_special_token_is_ordinary_text(bpe):
    ids = bpe.encode(f"a{END_OF_TEXT}b")
    assert bpe.end_of_text not in ids
    assert bpe.decode(ids) == f"a{END_OF_TEXT}b"
    again = from_json(bpe.to_json())
    assert again.encode(f"a{END_OF_TEXT}b") == ids


def test_refusals():
    with pytest.raises(UserError, match=r"'x' at position 2, which is not one of the 2 characters"):
        CharTokenizer("ab").encode("abxx")
    with pytest.raises(UserError, match="not one of the 0"):
        CharTokenizer("").encode("a")
    for beyond in ("😀", *map(chr, range(99, 400))):
        with pytest.raises(UserError, match="at position 0"):
            CharTokenizer("ab").encode(beyond)
    for tokenizer in (ByteTokenizer(), CharTokenizer("ab"), train_bpe(["ab"], 300, False)):
        with pytest.raises(UserError, match="position 1"):
            tokenizer.encode("a\udc80")
    for text in (
        "",
        "{}",
        "[]",
        '{"kind": "char"}',
        '{"kind": "word"}',
        '{"kind": "bpe", "tokenizer": {}, "name": "x"}',
    ):
        with pytest.raises(UserError, match="stored tokenizer"):
            from_json(text)


# ---- the files of others


def gpt2_folder(folder, bpe, names=("vocab.json", "merges.txt")):
    folder.mkdir()
    model = json.loads(bpe._library.to_str())["model"]
    merges = [" ".join(pair) for pair in model["merges"]]
    (folder / names[0]).write_text(json.dumps(model["vocab"] | {END_OF_TEXT: len(model["vocab"])}), encoding="utf-8")
    (folder / names[1]).write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_gpt2_files_give_the_same_tokens(bpe, tmp_path, names):
    read = read_bpe(gpt2_folder(tmp_path / "gpt2", bpe, names), end_of_text=True)
    assert (read.name, read.vocab_size, read.end_of_text, read.cut) == ("gpt2", 310, 309, "line")
    assert read.encode(TEXT) == bpe.encode(TEXT)
    assert read.end_of_text not in read.encode(END_OF_TEXT)
    assert from_json(read.to_json()).sha256 == read.sha256


def test_a_tokenizer_json_is_read_from_a_file_or_folder(bpe, tmp_path):
    file = tmp_path / "mine.json"
    bpe._library.save(str(file))
    read = read_bpe(file, end_of_text=False)
    assert (read.name, read.encode(TEXT), read.end_of_text) == ("mine", bpe.encode(TEXT), bpe.end_of_text)
    (tmp_path / "folder").mkdir()
    shutil.copy(file, tmp_path / "folder" / "tokenizer.json")
    assert read_bpe(tmp_path / "folder", False).name == "folder"


def test_a_foreign_tokenizer_keeps_its_rules_but_adds_nothing(library, tmp_path):
    words = library.Tokenizer(library.models.WordLevel({"[UNK]": 0, "a": 1, "b": 2, "[CLS]": 3, "[PAD]": 7}, "[UNK]"))
    words.pre_tokenizer = library.pre_tokenizers.Whitespace()
    words.add_special_tokens(["[CLS]", "[PAD]"])
    words.post_processor = library.processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 3)])
    words.enable_padding(length=9, pad_id=7, pad_token="[PAD]")
    words.enable_truncation(2)
    words.save(str(tmp_path / "words.json"))
    read = read_bpe(tmp_path / "words.json", end_of_text=False)
    assert read.encode("a b a z") == [1, 2, 1, 0]
    assert (read.end_of_text, read.vocab_size, read.cut) == (None, 8, "document")
    assert read.decode([3, 1, 2, 7]) == "a b"
    ended = read_bpe(tmp_path / "words.json", end_of_text=True)  # it has none: a new id
    assert ended.end_of_text == 8


def test_dropout_is_off(bpe, tmp_path):
    bpe._library.save(str(tmp_path / "tokenizer.json"))
    stored = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    stored["model"]["dropout"] = 0.5
    noisy = BpeTokenizer(json.dumps(stored), "noisy")
    assert all(noisy.encode(TEXT[:500]) == bpe.encode(TEXT[:500]) for _ in range(5))


def test_damaged_files_are_refused_by_name(bpe, tmp_path):
    for name, content in (("not.json", "hello"), ("other.json", '{"a": 1}')):
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=r"data\.tokenizer: (not|other) is no tokenizer\.json"):
            read_bpe(tmp_path / name, False)
    (tmp_path / "latin.json").write_bytes(b'{"\xff": 1}')
    with pytest.raises(UserError, match=r"latin\.json cannot be read"):
        read_bpe(tmp_path / "latin.json", False)
    with pytest.raises(UserError, match=r"holds neither tokenizer\.json nor GPT-2's"):
        read_bpe(tmp_path, False)
    folder = gpt2_folder(tmp_path / "gpt2", bpe)
    (folder / "merges.txt").write_text("#version: 0.2\nx y z\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"vocab\.json or merges\.txt is damaged"):
        read_bpe(folder, False)


def test_a_missing_library_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match="pip install tokenizers"):
        train_bpe(["a"], 300, False)


def test_large_vocabularies():
    points = [c for c in range(0x20, 0x11000) if not 0xD800 <= c < 0xE000]
    characters = "".join(map(chr, points))
    tokenizer = CharTokenizer(characters)
    assert tokenizer.vocab_size > 2**16 - 2**12
    ids = tokenizer.encode_array(characters)
    assert np.array_equal(ids, np.arange(len(characters)))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "word",
    ["a" * 3_000_000, " " * 3_000_000, "!\x1c" * 1_500_000, "ab1" * 1_000_000],
    ids=["letters", "blanks", "controls", "mixed"],
)
def test_one_huge_word_is_learned_from_and_encoded_in_seconds(word):
    learned = train_bpe([word], 300, end_of_text=False)
    assert learned.vocab_size > 256
    ids = learned.encode(word)
    assert len(ids) < len(word)
    assert learned.decode(ids) == word
    (piece,) = [piece for group in shards([word], False, learned.cut) for piece, _ in group]
    assert piece == word


def test_words_are_cut_for_learning_only_where_they_are_too_long():
    short = "a" * LONGEST_WORD
    for text in ("", TEXT, f"{short} {short}\n{short}", " " * LONGEST_WORD + "a"):
        assert list(_short_words(text)) == [text]
    for text in (f"x {short}{short}b y {short}", "x" + " " * 2500 + "y", "\x1c" * 1500 + " " + "-" * 1500):
        parts = list(_short_words(text))
        assert len(parts) == 3
        assert "".join(parts) == text
        assert all(len(word) <= LONGEST_WORD for part in parts for word in part.split(" "))


def test_a_long_text_without_a_line_end_is_searched_once(monkeypatch):
    searched = []

    class Watched:
        def search(self, text, begin):
            searched.append(len(text) - begin)
            return encoding_line_end.search(text, begin)

    encoding_line_end = encoding._LINE_END
    monkeypatch.setattr(encoding, "_LINE_END", Watched())
    blocks = ["a" * 1000] * 100
    assert [text for group in shards([*blocks, "a\n", "b"], False, "line", 50) for text, _ in group] == [
        "a" * 100_001 + "\n",
        "b",
    ]
    assert sum(searched) < 101_000
