"""Training on responses: the mean over all scored tokens of the total batch, whatever it is divided into."""

import functools
import math

import pytest
import torch
from support.fitting import fit, rows
from support.instructed import PAIRS, build, data, put, response_nats
from torch.nn import functional as F

import lit_gen.runs.opened
from lit_gen.callbacks.evaluators.perplexity import Perplexity
from lit_gen.core.errors import UserError
from lit_gen.models.lm.lstm import LSTM
from lit_gen.models.lm.module import LanguageModel


def loop(model, of):
    found = list(response_nats(model.network, of))
    return sum(nats for nats, _ in found) / sum(count for _, count in found)


@pytest.mark.parametrize("options", [{}, {"packing": False, "batch_size": 60}])
def test_the_loss_is_the_mean_over_the_responses_of_the_batch(tmp_path, options):
    """All documents in one batch: the loss of the first step is that of a loop over them."""
    of = data(val_fraction=0.0, **options)
    if of.packing:
        of.batch_size = of.train_dataloader()._end(0)
    model = build(of)
    wanted = loop(model, of.stream("train").documents)
    fit(model, of, 1, tmp_path)
    (row,) = rows(tmp_path)
    assert row["train/loss"] == pytest.approx(wanted, rel=1e-5)


def test_micro_batches_of_unequal_responses_make_the_same_step(tmp_path):
    states, losses = [], []
    for most in (None, 2, 1):
        of = data(device_batch_size=most)
        model = build(of)
        fit(model, of, 3, tmp_path / str(most))
        states.append(model.state_dict())
        losses.append([row["train/loss"] for row in rows(tmp_path / str(most))])
    for state, loss in zip(states[1:], losses[1:], strict=True):
        assert loss == pytest.approx(losses[0], rel=1e-5)
        for name, value in state.items():
            torch.testing.assert_close(value, states[0][name], rtol=0, atol=2e-6, msg=name)


def test_smoothing_is_of_the_training_loss_only(tmp_path):
    of = data(packing=False, batch_size=1, val_fraction=0.0, tasks=2, block_size=40)
    model = build(of, label_smoothing=0.1)
    batch = next(iter(of.train_dataloader()))
    with torch.no_grad():
        logs = F.log_softmax(model.network(batch.tokens[:, :-1]), -1)[batch.scored]
    target = torch.full_like(logs, 0.1 / of.vocab_size)
    target[torch.arange(len(logs)), batch.tokens[:, 1:][batch.scored]] += 0.9
    plain = float(model.nll(batch.tokens)[batch.scored].mean())
    fit(model, of, 1, tmp_path)
    (row,) = rows(tmp_path)
    assert row["train/loss"] == pytest.approx(float(-(target * logs).sum(-1).mean()), rel=1e-5)
    assert row["train/loss"] != pytest.approx(plain, rel=1e-3)


def test_perplexity_is_of_the_responses_and_the_same_in_any_blocks(tmp_path):
    found = []
    for rows_at_once in (None, 1, 5):
        of = data()
        model = build(of, functools.partial(torch.optim.SGD, lr=0.0))
        trainer = fit(model, of, 1, tmp_path / str(rows_at_once), [Perplexity(batch_size=rows_at_once)])
        found.append({name: float(value) for name, value in trainer.callback_metrics.items() if "val/" in name})
    stream = of.stream("val")
    wanted = loop(model, stream.documents)
    for values in found:
        assert values["val/loss"] == pytest.approx(wanted, rel=1e-5)
        assert values["val/perplexity"] == pytest.approx(math.exp(wanted), rel=1e-4)
    answers = [answer for one in of.splits["val"] for answer in one.answers]
    assert stream.text_bytes == sum(map(len, answers))
    assert len(stream) == stream.text_bytes + len(answers)  # characters, and an end of each


def test_the_modules_own_validation_is_the_same_number(tmp_path):
    of = data()
    model = build(of, functools.partial(torch.optim.SGD, lr=0.0))
    fit(model, of, 1, tmp_path, limit_val_batches=1.0, val_check_interval=1)
    (value,) = [row["val/loss"] for row in rows(tmp_path) if "val/loss" in row]
    assert value == pytest.approx(loop(model, of.stream("val").documents), rel=1e-5)


def test_an_lstm_refuses_packed_rows_and_learns_from_single_ones(tmp_path):
    of = data()
    with pytest.raises(UserError, match=r"data.packing: true was found, but .*LSTM takes no documents"):
        fit(LanguageModel(LSTM(of.vocab_size, n_embd=8)), of, 1, tmp_path / "packed")
    of = data(packing=False)
    fit(LanguageModel(LSTM(of.vocab_size, n_embd=8)), of, 2, tmp_path / "single")
    assert len(rows(tmp_path / "single")) == 2


def test_a_checkpoint_has_the_form_of_conversations(tmp_path):
    of = data(path=put(tmp_path / "pairs.jsonl", PAIRS), template="Q: {prompt} A:{response}")
    fit(build(of), of, 1, tmp_path)
    (checkpoint,) = (tmp_path / "checkpoints").glob("*.ckpt")
    model = lit_gen.runs.opened.load(checkpoint).model
    prompt = model.chat.prompt([{"role": "user", "content": "say 1 twice"}])
    assert prompt == "Q: say 1 twice A:"
    assert model.chat.ends == {of.tokenizer.end_of_text}
    assert model.write([prompt], max_new_tokens=5) == model.write([prompt], max_new_tokens=5)


def test_a_resumed_run_reads_the_same_rows(tmp_path):
    whole, parts = data(), data()
    model = build(whole)
    fit(model, whole, 9, tmp_path / "whole")
    again = build(parts)
    fit(again, parts, 4, tmp_path / "parts")
    (checkpoint,) = (tmp_path / "parts/checkpoints").glob("*4.ckpt")
    parts = data()
    fit(again, parts, 9, tmp_path / "rest", ckpt_path=checkpoint)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
