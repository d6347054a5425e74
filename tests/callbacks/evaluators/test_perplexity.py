"""Perplexity and bits per byte against closed forms, brute force and torchmetrics."""

import json
import math

import pytest
import torch
from lightning import Trainer
from support.fitting import fit, rows
from support.lm import build, corpus
from torch import nn
from torchmetrics.text import Perplexity as Reference

from lit_gen.callbacks.evaluators.perplexity import Perplexity
from lit_gen.core.errors import UserError, note
from lit_gen.data.text.module import TextCorpus
from lit_gen.data.text.windows import WindowLoader
from lit_gen.models.lm.module import LanguageModel


class Uniform(nn.Module):
    """Every token equally likely, whatever came before."""

    block_size, new_cache = None, print

    def __init__(self, vocab_size):
        super().__init__()
        self.vocab_size, self.weight = vocab_size, nn.Parameter(torch.zeros(()))

    def forward(self, tokens, cache=None, lengths=None):
        return self.weight * torch.ones(*tokens.shape, self.vocab_size)


def measure(model, data, callback, folder):
    trainer = Trainer(
        accelerator="cpu", logger=False, callbacks=[callback], default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=1,
    )  # fmt: skip
    trainer.validate(model, datamodule=data, verbose=False)
    return callback.latest.values


def sequence(data):
    stream = data.stream("val")
    return torch.tensor([stream.prefix, *stream.tokens.tolist()])


def test_a_uniform_model_has_perplexity_v_and_eight_bits_per_byte(tmp_path):
    data = corpus(tokenizer="byte")
    assert data.vocab_size == 256
    found = measure(LanguageModel(Uniform(256)), data, Perplexity(), tmp_path)
    assert found["val/perplexity"] == pytest.approx(256, rel=1e-6)
    assert found["val/bits_per_byte"] == pytest.approx(8, rel=1e-6)
    assert found["val/loss"] == pytest.approx(math.log(256), rel=1e-6)


