"""A fit that begins with another run's weights."""

import functools

import pytest
import torch
from support import lm
from support.adapters import fit, move

from lit_gen.core.errors import UserError
from lit_gen.models.lm.transformer import Transformer
from lit_gen.runs.opened import load
from lit_gen.training.adapters.lora import LoRA
from lit_gen.training.ema import EMA

STILL = functools.partial(torch.optim.SGD, lr=0.0)


def adapted(base, data=None, **options):
    adapter = LoRA(r=2, target_modules=["qkv"], base=str(base), **options)
    return move(lm.build(data or lm.corpus(), STILL, adapter=adapter, ema=EMA(decay=0.5)), scale=0)


@pytest.fixture
def base(tmp_path):
    """A run with an average, of other weights than those that a new model begins with."""
    model, data = lm.build(lm.corpus(), ema=EMA(decay=0.5)), lm.corpus()
    fit(model, data, tmp_path / "base")
    return next((tmp_path / "base/checkpoints").glob("*.ckpt")), model


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_it_begins_with_the_averaged_weights_and_needs_the_run_once(base, dora, tmp_path):
    file, trained = base
    model = adapted(file, use_dora=dora)
    fit(model, lm.corpus(), tmp_path / "run")
    tokens = torch.arange(9)[None]
    for weights in ("ema", "raw"):
        torch.testing.assert_close(model.nll(tokens, weights), trained.nll(tokens, "ema"), rtol=1e-5, atol=1e-5)
    assert not torch.equal(trained.nll(tokens, "raw"), trained.nll(tokens, "ema"))
    file.unlink()
    again = load(next((tmp_path / "run/checkpoints").glob("*.ckpt"))).model
    torch.testing.assert_close(again.nll(tokens), model.nll(tokens))
    move(again.network)
    expected = again.nll(tokens, "raw")
    again.optimizer = STILL
    fit(again, lm.corpus(), tmp_path / "more")
    torch.testing.assert_close(again.nll(tokens, "raw"), expected)  # a second fit goes on


def test_bases_that_do_not_fit(base, tmp_path):
    file, _ = base
    network = Transformer(lm.corpus().vocab_size, 16, n_layer=1, n_head=2, n_embd=8)
    other = lm.build(lm.corpus(), network=network, adapter=LoRA(r=2, base=str(file)))
    with pytest.raises(UserError, match=r"adapter.base: .* holds \(\d+, 16\) for network.wte.weight, where this model"):
        fit(other, lm.corpus(), tmp_path / "run")
    with pytest.raises(
        UserError, match=r"^model.adapter.base: .*nowhere does not exist; a checkpoint or a run directory is expected"
    ):
        fit(adapted(tmp_path / "nowhere"), lm.corpus(), tmp_path / "run")


def test_a_base_whose_weights_are_not_finite_is_refused_and_which_are_taken_is_told(base, tmp_path, capfd):
    file, _ = base
    fit(adapted(file), lm.corpus(), tmp_path / "run")
    assert f"model.adapter.base: the averaged weights of {file}" in capfd.readouterr().err
    content = torch.load(file, weights_only=True)
    content["state_dict"]["ema_network.wte.weight"][0, 0] = float("nan")
    torch.save(content, file)
    with pytest.raises(UserError, match=r"^model.adapter.base: .*wte.weight is NaN or infinite"):
        fit(adapted(file), lm.corpus(), tmp_path / "run")


def test_a_base_of_another_tokenizer(base, tmp_path):
    file, _ = base
    text = "".join(sorted(set(lm.corpus().tokenizer.decode(range(lm.corpus().vocab_size)).upper())))
    path = tmp_path / "other.txt"
    path.write_text((text + "".join(map(chr, range(0x400, 0x440))))[: lm.corpus().vocab_size] * 200, encoding="utf-8")
    data = lm.corpus(path=str(path))
    assert data.vocab_size == lm.corpus().vocab_size
    with pytest.raises(UserError, match="but the model was trained with"):
        fit(adapted(file, data), data, tmp_path / "run")
