"""From tokens to text as it comes: stop strings, characters in parts, empty prompts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.models.lm.lstm import LSTM
from lit_gen.models.lm.module import LanguageModel
from lit_gen.models.lm.transformer import Transformer
from lit_gen.models.lm.writing import Row
from lit_gen.protocols.text import TextGenerator, TokenScorer
from lit_gen.tokenizers.plain import ByteTokenizer, CharTokenizer

TEXTS = st.text(alphabet="abc \n", max_size=30) | st.text(max_size=20)


def fed(text, stop, tokenizer=None):
    """The pieces that come out as the text's tokens go in, the row at the end."""
    tokenizer = tokenizer or ByteTokenizer(end_of_text=False)
    row, pieces = Row(tokenizer, stop), []
    for token in tokenizer.encode(text):
        pieces.append(row.add(token))
        if row.stopped:
            break
    return [*pieces, row.finish()], row


@given(TEXTS, st.lists(st.text(alphabet="abc \n", min_size=1, max_size=4), max_size=3))
def test_pieces_are_the_text_before_the_first_stop(text, stop):
    pieces, row = fed(text, stop)
    found = [(text.find(s) + len(s), text.find(s)) for s in stop if s in text]
    expected = text[: min(found)[1]] if found else text  # of those that are complete first, the one that began first
    assert "".join(pieces) == row.text == expected
    assert row.stopped == bool(found)


def test_what_may_begin_a_stop_string_is_held_back():
    row = Row(ByteTokenizer(end_of_text=False), ["END"])
    assert [row.add(ord(c)) for c in "xENyE"] == ["x", "", "", "ENy", ""]
    assert row.finish() == "E"
    assert row.text == "xENyE"


def test_a_character_comes_out_whole():
    pieces, _ = fed("é→🙂", [])
    assert [p for p in pieces if p] == ["é", "→", "🙂"]


@given(st.lists(st.integers(0, 255), max_size=60))
def test_pieces_of_any_bytes_are_what_they_decode_to(tokens):
    tokenizer = ByteTokenizer(end_of_text=False)
    row = Row(tokenizer, [])
    pieces = [row.add(token) for token in tokens]
    assert "".join([*pieces, row.finish()]) == tokenizer.decode(tokens)


def test_a_space_after_the_prompt_is_kept_where_a_token_depends_on_its_place():
    class Words:  # as Metaspace does: a space before each word but the first
        def decode(self, ids):
            return " ".join(f"w{i}" for i in ids)

    row = Row(Words(), [], prompt=[3])
    assert [row.add(4), row.add(5), row.finish()] == [" w4", " w5", ""]


def test_bytes_that_are_no_character_come_out_at_last():
    row = Row(ByteTokenizer(end_of_text=False), [])
    pieces = [row.add(b) for b in (0xFF, 0xFE, 0x41, 0x42)]
    assert "".join([*pieces, row.finish()]) == "\ufffd\ufffdAB"


class Table(nn.Module):
    """Says token after token of a given text, whatever it reads; knows positions by its cache."""

    vocab_size, block_size = 257, None

    def __init__(self, ids):
        super().__init__()
        self.ids = ids
        self.inner = LSTM(257, n_layer=1, n_embd=4, hidden=4)

    def new_cache(self, rows):
        return self.inner.new_cache(rows)

    def forward(self, tokens, cache=None, lengths=None):
        before = cache.lengths.clone() if cache is not None else torch.zeros(len(tokens), dtype=torch.int64)
        logits = self.inner(tokens, cache, lengths)
        positions = before[:, None] + torch.arange(tokens.shape[1])
        wanted = torch.tensor(self.ids)[positions.clamp(max=len(self.ids) - 1)]
        return torch.zeros_like(logits).scatter(2, wanted[..., None], 1e4)


def saying(text, end=True):
    tokenizer = ByteTokenizer(end_of_text=True)
    ids = tokenizer.encode(text) + ([tokenizer.end_of_text] if end else [])
    model = LanguageModel(Table(ids))
    model.tokenizer = tokenizer
    return model.eval()


def test_ends_at_the_end_of_text():
    assert saying("hello").write([""]) == [["hello"]]


