"""The data module of texts."""

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from support.texts import TEXT, put

from lit_gen.core.errors import UserError
from lit_gen.data.text.grammar import ENGLISH
from lit_gen.data.text.module import TextCorpus
from lit_gen.tokenizers.plain import CharTokenizer

# ---- the data module


def test_the_embedded_text_is_documents():
    topics = __import__("pydoc_data.topics").topics.topics
    data = TextCorpus(block_size=64, batch_size=4)
    data.prepare_data()
    assert data.name.startswith("python-topics-3.")
    assert data.vocab_size == len(set("".join(topics.values()))) + 1
    train, val = data.stream("train"), data.stream("val")
    end = data.tokenizer.end_of_text
    assert train.prefix == val.prefix == train.end_of_text == end
    assert train.documents + val.documents == len(topics) == (train.tokens == end).sum() + (val.tokens == end).sum()
    decoded = [data.tokenizer.decode(part) for part in np.split(train.tokens, np.flatnonzero(train.tokens == end) + 1)]
    assert decoded == [*(topics[name] for name in sorted(topics)[: train.documents]), ""]
    assert train.text_bytes + val.text_bytes == sum(len(text.encode()) for text in topics.values())
    assert 0.85 < train.characters / (train.characters + val.characters) < 0.95
    assert data.entropy_bits_per_byte is None
    assert data.files()
    assert all(path.is_file() for path in data.files())


def test_the_grammar_has_a_floor():
    data = TextCorpus("grammar", grammar_characters=20_000, seed=5)
    assert data.entropy_bits_per_byte == ENGLISH.entropy_bits_per_char
    train, val = data.stream("train"), data.stream("val")
    text = data.tokenizer.decode([*train.tokens, *val.tokens])
    assert text == ENGLISH.text(20_000)  # whatever the run's seed
    assert len(train) == int(0.9 * len(text))
    assert val.prefix == train.tokens[-1]
    assert train.prefix is None


def test_the_loaders_of_the_data_module(tmp_path):
    data = TextCorpus(put(tmp_path, "a.txt", TEXT), block_size=32, batch_size=4)
    batch = next(iter(data.train_dataloader()))
    assert batch.tokens.shape == (4, 33)
    assert data.per_step() == (128, "tokens")
    assert data.tokenizer.decode(batch.tokens[0].tolist()) in TEXT
    val = data.val_dataloader()
    assert (val.context, val.stride, val.rows) == (32, 32, 256)
    assert sum(int(b.scored.sum()) for b in val) == len(data.stream("val"))
    position = data.state_dict()
    assert position == {"step": 1, "tokens_per_step": 128}
    again = TextCorpus(put(tmp_path, "a.txt", TEXT), block_size=32, batch_size=4)
    again.load_state_dict(position)
    assert torch.equal(next(iter(again.train_dataloader())).tokens, list(data.train_dataloader())[1].tokens)
    other = TextCorpus(put(tmp_path, "a.txt", TEXT), block_size=32, batch_size=8)
    other.load_state_dict(position)
    with pytest.raises(UserError, match="a step takes 256 tokens now but took 128"):
        other.train_dataloader()
    other.allow_changes = True
    assert other.train_dataloader().step == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 1.5}, r"data\.val_fraction: 1\.5 was found, a number from 0 to below 1 is expected"),
        ({"val_fraction": -0.1}, r"data\.val_fraction: -0\.1 was found"),
        ({"block_size": 0}, r"data\.block_size: 0 was found, a whole number of at least 1"),
        ({"batch_size": 0}, r"data\.batch_size: 0 was found"),
        ({"workers": 0}, r"data\.workers: 0 was found"),
        ({"grammar_characters": 0}, r"data\.grammar_characters: 0 was found"),
        ({"bpe_vocab_size": 255}, r"data\.bpe_vocab_size: 255 was found, a whole number of at least 256"),
        ({"tokenizer": "bytes"}, r"data\.tokenizer: bytes was found; char, byte, bpe.*did you mean 'byte'"),
        ({"path": ["nowhere.txt", "grammar"]}, r"data\.path: grammar was found in a list.* cannot stand in a list"),
        ({"val_path": ["embedded"]}, r"data\.val_path: embedded was found in a list.* cannot stand in a list"),
        ({"path": "nowhere.txt"}, r"data\.path: nowhere\.txt was not found"),
        ({"val_path": "nowhere.txt"}, r"data\.val_path: nowhere\.txt was not found"),
        ({"test_path": "nowhere.txt"}, r"data\.test_path: nowhere\.txt was not found"),
    ],
)
def test_wrong_options_are_refused_by_name(options, message):
    with pytest.raises(UserError, match=message):
        TextCorpus(**options)