def test_bits_count_bytes_of_the_text_and_not_ends_of_documents(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for i, text in enumerate(("first é", "zweiter", "→ 3", "vier")):
        (folder / f"{i}.txt").write_text(text * 20, encoding="utf-8")
    data = TextCorpus(str(folder), tokenizer="char", block_size=16, batch_size=2, val_fraction=0.5)
    stream = data.stream("val")
    ends = int((torch.tensor(stream.tokens.tolist()) == stream.end_of_text).sum())
    assert ends == stream.documents > 0
    found = measure(LanguageModel(Uniform(data.vocab_size)), data, Perplexity(), tmp_path)
    characters = len(stream.tokens) - ends
    bits = characters * math.log2(data.vocab_size) / stream.text_bytes
    assert stream.text_bytes > characters  # an arrow has three bytes
    assert found["val/bits_per_byte"] == pytest.approx(bits, rel=1e-6)
    assert found["val/perplexity"] == pytest.approx(data.vocab_size, rel=1e-6)


def test_the_first_token_of_a_text_that_nothing_precedes_costs_ln_v(tmp_path):
    (tmp_path / "a.txt").write_text("abcd" * 100, encoding="utf-8")
    (tmp_path / "b.txt").write_text("dcba" * 30, encoding="utf-8")
    data = TextCorpus(str(tmp_path / "a.txt"), block_size=16, batch_size=2, val_path=str(tmp_path / "b.txt"))
    model = build(data)
    found = measure(model, data, Perplexity(), tmp_path)
    tokens = torch.tensor(data.stream("val").tokens.tolist())
    nats = [math.log(4), *(float(model.nll(tokens[None, i : i + 17]).sum()) for i in range(0, 119, 16))]
    assert found["val/loss"] == pytest.approx(sum(nats) / 120, rel=1e-6)


def test_equals_torchmetrics_on_disjoint_windows(tmp_path):
    data = corpus()
    model = build(data)
    fit(model, data, 20, tmp_path)
    found = measure(model, data, Perplexity(), tmp_path)
    whole, metric = sequence(data), Reference()
    with torch.no_grad():
        for i in range(0, len(whole) - 1, 16):
            window = whole[None, i : i + 17]
            metric.update(model.network(window[:, :-1]), window[:, 1:])
    assert found["val/perplexity"] == pytest.approx(float(metric.compute()), rel=1e-5)


@pytest.mark.parametrize(("context", "stride"), [(16, 4), (16, 16), (10, 3), (16, 1), (5, None)])
def test_a_stride_gives_every_token_its_context_as_by_brute_force(tmp_path, context, stride):
    data = corpus(grammar_characters=3000)
    model = build(data)
    fit(model, data, 20, tmp_path)
    callback = Perplexity(context=context, stride=stride)
    found = measure(model, data, callback, tmp_path)
    whole, step = sequence(data), stride or context
    nats, scored = 0.0, 0
    for begin in range(0, len(whole) - 1, step):  # as Hugging Face's guide to perplexity does it
        end = min(begin + context, len(whole) - 1)
        each = model.nll(whole[None, begin : end + 1])[0]
        new = end - scored
        nats, scored = nats + float(each[-new:].sum()), end
        if end == len(whole) - 1:
            break
    assert scored == len(whole) - 1
    suffix = "" if (context, step) == (16, 16) else f"_context{context}" + (f"_stride{step}" if step < context else "")
    assert set(found) == {f"val/{name}{suffix}" for name in ("loss", "perplexity", "bits_per_byte")}
    assert found[f"val/loss{suffix}"] == pytest.approx(nats / scored, rel=1e-5)


def test_the_batch_size_changes_nothing(tmp_path):
    data = corpus()
    model = build(data)
    values = [measure(model, data, Perplexity(batch_size=b), tmp_path) for b in (1, 7, 64, None)]
    for other in values[1:]:
        assert other == pytest.approx(values[0], rel=1e-7)


def test_a_mean_of_the_blocks_perplexities_is_another_number(tmp_path):
    """The control: what logging exp(loss) for each batch gives depends on the batches."""
    data = corpus()
    model = build(data)
    fit(model, data, 20, tmp_path)
    found = measure(model, data, Perplexity(), tmp_path)["val/perplexity"]
    naive = []
    for rows_at_once in (1, 7, 64):
        loader = WindowLoader(data.stream("val"), 16, 16, rows_at_once)
        each = [math.exp(model.nll(b.tokens)[b.scored].mean()) for b in loader]
        naive.append(sum(each) / len(each))
    assert len(data.stream("val").tokens) % 16  # a ragged tail
    assert min(abs(n - found) for n in naive) > 1e-3
    assert max(naive) - min(naive) > 1e-3


def test_a_text_without_the_split_is_refused_before_the_first_step(tmp_path):
    data = corpus(val_fraction=0)
    with pytest.raises(UserError, match="no val split"):
        fit(build(data), data, 3, tmp_path, [Perplexity()])
    assert not (tmp_path / "metrics.csv").exists()


def test_evaluates_on_schedule_once_and_leaves_training_alone(tmp_path):
    for folder, callbacks in (("with", [Perplexity(every=2)]), ("without", [])):
        data = corpus()
        model = build(data, dropout=0.3)
        fit(model, data, 5, tmp_path / folder, callbacks)
        assert model.network.training
    measured = [r["step"] for r in rows(tmp_path / "with") if "val/loss" in r]
    assert measured == [2, 4, 5]
    train = [[r["train/loss"] for r in rows(tmp_path / f) if "train/loss" in r] for f in ("with", "without")]
    assert train[0] == train[1]


def test_the_record_says_how_it_came_about(tmp_path):
    data = corpus()
    fit(build(data), data, 2, tmp_path, [Perplexity()])
    (record,) = (tmp_path / "eval").glob("*.json")
    content = json.loads(record.read_text(encoding="utf-8"))
    assert record.name == "step=00000002-val-perplexity.json"
    assert content["protocol"]["tokens"] == len(data.stream("val").tokens)
    assert content["protocol"]["reference"]["text_sha256"] == data.text_sha256
    assert content["protocol"]["reference"]["tokenizer_sha256"] == data.tokenizer.sha256
    assert content["floors"]["val/bits_per_byte"] == data.entropy_bits_per_byte
    nats = content["protocol"]["nats"]
    assert content["values"]["val/perplexity"] == math.exp(nats / content["protocol"]["tokens"])


def test_a_loss_beyond_floating_point_is_infinite_and_no_crash(tmp_path):
    data = corpus(grammar_characters=2000)
    model = build(data)
    with torch.no_grad():
        for p in model.network.parameters():
            p *= 1e4
    found = measure(model, data, Perplexity(), tmp_path)
    assert found["val/perplexity"] == math.inf or found["val/perplexity"] > 1e10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"context": 17}, "context: 17 was found, but the network takes at most 16"),
        ({"stride": 17}, "stride: 17 was found, at most the context of 16"),
        ({"context": 4, "stride": 5}, "stride: 5 was found, at most the context of 4"),
    ],
)
def test_windows_that_cannot_be_are_refused(tmp_path, options, words):
    data = corpus()
    with pytest.raises(UserError, match=words):
        measure(build(data), data, Perplexity(**options), tmp_path)


