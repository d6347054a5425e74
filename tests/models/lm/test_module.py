"""The training step of a language model as a system: what is counted, averaged, saved and refused."""

import functools
import math

import pytest
import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping
from support.fitting import fit, rows
from support.lm import ADAMW, build, corpus
from torch.utils.data import DataLoader

import lit_gen.runs.opened
from lit_gen.callbacks.evaluators.perplexity import Perplexity
from lit_gen.core.errors import NonFiniteLossError, UserError
from lit_gen.data.text.module import TextCorpus
from lit_gen.models.lm.lstm import LSTM
from lit_gen.models.lm.module import LanguageModel
from lit_gen.models.lm.transformer import Transformer
from lit_gen.protocols.text import TokenBatch
from lit_gen.training import schedules
from lit_gen.training.optimizers import MuonAdamW


def test_the_first_loss_is_that_of_a_uniform_guess(tmp_path):
    data = corpus()
    fit(build(data), data, 1, tmp_path)
    (row,) = rows(tmp_path)
    assert row["train/loss"] == pytest.approx(math.log(data.vocab_size), abs=0.1)
    assert row["step"] == 1
    assert row["train/tokens_seen"] == 128


def test_the_logged_loss_is_the_mean_since_the_last_entry(tmp_path):
    for folder, every in (("each", 1), ("some", 3)):
        data = corpus()
        fit(build(data), data, 6, tmp_path / folder, log_every=every)
    each = [row["train/loss"] for row in rows(tmp_path / "each")]
    some = [row["train/loss"] for row in rows(tmp_path / "some")]
    assert some == pytest.approx([sum(each[:3]) / 3, sum(each[3:]) / 3])


def test_micro_batches_are_one_batch(tmp_path):
    ends = []
    for folder, most in (("one", None), ("four", 2)):
        data = corpus(batch_size=8, device_batch_size=most)
        model = build(data, functools.partial(torch.optim.SGD, lr=0.5), dropout=0.0)
        trainer = fit(model, data, 5, tmp_path / folder, gradient_clip_val=1.0)
        assert trainer.global_step == 5
        assert (tmp_path / folder / "checkpoints/step=00000005.ckpt").is_file()
        ends.append(model.network.state_dict())
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=1e-5, atol=1e-6, msg=name)
    one, four = (rows(tmp_path / folder) for folder in ("one", "four"))
    assert [r["step"] for r in four] == [1, 2, 3, 4, 5]
    for a, b in zip(one, four, strict=True):
        assert b == pytest.approx(a, rel=1e-4)