# ---- what is trained on and held out


def test_the_floor_is_that_of_the_split(tmp_path):
    path = put(tmp_path, "a.txt", TEXT)
    data = TextCorpus("grammar", grammar_characters=5000, test_path=path)
    floor = ENGLISH.entropy_bits_per_char
    assert [data.entropy(split) for split in ("train", "val", "test")] == [floor, floor, None]
    data = TextCorpus(path, test_path="grammar", grammar_characters=5000)
    assert [data.entropy(split) for split in ("train", "val", "test")] == [None, None, floor]


# ---- where training continues


class Seen(LightningModule):
    """Records which crops it is trained on."""

    def __init__(self):
        super().__init__()
        self.layer, self.tokens = torch.nn.Linear(1, 1), []

    def training_step(self, batch, batch_idx):
        self.tokens.append(batch.tokens.tolist())
        return self.layer(torch.ones(1)).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fitted(data, epochs, checkpoint=None, save=None, **options):
    module, quiet = Seen(), {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, limit_val_batches=0,
        enable_checkpointing=False, **quiet, **options,
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=checkpoint)
    if save:
        trainer.save_checkpoint(save)
    return module.tokens


@pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::lightning.fabric.utilities.rank_zero.LightningDeprecationWarning"
)
@pytest.mark.parametrize("limit", [None, 4])
def test_a_loader_that_is_made_anew_goes_on(tmp_path, limit):
    path = put(tmp_path, "a.txt", TEXT)

    def fresh():
        return TextCorpus(path, block_size=128, batch_size=4)

    expected = fitted(fresh(), 4, limit_train_batches=limit)
    assert len(expected) == 4 * (limit or 20)
    assert len({str(tokens) for tokens in expected}) == len(expected)
    again = {"reload_dataloaders_every_n_epochs": 1, "limit_train_batches": limit}
    assert fitted(fresh(), 4, **again) == expected
    half, data = str(tmp_path / "half.ckpt"), fresh()
    assert fitted(data, 2, save=half, **again) == expected[: len(expected) // 2]
    for resumed in (fresh(), data):  # in the same process too
        assert fitted(resumed, 4, checkpoint=half, **again) == expected[len(expected) // 2 :]
    data.load_state_dict({"step": 1, "tokens_per_step": 1024})  # as testing a checkpoint does
    assert fitted(data, 1, limit_train_batches=limit) == expected[: len(expected) // 4]  # a new fit


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_text_that_has_changed_is_not_trained_on(tmp_path):
    data = TextCorpus(put(tmp_path, "a.txt", TEXT), block_size=128, batch_size=4)
    data.adopt_tokenizer(CharTokenizer("ab").to_json(), "another text")  # that lacks its characters
    with pytest.raises(UserError, match=r"a\.txt is not the text that the model was trained on \(sha256 anot"):
        fitted(data, 1)


def test_a_further_text_is_read_once():
    data = TextCorpus(path="grammar", grammar_characters=20_000, block_size=16, batch_size=2)
    options = {"path": "grammar", "grammar_characters": 30_000}
    other = data.beside(options)
    assert data.beside(dict(options)) is other
    assert data.beside({"path": "grammar", "grammar_characters": 40_000}) is not other
    assert other.tokenizer.sha256 == data.tokenizer.sha256