@pytest.mark.parametrize("options", [{"every": -1}, {"context": 0}, {"stride": 0}, {"batch_size": 0}])
def test_options_below_their_least_are_refused(options):
    with pytest.raises(UserError, match="Perplexity"):
        Perplexity(**options)


def test_data_without_tokens_are_refused(tmp_path):
    from support.gan import build as gan
    from support.gan import fit as fit_gan

    with pytest.raises(UserError, match="a language model and a text are expected"):
        fit_gan(gan(), 1, tmp_path, [Perplexity()])


def _trained(model, trainer, **parts):
    library = pytest.importorskip("tokenizers")
    made = library.Tokenizer(model)
    for name, part in parts.items():
        setattr(made, name, part)
    made.train_from_iterator(["the cat sat on the mat, the Dog did not. "] * 20, trainer)
    return made.to_str()


def _foreign(kind):
    """A ``tokenizer.json``, and a text that it does or does not hold."""
    library = pytest.importorskip("tokenizers")
    models, trainers, pre, normal, decoders = (
        library.models, library.trainers, library.pre_tokenizers, library.normalizers, library.decoders
    )  # fmt: skip
    byte_level = {"pre_tokenizer": pre.ByteLevel(add_prefix_space=False), "decoder": decoders.ByteLevel()}
    alphabet = pre.ByteLevel.alphabet()
    whole = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    few = trainers.BpeTrainer(vocab_size=40, show_progress=False)
    space = {"pre_tokenizer": pre.Metaspace(), "decoder": decoders.Metaspace()}
    return {
        "bytes": lambda: (_trained(models.BPE(), whole, **byte_level), "Any tëxt"),
        "letters that it has": lambda: (_trained(models.BPE(), few, **space), "the cat sat on the mat "),
        "NFC of what is NFC": lambda: (_trained(models.BPE(), whole, normalizer=normal.NFC(), **byte_level), "tëxt "),
        "lower case": lambda: (_trained(models.BPE(), whole, normalizer=normal.Lowercase(), **byte_level), "The Dog "),
        "dropped letters": lambda: (_trained(models.BPE(), few, **space), "the quick cat "),
        "unknown words": lambda: (
            _trained(
                models.WordLevel(unk_token="[UNK]"),
                trainers.WordLevelTrainer(special_tokens=["[UNK]"], show_progress=False),
                pre_tokenizer=pre.Whitespace(),
            ),
            "qzx wvk jjf ",
        ),
        "bytes that it lacks": lambda: (_trained(models.BPE(), few, **byte_level), "the xyz "),
        "NFKC": lambda: (_trained(models.BPE(), whole, normalizer=normal.NFKC(), **byte_level), "ﬁne x² "),
    }[kind]()


@pytest.mark.parametrize(
    ("kind", "documents"),
    [
        ("bytes", False),
        ("letters that it has", True),
        ("NFC of what is NFC", False),
        ("lower case", False),
        ("lower case", True),
        ("dropped letters", True),
        ("unknown words", False),
        ("bytes that it lacks", False),
        ("NFKC", True),
    ],
)
def test_bits_per_byte_only_where_the_tokens_hold_the_text(tmp_path, capsys, kind, documents):
    stored, text = _foreign(kind)
    (tmp_path / "t.json").write_text(stored, encoding="utf-8")
    for i in range(4 if documents else 1):
        (tmp_path / f"{i}.txt").write_text(f"{text * 30}{'' if documents else '.'}".strip(), encoding="utf-8")
    path = [f"{i}.txt" for i in range(4)] if documents else "0.txt"
    data = TextCorpus(path, tokenizer=str(tmp_path / "t.json"), block_size=4, batch_size=2, val_fraction=0.5)
    note.cache_clear()
    callback = Perplexity()
    found = measure(LanguageModel(Uniform(data.vocab_size)), data, callback, tmp_path)
    holds = kind in ("bytes", "letters that it has", "NFC of what is NFC")
    if kind in ("letters that it has", "NFC of what is NFC"):
        assert not data.tokenizer.exact  # found by decoding
    assert ("val/bits_per_byte" in found) == holds
    assert ("val/bits_per_byte" in {f"val/{name}" for name in callback.announced(data)}) == holds
    assert ("loses text (" in capsys.readouterr().err) == (not holds)
    if kind == "lower case":
        assert "'The Dog The Dog The ' comes back as 'the dog the dog the '" in data.stream("val").lost