def test_ids_that_the_tokenizer_lacks_are_never_written():
    tokenizer = ByteTokenizer(end_of_text=False)
    model = LanguageModel(Table([256] * 9))  # 257 ids, of which the last is no byte
    model.tokenizer = tokenizer
    assert tokenizer.vocab_size == 256
    assert model.eval().write(["a"], temperature=0, max_new_tokens=4) == [["\0\0\0\0"]]
    assert len(model.write(["a"], max_new_tokens=4, top_k=3)[0][0]) == 4


def test_ends_before_a_stop_string_and_says_pieces_in_order():
    said = []
    model = saying("say é, then STOP and more")
    assert model.write([""], n=2, stop=["STOP"], on_text=lambda row, piece: said.append((row, piece))) == [
        ["say é, then ", "say é, then "]
    ]
    assert "".join(piece for row, piece in said if row == 1) == "say é, then "


def test_ends_after_as_many_tokens_as_were_asked_for():
    assert saying("hello").write([""], max_new_tokens=3) == [["hel"]]


def test_a_prompt_is_continued():
    assert saying("hello").write(["__"]) == [["ello"]]  # the table reads two tokens, and goes on with its second


@pytest.fixture
def model():
    torch.manual_seed(0)
    tokenizer = CharTokenizer("abcdefgh \n", end_of_text=False)
    made = LanguageModel(Transformer(tokenizer.vocab_size, 16, n_layer=1, n_head=2, n_embd=16), seed=3)
    made.tokenizer = tokenizer
    return made.eval()


def test_a_prompt_has_its_texts_whatever_else_is_asked_for(model):
    prompts = ["ab", "a b c d e f g h a b c d e", "", "ab"]
    together = model.write(prompts, n=3, max_new_tokens=40)
    for prompt, texts in zip(prompts, together, strict=True):
        assert model.write([prompt], n=3, max_new_tokens=40) == [texts]
        assert model.write([prompt], n=1, max_new_tokens=40) == [texts[:1]]
        assert len(set(texts)) == 3
    assert together[0] == together[3]
    shorter = model.write(["ab"], max_new_tokens=10)[0][0]
    assert together[0][0].startswith(shorter)


def test_the_seed_is_the_runs_unless_another_is_given(model):
    assert model.write(["ab"], seed=3) == model.write(["ab"])
    assert model.write(["ab"], seed=4) != model.write(["ab"])


def test_the_mode_is_as_before(model):
    model.train()
    model.write(["ab"], max_new_tokens=2)
    assert model.network.training
    assert torch.equal(model.nll(torch.zeros(1, 5, dtype=torch.int64)), model.eval().nll(torch.zeros(1, 5).long()))


def test_keeps_the_contracts(model):
    assert isinstance(model, TextGenerator)
    assert isinstance(model, TokenScorer)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "n: 0 was found"),
        ({"max_new_tokens": 10**11}, "at most 10,000,000"),
        ({"max_new_tokens": 0}, "max_new_tokens: 0 was found"),
        ({"top_k": 0}, "top_k: 0 was found"),
        ({"top_p": 0.0}, "top_p: 0.0 was found"),
        ({"top_p": 1.5}, "top_p: 1.5 was found"),
        ({"temperature": -1.0}, "temperature: -1.0 was found"),
        ({"temperature": float("nan")}, "temperature: nan was found"),
        ({"stop": [""]}, "stop: an empty string was found"),
    ],
)
def test_options_out_of_range_are_refused(model, options, words):
    with pytest.raises(UserError, match=words):
        model.write(["a"], **options)


def test_a_prompt_that_cannot_be_encoded_is_refused(model):
    with pytest.raises(UserError, match="'z'"):
        model.write(["abz"])


def test_one_prompt_is_a_list_too(model):
    with pytest.raises(UserError, match="a list of strings is expected"):
        model.write("ab")


def test_a_model_without_a_tokenizer_writes_nothing():
    with pytest.raises(UserError, match="without a tokenizer"):
        LanguageModel(Transformer(5, 4, n_layer=1, n_head=1, n_embd=4)).write(["a"])