@pytest.mark.parametrize("optimizer", [ADAMW, functools.partial(MuonAdamW, lr=3e-3)], ids=["adamw", "muon"])
def test_a_resumed_run_ends_as_the_undisturbed_one(tmp_path, optimizer):
    schedule = schedules.Cosine(1.0, 0.0, steps=6, warmup=2)
    options = {"gradient_clip_val": 0.5, "log_every": 3}

    def made():
        data = corpus(batch_size=4, device_batch_size=2)
        return build(data, optimizer, dropout=0.2, schedule=schedule), data

    whole, data = made()
    fit(whole, data, 8, tmp_path / "whole", **options)
    first, data = made()
    fit(first, data, 4, tmp_path / "parts", **options)  # between two log entries
    second, data = made()
    torch.manual_seed(99)
    fit(second, data, 8, tmp_path / "parts", ckpt_path=tmp_path / "parts/checkpoints/step=00000004.ckpt", **options)
    for (name, a), b in zip(whole.network.named_parameters(), second.network.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_the_schedule_is_a_factor_of_every_groups_rate(tmp_path):
    seen = []

    class Watch(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            seen.append({g["name"]: g["lr"] for g in optimizer.param_groups})

    data = corpus()
    schedule = schedules.Linear(1.0, 0.0, steps=4, warmup=2)
    fit(
        build(data, functools.partial(MuonAdamW, lr=0.1, matrix_lr=0.2), schedule=schedule),
        data,
        5,
        tmp_path,
        [Watch()],
    )
    factors = [0.5, 1.0, 1.0, 0.75, 0.5]
    for rates, factor in zip(seen, factors, strict=True):
        assert rates == pytest.approx({"matrices": 0.2 * factor, "embeddings": 0.1 * factor, "vectors": 0.1 * factor})
    assert [r["train/lr"] for r in rows(tmp_path)] == pytest.approx([0.2 * f for f in factors])


def test_the_gradient_norm_is_the_one_before_clipping(tmp_path):
    norms = []
    for clip in (None, 1e-3):
        data = corpus()
        fit(build(data), data, 1, tmp_path / str(clip), gradient_clip_val=clip)
        norms.append(rows(tmp_path / str(clip))[0]["train/gradient_norm"])
    assert norms[0] == norms[1] > 0.01


def test_decay_spares_biases_and_norms(tmp_path):
    data = corpus()
    model = build(data, functools.partial(torch.optim.SGD, lr=0.1, weight_decay=1.0))
    for p in model.network.parameters():
        p.data += 1.0
        p.register_hook(torch.zeros_like)
    fit(model, data, 1, tmp_path)
    changed = {name for name, p in model.network.named_parameters() if p.ndim >= 2}
    for name, p in model.network.named_parameters():
        fresh = dict(build(data).network.named_parameters())[name] + 1.0
        assert torch.equal(p, fresh) == (name not in changed), name


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    data = corpus()
    model = build(data, functools.partial(torch.optim.SGD, lr=1e30))
    with pytest.raises(NonFiniteLossError, match="became NaN or infinite at step"):
        fit(model, data, 20, tmp_path)


def test_a_checkpoint_alone_rebuilds_the_model_and_its_tokenizer(tmp_path):
    data = corpus()
    model = build(data, dropout=0.1, schedule=schedules.Cosine(1.0, 0.1, steps=3))
    fit(model, data, 3, tmp_path)
    run = lit_gen.runs.opened.load(tmp_path / "checkpoints/step=00000003.ckpt")
    opened = run.model
    assert run.write(["the "], max_new_tokens=5) == opened.write(["the "], max_new_tokens=5)
    with pytest.raises(UserError, match="does not draw images"):
        run.sample(1)
    assert opened.tokenizer.sha256 == data.tokenizer.sha256
    assert opened.corpus == data.text_sha256
    assert opened.write(["the "], n=2, max_new_tokens=20) == model.write(["the "], n=2, max_new_tokens=20)
    assert isinstance(opened.schedule, schedules.Cosine)


@pytest.mark.parametrize("case", ["tail", "own file", "bf16"])
def test_the_validation_loop_gives_what_the_callback_does(tmp_path, case):
    (tmp_path / "other.txt").write_text("The dog sings.\n" * 40, encoding="utf-8")
    options = {"val_path": str(tmp_path / "other.txt")} if case == "own file" else {}
    loop = {"limit_val_batches": 1.0, "val_check_interval": 2, "check_val_every_n_epoch": None}
    if case == "bf16":
        loop["precision"] = "bf16-mixed"
    found = []
    for folder, callbacks in (("loop", []), ("both", [Perplexity()])):
        data = corpus(**options)
        trainer = fit(build(data, dropout=0.5), data, 2, tmp_path / folder, callbacks, **loop)
        found.append(float(trainer.callback_metrics["val/loss"]))
        assert sum("val/loss" in row for row in rows(tmp_path / folder)) == 1
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_a_part_of_the_validation_text_has_another_name(tmp_path, monkeypatch):
    monkeypatch.setattr("lit_gen.data.text.module.BLOCK_TOKENS", 64)
    data = corpus()
    fit(build(data), data, 2, tmp_path, limit_val_batches=1, val_check_interval=2, check_val_every_n_epoch=None)
    assert "val/loss_partial" in rows(tmp_path)[-1]
    assert not any("val/loss" in row for row in rows(tmp_path))


def test_early_stopping_hears_of_the_callbacks_loss(tmp_path):
    data = corpus()
    stop = EarlyStopping("val/loss", min_delta=100.0, patience=1)
    loop = {"limit_val_batches": 1.0, "val_check_interval": 2, "check_val_every_n_epoch": None}
    assert fit(build(data), data, 20, tmp_path, [Perplexity(), stop], **loop).global_step == 4


def test_mixed_precision_trains(tmp_path):
    data = corpus()
    fit(build(data), data, 3, tmp_path, precision="bf16-mixed")
    assert all(math.isfinite(r["train/loss"]) for r in rows(tmp_path))


@pytest.mark.slow  # the compiler takes its time
def test_a_compiled_network_has_the_same_checkpoint_and_loss(tmp_path):
    for folder, compiled in (("eager", False), ("compiled", True)):
        data = corpus()
        fit(build(data, compiled=compiled), data, 3, tmp_path / folder)
    eager, compiled = (torch.load(tmp_path / f / "checkpoints/step=00000003.ckpt") for f in ("eager", "compiled"))
    assert list(eager["state_dict"]) == list(compiled["state_dict"])
    assert rows(tmp_path / "compiled")[-1]["train/loss"] == pytest.approx(
        rows(tmp_path / "eager")[-1]["train/loss"], rel=1e-4
    )


def test_an_lstm_trains_by_the_same_steps(tmp_path):
    data = corpus()
    model = build(data, network=LSTM(data.vocab_size, n_layer=1, n_embd=16, hidden=16))
    fit(model, data, 30, tmp_path)
    losses = [r["train/loss"] for r in rows(tmp_path)]
    assert losses[-1] < losses[0] - 0.3


def test_a_vocabulary_that_does_not_fit_is_refused(tmp_path):
    data = corpus()
    network = Transformer(data.vocab_size + 1, 16, n_layer=1, n_head=1, n_embd=8)
    with pytest.raises(UserError, match=f"vocab_size: {data.vocab_size + 1} was found, but the tokenizer char"):
        fit(build(data, network=network), data, 1, tmp_path)


def test_a_padded_embedding_is_told(tmp_path, capfd):
    data = corpus(tokenizer="bpe", bpe_vocab_size=317)
    network = Transformer(320, 16, n_layer=1, n_head=1, n_embd=8)
    fit(build(data, network=network), data, 1, tmp_path)
    assert "vocab_size: 320 ids, 3 more than the tokenizer bpe" in capfd.readouterr().err
    data = corpus(tokenizer="bpe", bpe_vocab_size=300)
    with pytest.raises(UserError, match=r"320 was found, but the tokenizer bpe300.* has 300 ids"):
        fit(build(data, network=network), data, 1, tmp_path)


def test_a_context_that_the_network_cannot_take_is_refused(tmp_path):
    data = corpus()
    network = Transformer(data.vocab_size, 8, n_layer=1, n_head=1, n_embd=8)
    with pytest.raises(UserError, match="block_size: 16 was found, but the network takes at most 8"):
        fit(build(data, network=network), data, 1, tmp_path)


def test_a_trainer_that_adds_up_gradients_is_refused(tmp_path):
    data = corpus()
    with pytest.raises(UserError, match=r"accumulate_grad_batches: 2 was found, .*: set data\.batch_size"):
        fit(build(data), data, 4, tmp_path, accumulate_grad_batches=2)


def test_another_tokenizer_than_the_models_is_refused(tmp_path):
    data = corpus()
    model = build(data)
    fit(model, data, 1, tmp_path / "one")
    (tmp_path / "other.txt").write_text("".join(map(chr, range(200, 200 + data.vocab_size))) * 40, encoding="utf-8")
    other = TextCorpus(str(tmp_path / "other.txt"), block_size=16, batch_size=2)
    assert other.vocab_size == data.vocab_size
    with pytest.raises(UserError, match="the model was trained with char"):
        fit(model, other, 2, tmp_path / "two")
    with pytest.raises(UserError, match="the model was trained with char"):
        Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).validate(model, other, verbose=False)


class Own(LightningDataModule):
    """A data module of somebody else's."""

    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def train_dataloader(self):
        return DataLoader([self.batch] * 4, batch_size=None, collate_fn=lambda batch: batch)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_data_of_ones_own_need_only_batches_of_tokens(tmp_path):
    tokens = torch.arange(34).view(2, 17) % 9
    model = LanguageModel(Transformer(9, 16, n_layer=1, n_head=2, n_embd=16))
    fit(model, Own(TokenBatch(tokens, None, torch.arange(2))), 4, tmp_path)
    assert len(rows(tmp_path)) == 4
    with pytest.raises(UserError, match=r"a batch was int64 \(2, 17\), lit_gen.protocols.text.TokenBatch is expected"):
        fit(model, Own(tokens), 8, tmp_path)
    with pytest.raises(UserError, match="the token 9 was found, 0 to 8 are expected"):
        fit(model, Own(TokenBatch(tokens + 1, None, torch.arange(2))), 8, tmp_path)


def test_a_network_that_could_not_write_is_refused():
    class Net(torch.nn.Linear):
        vocab_size = 5

    with pytest.raises(UserError, match=r"Net \(.*\) lacks block_size"):
        LanguageModel(Net(1, 1))


def test_a_network_without_a_vocabulary_is_refused():
    with pytest.raises(UserError, match="Linear has no whole number vocab_size"):
        LanguageModel(torch.nn.Linear(1, 1))


def test_an_optimizer_that_cannot_be_made_is_named(tmp_path):
    data = corpus()
    with pytest.raises(UserError, match=r"model\.optimizer: .*learning rate"):
        fit(build(data, functools.partial(torch.optim.AdamW, lr=-1.0)), data, 1, tmp_path)


def test_a_markov_source_is_approached_and_never_undercut(tmp_path):
    """Its entropy rate is known: a loss below it would mean that the network sees what it is to predict."""
    generator = torch.Generator().manual_seed(0)
    transitions = torch.rand((6, 6), generator=generator).pow(3)
    transitions /= transitions.sum(1, keepdim=True)
    states = [0]
    for uniform in torch.rand(40_000, generator=generator):
        states.append(int((transitions[states[-1]].cumsum(0) < uniform).sum().clamp(max=5)))
    (tmp_path / "chain.txt").write_text("".join("abcdef"[s] for s in states), encoding="utf-8")
    stationary = torch.linalg.matrix_power(transitions, 200)[0]
    entropy = float((stationary * torch.distributions.Categorical(transitions).entropy()).sum())

    data = TextCorpus(str(tmp_path / "chain.txt"), block_size=16, batch_size=32)
    model = build(data, functools.partial(torch.optim.AdamW, lr=1e-2))
    fit(model, data, 250, tmp_path, [Perplexity()], log_every=50)
    loss = rows(tmp_path)[-1]["val/loss"]
    held_out = torch.tensor(states[-4001:])
    nats = -transitions[held_out[:-1], held_out[1:]].log()  # what the source itself scores on this text
    error = float(nats.std()) / len(nats) ** 0.5
    assert float(nats.mean()) == pytest.approx(entropy, abs=4 * error)
    assert float(nats.mean()) - error < loss < float(nats.mean()) * 1.02


def test_one_batch_is_learned_by_heart(tmp_path):
    (tmp_path / "short.txt").write_text("It was the best of times, it was the worst.", encoding="utf-8")
    data = TextCorpus(str(tmp_path / "short.txt"), block_size=16, batch_size=8, val_fraction=0)
    model = build(data, functools.partial(torch.optim.AdamW, lr=1e-2))
    fit(model, data, 300, tmp_path)
    text = torch.tensor([data.tokenizer.encode("It was the best o")])
    assert float(model.nll(text)[0, 4:].mean()) < 0.02