def test_a_full_last_window_gives_its_tokens_all_the_context(tmp_path):
    data = corpus()
    model = build(data)
    found = measure(model, data, Perplexity(last_window="full"), tmp_path)
    tokens = sequence(data)
    n = len(tokens) - 1
    assert n % 16, "the last window is ragged"
    nats = 0.0
    for begin in range(0, n, 16):
        first = min(begin, n - 16)
        each = model.nll(tokens[None, first : first + 17])[0]
        nats += float(each[begin - first :].double().sum())
    assert found["val/loss_full"] == pytest.approx(nats / n, rel=1e-6)
    assert found["val/loss_full"] != measure(model, data, Perplexity(), tmp_path)["val/loss"]


def test_a_further_text_is_scored_as_if_it_were_the_data(tmp_path):
    """With the tokenizer of the data, before the first update and at each evaluation, in one record."""
    (tmp_path / "more.txt").write_text("".join(reversed(corpus().tokenizer.characters)) * 40, encoding="utf-8")
    data, also = corpus(), {"more": {"path": str(tmp_path / "more.txt"), "val_fraction": 0.25}}
    model = build(data)
    fit(model, data, 3, tmp_path / "run", [Perplexity(every=2, also=also)])
    assert [r["step"] for r in rows(tmp_path / "run") if "val/loss" in r and "val/more/loss" in r] == [0, 2, 3]
    records = [json.loads(p.read_text(encoding="utf-8")) for p in sorted((tmp_path / "run/eval").glob("*.json"))]
    assert [record["step"] for record in records] == [0, 2, 3]
    other = corpus(**also["more"])
    assert other.tokenizer.sha256 == data.tokenizer.sha256
    alone, of_data = (measure(model, each, Perplexity(), tmp_path) for each in (other, data))
    expected = of_data | {name.replace("/", "/more/"): value for name, value in alone.items()}
    assert records[-1]["values"] == pytest.approx(expected, rel=1e-9)
    assert records[-1]["protocol"]["also"]["more"]["reference"]["text_sha256"] == other.text_sha256
    untrained = measure(build(data), data, Perplexity(also=also), tmp_path)
    assert records[0]["values"] == pytest.approx(untrained, rel=1e-9)
    assert {f"val/{name}" for name in Perplexity(also=also).announced(data)} == expected.keys()


@pytest.mark.parametrize(("options", "steps"), [({}, [2]), ({"at_start": True}, [0, 2])])
def test_the_start_is_scored_if_it_is_asked_for(tmp_path, options, steps):
    fit(build(corpus()), corpus(), 2, tmp_path, [Perplexity(**options)], every=1)
    assert [r["step"] for r in rows(tmp_path) if "val/loss" in r] == steps
    later = tmp_path / "later"
    saved = tmp_path / "checkpoints/step=00000001.ckpt"
    fit(build(corpus()), corpus(), 2, later, [Perplexity(**options)], ckpt_path=saved)
    assert [r["step"] for r in rows(later) if "val/loss" in r] == [2]


@pytest.mark.parametrize(
    ("also", "message"),
    [
        ({"a b": "x"}, "Perplexity.also: 'a b' was found, a word as the name of a text is expected"),
        ({"more": "nowhere.txt"}, "Perplexity.also.more: data.path: nowhere.txt"),
        ({"more": {"paht": "grammar"}}, "Perplexity.also.more: options: 'paht' was found, one of path, .*did you mean"),
        ({"more": {"path": "grammar", "grammar_characters": 2000, "val_fraction": 0}}, "also.more: .*no val split"),
        (
            {"more": "embedded"},
            r"also.more: .*: the text has '.' at position [\d,]+, which is not one of the 33 characters",
        ),
    ],
)
def test_further_texts_that_cannot_be_scored(tmp_path, also, message):
    with pytest.raises(UserError, match=message):
        fit(build(corpus()), corpus(), 1, tmp_path, [Perplexity(also=also)])
