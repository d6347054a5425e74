"""Transformer and LSTM: laws of every causal network, closed forms, and other people's implementations."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from lit_gen.core.errors import UserError
from lit_gen.models.lm.huggingface.names import GPT2_NAMES
from lit_gen.models.lm.layers import RMSNorm, alibi_slopes, rotate, turns
from lit_gen.models.lm.lstm import LSTM
from lit_gen.models.lm.masks import visible
from lit_gen.models.lm.transformer import Transformer
from lit_gen.training.hparams import describe

V, SIZE = 11, 12
GPT2 = {"n_layer": 2, "n_head": 4, "n_embd": 16}
LLAMA = {"positions": "rotary", "norm": "rms", "activation": "swiglu", "bias": False, "tied": False}
OPTIONS = {
    "gpt2": {},
    "llama": {**LLAMA, "n_kv_head": 2},
    "alibi": {"positions": "alibi", "activation": "gelu", "norm": "rms"},
    "alibi-gqa-untied": {"positions": "alibi", "n_kv_head": 1, "tied": False, "bias": False},
    "learned-gqa-qk": {"n_kv_head": 2, "qk_norm": True, "softcap": 5.0, "activation": "relu2"},
    "rotary-qk": {"positions": "rotary", "qk_norm": True, "norm": "rms", "hidden": 20},
    "zero": {"init": "zero", "tied": False, "activation": "swiglu"},
    "three-heads": {"positions": "alibi", "n_head": 3, "n_embd": 18},
    "dropout": {"positions": "rotary", "dropout": 0.3},
}
NETWORKS = {name: (Transformer, {"block_size": SIZE, **GPT2, **options}) for name, options in OPTIONS.items()}
NETWORKS |= {
    "lstm": (LSTM, {"n_embd": 8, "hidden": 10}),
    "lstm-tied": (LSTM, {"n_embd": 8, "tied": True, "n_layer": 1}),
    "lstm-dropout": (LSTM, {"n_embd": 8, "dropout": 0.3}),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def build(name):
    """A network in evaluation mode whose every parameter is far from where it started."""
    cls, options = NETWORKS[name]
    torch.manual_seed(0)
    network = cls(V, **options).eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return network


def text(*shape, size=V):
    return torch.randint(size, shape, generator=torch.Generator().manual_seed(1))


def mean_nll(network, tokens):
    return F.cross_entropy(network(tokens[:, :-1]).transpose(1, 2), tokens[:, 1:])


# ---- laws of every network


@every_network
def test_every_parameter_gets_a_finite_gradient(name):
    network = build(name).train()
    mean_nll(network, text(4, SIZE + 1)).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


@every_network
def test_described_saved_and_loaded(name):
    network = build(name)
    described = describe(network, "network")
    again = type(network)(**described["init_args"]).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(text(2, SIZE)), network(text(2, SIZE)))
    assert describe(again, "network") == described
    assert described["init_args"] == described["init_args"] | NETWORKS[name][1]
    assert len({p.data_ptr() for p in network.state_dict().values()}) == len(network.state_dict())  # a tied head once


@every_network
@pytest.mark.parametrize("length", [1, 2, 7, SIZE])
def test_evaluation_is_deterministic_and_takes_any_length(name, length):
    network = build(name)
    logits = network(text(3, length))
    assert logits.shape == (3, length, V)
    assert torch.equal(logits, network(text(3, length)))


@every_network
def test_no_token_sees_a_later_one(name):
    network, tokens = build(name), text(2, SIZE)
    logits = network(tokens)
    for t in range(1, SIZE):
        changed = tokens.clone()
        changed[:, t] = (changed[:, t] + 1) % V
        now = network(changed)
        assert torch.equal(now[:, :t], logits[:, :t])
        assert (now[:, t:] != logits[:, t:]).reshape(2, SIZE - t, V).any(-1).all()  # and all from t on do


@every_network
def test_no_gradient_reaches_a_later_token(name):
    network, embedded = build(name), []

    def keep(module, inputs, out):
        embedded.append(out.requires_grad_())
        embedded[0].retain_grad()

    network.wte.register_forward_hook(keep)
    network(text(2, SIZE))[:, 4].square().sum().backward()
    gradient = embedded[0].grad.abs().sum(-1)  # (B, T)
    assert (gradient[:, 5:] == 0).all()
    assert (gradient[:, :5] > 0).all()


@every_network
def test_a_batch_is_its_rows(name):
    network, tokens = build(name), text(5, SIZE)
    alone = torch.cat([network(row[None]) for row in tokens])
    torch.testing.assert_close(network(tokens), alone, rtol=1e-5, atol=1e-5)


@every_network
@pytest.mark.parametrize("chunks", [(1,) * SIZE, (5, 4, 3), (SIZE,), (2, 1, 8, 1)])
@torch.no_grad()
def test_with_a_cache_as_without(name, chunks):
    network, tokens = build(name), text(3, SIZE)
    cache = network.new_cache(3)
    parts = [network(part, cache) for part in tokens.split(list(chunks), dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), network(tokens), rtol=1e-5, atol=1e-5)
    assert cache.lengths.tolist() == [SIZE] * 3


@every_network
@torch.no_grad()
def test_rows_of_unequal_length_do_not_mind_padding(name):
    """Chunks with 0 to all of their tokens real; the longest row ends at the last slot there is."""
    network, tokens = build(name), text(4, SIZE)
    wanted, cache, seen = network(tokens), network.new_cache(4), torch.zeros(4, dtype=torch.int64)
    for width, lengths in [(5, [5, 1, 3, 0]), (4, [4, 2, 4, 1]), (1, None), (4, [2, 0, 4, 1]), (1, [0, 1, 0, 1])]:
        real = torch.full((4,), width) if lengths is None else torch.tensor(lengths)
        chunk = torch.full((4, width), V - 1)
        for row, (start, n) in enumerate(zip(seen.tolist(), real.tolist(), strict=True)):
            chunk[row, :n] = tokens[row, start : start + n]
        logits = network(chunk, cache, None if lengths is None else real)
        assert torch.isfinite(logits).all()  # padding's too
        for row, (start, n) in enumerate(zip(seen.tolist(), real.tolist(), strict=True)):
            torch.testing.assert_close(logits[row, :n], wanted[row, start : start + n], rtol=1e-5, atol=1e-5)
        seen += real
        assert torch.equal(cache.lengths, seen)
    assert seen.max() == SIZE
    assert seen.min() < SIZE


@every_network
@torch.no_grad()
def test_rows_of_a_cache_are_taken_and_put(name):
    network, tokens = build(name), text(3, SIZE)
    wanted, cache = network(tokens), network.new_cache(3)
    network(tokens[:, :4], cache, torch.tensor([4, 2, 3]))
    twice = cache.take(torch.tensor([2, 0, 2]))
    logits = network(torch.stack([tokens[2, 3], tokens[0, 4], tokens[1, 0]])[:, None], twice)[:, 0]
    torch.testing.assert_close(logits[:2], wanted[[2, 0], [3, 4]], rtol=1e-5, atol=1e-5)
    assert cache.lengths.tolist() == [4, 2, 3]  # what was taken is a copy
    fresh = network.new_cache(1)
    network(tokens[2:, :6], fresh)
    cache.put(torch.tensor([1]), fresh)
    assert cache.lengths.tolist() == [4, 6, 3]
    logits = network(torch.stack([tokens[0, 4], tokens[2, 6], tokens[2, 3]])[:, None], cache)[:, 0]
    torch.testing.assert_close(logits, wanted[[0, 2, 2], [4, 6, 3]], rtol=1e-5, atol=1e-5)


@every_network
def test_logits_keep_the_autocast_dtype(name):
    network = build(name)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        wide, cache = network(text(2, 6)), network.new_cache(2)
        parts = [network(part, cache) for part in text(2, 6).split(3, dim=1)]
    assert wide.dtype == parts[0].dtype == torch.bfloat16
    torch.testing.assert_close(torch.cat(parts, 1).float(), wide.float(), rtol=0.1, atol=0.3)
    with torch.no_grad():
        torch.testing.assert_close(wide.float(), network(text(2, 6)), rtol=0.1, atol=0.3)
        assert network.bfloat16()(text(2, 6), network.new_cache(2)).dtype == torch.bfloat16


@pytest.mark.parametrize("name", [name for name in NETWORKS if "dropout" in name])
def test_dropout_is_for_training_alone(name):
    network = build(name)
    assert torch.equal(network(text(2, 6)), network(text(2, 6)))
    network.train()
    assert not torch.equal(network(text(2, 6)), network(text(2, 6)))


def test_attention_weights_drop_in_training_alone():
    """The one dropout that is a function's argument."""
    network = build("dropout")
    attention, x = network.blocks[0].attn, torch.randn(2, SIZE, 16)
    assert torch.equal(attention(x, None, None, None), attention(x, None, None, None))
    attention.train()
    assert not torch.equal(attention(x, None, None, None), attention(x, None, None, None))


@pytest.mark.parametrize("name", ["gpt2", "llama", "alibi", "lstm"])
def test_one_batch_is_learned_by_heart(name):
    cls, options = NETWORKS[name]
    torch.manual_seed(0)
    network, tokens = cls(V, **options | {"n_embd": 32, "hidden": 64}), text(4, SIZE + 1)
    tokens[:, 0] = torch.arange(4)  # so that the first token tells the rows apart
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(200):
        loss = mean_nll(network, tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.02


# ---- other people's implementations


def copy_gpt2(network, theirs):
    """Weights of a GPT2LMHeadModel, by the documented names."""
    state = theirs.state_dict()
    for name, parameter in network.named_parameters():
        for ours, of_theirs in GPT2_NAMES.items():
            name = name.replace(ours, of_theirs)
        transposed = ".c_" in name and name.endswith("weight")
        parameter.data.copy_(state.pop(name).T if transposed else state.pop(name))
    assert list(state) == ["lm_head.weight"]  # tied


def test_gpt2_is_that_of_transformers():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=32, vocab_size=97, n_positions=48, embd_pdrop=0, attn_pdrop=0, resid_pdrop=0,
        initializer_range=0.3, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    theirs, network = transformers.GPT2LMHeadModel(config).eval(), Transformer(97, 48, 2, 2, 32)
    for module in theirs.modules():  # not as they start
        if isinstance(module, torch.nn.LayerNorm) or type(module).__name__ == "Conv1D":
            torch.nn.init.normal_(module.bias, 0.0, 0.3)
    copy_gpt2(network, theirs)
    tokens = text(3, 48, size=97)
    out = theirs(tokens, labels=tokens)
    torch.testing.assert_close(network(tokens), out.logits, rtol=1e-5, atol=1e-5)
    loss = mean_nll(network, tokens)  # their labels are shifted inside
    torch.testing.assert_close(loss, out.loss, rtol=1e-5, atol=1e-5)
    loss.backward()
    out.loss.backward()
    ours = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    for parameter in theirs.parameters():
        parameter.data = parameter.grad
    copy_gpt2(network, theirs)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(ours[name], parameter.data, rtol=1e-4, atol=1e-5)


def test_greedy_text_is_that_of_transformers():
    from lit_gen.models.lm.sampling import generate

    transformers = pytest.importorskip("transformers")
    torch.manual_seed(4)
    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=32, vocab_size=97, n_positions=48, initializer_range=0.3,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    theirs, network = transformers.GPT2LMHeadModel(config).eval(), Transformer(97, 48, 2, 2, 32).eval()
    copy_gpt2(network, theirs)
    prompts = [[5, 6, 7], [90], [1, 2, 3, 4, 5, 6, 7, 8]]
    texts = generate(network, prompts, range(3), max_new_tokens=30, temperature=0.0)
    for prompt, ours in zip(prompts, texts, strict=True):
        ids = torch.tensor([prompt])
        wanted = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=30, do_sample=False, pad_token_id=0
        )
        assert ours == wanted[0, len(prompt) :].tolist()
    assert len(set(texts[0])) > 3  # no text of one token


@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
def test_llama_is_that_of_transformers(kind):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(5)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, head_dim=8,
        num_key_value_heads=2, max_position_embeddings=48, rms_norm_eps=1e-5, initializer_range=0.3,
        tie_word_embeddings=False, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    theirs = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    for name, parameter in theirs.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, 1.0, 0.3)
    network = Transformer(97, 48, 2, 4, 32, n_kv_head=2, hidden=48, qk_norm=kind == "Qwen3", **LLAMA)
    state = {name.removeprefix("model."): value for name, value in theirs.state_dict().items()}
    for i in range(2):
        parts = [state.pop(f"layers.{i}.self_attn.{part}_proj.weight") for part in "qkv"]
        state[f"layers.{i}.self_attn.qkv.weight"] = torch.cat(parts)
    names = {
        "embed_tokens": "wte", "lm_head": "head", "layers.": "blocks.", "self_attn": "attn", "o_proj": "proj",
        "gate_proj": "gate", "up_proj": "up", "down_proj": "down", "input_layernorm": "norm_1",
        "post_attention_layernorm": "norm_2",
    }  # fmt: skip
    for theirs_part, part in names.items():
        state = {name.replace(theirs_part, part): value for name, value in state.items()}
    state["norm_f.weight"] = state.pop("norm.weight")
    network.load_state_dict(state)
    tokens = text(3, 48, size=97)
    torch.testing.assert_close(network(tokens), theirs(tokens).logits, rtol=1e-5, atol=2e-5)


@torch.no_grad()
def test_lstm_is_that_of_torch():
    network, tokens = build("lstm"), text(3, 30)
    theirs = torch.nn.LSTM(8, 10, 2, batch_first=True)
    theirs.load_state_dict(network.lstm.state_dict())
    hidden, _ = theirs(F.embedding(tokens, network.wte.weight))
    torch.testing.assert_close(network(tokens), hidden @ network.head.weight.T)


@torch.no_grad()
def test_lstm_goes_through_a_text_of_any_length_in_chunks():
    network, tokens = build("lstm"), text(2, 100)
    cache = network.new_cache(2)
    parts = torch.cat([network(part, cache) for part in tokens.split(7, dim=1)], 1)
    torch.testing.assert_close(parts, network(tokens), rtol=1e-5, atol=1e-5)
    assert network.block_size is None


def test_gradients_end_at_a_chunk():
    network = build("lstm").train()
    cache = network.new_cache(2)
    for part in text(2, 9).split(3, dim=1):
        network(part, cache).square().sum().backward()  # would fail if it went back into the chunk before
    assert not cache.h.requires_grad


# ---- closed forms


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16])
def test_alibi_slopes_of_the_paper(n):
    wanted = [2 ** (-8 * i / n) for i in range(1, n + 1)]
    torch.testing.assert_close(alibi_slopes(n), torch.tensor(wanted))


def test_alibi_slopes_between_powers_of_two():
    root = 2**-0.5
    wanted = [2**-i for i in range(1, 9)] + [root, root / 2, root / 4, root / 8]  # 12 heads: as the authors' code says
    torch.testing.assert_close(alibi_slopes(12), torch.tensor(wanted))
    torch.testing.assert_close(alibi_slopes(3), torch.tensor([2**-4, 2**-8, 2**-2]))


def test_alibi_is_a_bias_on_attention():
    network = build("alibi")
    attention, x = network.blocks[0].attn, torch.randn(1, 6, 16)
    out = attention(x, None, visible(torch.arange(6)[None], None, network.n_head), None)
    q, k, v = (part.view(6, 4, 4).transpose(0, 1) for part in attention.qkv(x)[0].split(16, -1))  # (H, T, head_dim)
    wanted = torch.empty(6, 4, 4)
    for head, t in itertools.product(range(4), range(6)):
        bias = torch.tensor([-(2.0 ** (-8 * (head + 1) / 4)) * (t - j) for j in range(t + 1)])
        weights = (k[head, : t + 1] @ q[head, t] / 2 + bias).softmax(0)  # sqrt(head_dim) is 2
        wanted[t, head] = weights @ v[head, : t + 1]
    torch.testing.assert_close(out[0], attention.proj(wanted.flatten(1)))


def test_rotation_turns_pairs_and_keeps_distances():
    x = torch.randn(1, 1, 5, 6)
    here = torch.tensor([[0, 1, 2, 7, 30]])
    turned = rotate(x, turns(here, 6, 100.0))
    for i, t in itertools.product(range(3), range(5)):
        angle = here[0, t].item() * 100.0 ** (-2 * i / 6)
        whole = torch.complex(x[0, 0, t, i], x[0, 0, t, i + 3]) * complex(math.cos(angle), math.sin(angle))
        torch.testing.assert_close(torch.complex(turned[0, 0, t, i], turned[0, 0, t, i + 3]), whole)
    q, k = torch.randn(2, 1, 1, 5, 6)
    places = [[turns(here + start, 6, 100.0) for start in (shift, 3 + shift)] for shift in (0, 40)]
    products = [(rotate(q, first) * rotate(k, second)).sum(-1) for first, second in places]
    torch.testing.assert_close(*products, rtol=1e-4, atol=1e-4)


def test_alibi_and_rotary_do_not_know_where_a_text_begins():
    """The same tokens later in a row of the cache, unseen past apart, would be the same: only distances count."""
    for name in ("alibi", "llama"):
        network, x = build(name), torch.randn(1, 5, 16)
        here = torch.arange(5)[None]
        attention, mask = network.blocks[0].attn, visible(here, None, 4 if name == "alibi" else None)
        first, later = (turns(at, 4, 1e4) if name == "llama" else None for at in (here, here + 6))
        torch.testing.assert_close(
            attention(x, first, mask, None), attention(x, later, mask, None), rtol=1e-4, atol=1e-5
        )


def test_rms_norm_and_qk_norm():
    norm, x = RMSNorm(6, eps=1e-5), 3 * torch.randn(4, 6)
    norm.weight.data = torch.randn(6)
    torch.testing.assert_close(norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight)
    assert norm(x.bfloat16()).dtype == torch.bfloat16
    attention, x = build("learned-gqa-qk").blocks[0].attn, torch.randn(2, 5, 16)
    out = attention(x, None, None, None)
    attention.qkv.weight.data[: 16 + 8] *= 50  # queries and keys, of 4 and 2 heads: their lengths do not matter
    attention.qkv.bias.data[: 16 + 8] *= 50
    torch.testing.assert_close(attention(x, None, None, None), out, rtol=1e-4, atol=1e-4)
    attention.qkv.weight.data[16 + 8 :] *= 2
    assert not torch.allclose(attention(x, None, None, None), out, atol=1e-2)


def test_softcap_bounds_logits_smoothly():
    network = build("learned-gqa-qk")
    capped = network(text(2, 6))
    network.softcap = None
    torch.testing.assert_close(capped, 5 * torch.tanh(network(text(2, 6)) / 5))
    assert capped.abs().max() < 5


@pytest.mark.parametrize(("activation", "formula"), [
    ("gelu", lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2),
    ("gelu_tanh", lambda x: x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2),
    ("relu2", lambda x: x.clamp(min=0) ** 2),
])  # fmt: skip
def test_activations(activation, formula):
    mlp, x = Transformer(V, SIZE, 1, 1, 8, activation=activation).blocks[0].mlp, torch.randn(3, 8)
    mlp.up.weight.data *= 50
    torch.testing.assert_close(mlp(x), mlp.down(formula(mlp.up(x))), rtol=1e-5, atol=1e-7)


def test_first_loss_is_that_of_a_guess():
    tokens = text(16, 65, size=65)
    for options in ({}, LLAMA, {"positions": "alibi"}):
        torch.manual_seed(0)
        loss = mean_nll(Transformer(65, 64, 4, 4, 32, **options), tokens)
        assert abs(loss.item() - math.log(65)) < 0.1
    loss = mean_nll(Transformer(65, 64, 4, 4, 128, tied=False, init="zero"), tokens)
    assert loss.item() == pytest.approx(math.log(65), abs=2e-6)
    assert abs(mean_nll(LSTM(65), tokens).item() - math.log(65)) < 0.1


def test_gpt2_init():
    torch.manual_seed(0)
    network = Transformer(500, 64, 8, 4, 128, tied=False)
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            residual = name.endswith(("attn.proj.weight", "mlp.down.weight"))
            wanted = 0.02 / math.sqrt(16) if residual else 0.02
            assert parameter.std().item() == pytest.approx(wanted, rel=0.05), name
        else:
            value = float("norm" in name and name.endswith("weight"))
            assert torch.equal(parameter, torch.full_like(parameter, value)), name


@pytest.mark.parametrize("tied", [True, False])
def test_zero_init_leaves_the_residual_stream_as_it_is(tied):
    network = Transformer(V, SIZE, 2, 2, 8, init="zero", tied=tied)
    x = torch.randn(1, 5, 8)
    for block in network.blocks:
        assert torch.equal(block(x, None, None, None), x)
    logits = network(text(1, 5))
    assert (logits == 0).all() != tied  # a tied head is the embedding, which cannot start at zero


def test_forget_gates_start_open():
    lstm = LSTM(V, n_embd=4, hidden=6).lstm
    for layer in range(2):
        bias = getattr(lstm, f"bias_ih_l{layer}") + getattr(lstm, f"bias_hh_l{layer}")
        assert bias.view(4, 6).mean(1).tolist() == [0, 1, 0, 0]  # input, forget, cell, output


def test_as_many_parameters_as_published():
    with torch.device("meta"):
        assert Transformer(50257, 1024, 12, 12, 768).num_parameters == 124_439_808
        assert Transformer(65, 256, 6, 6, 384, bias=False).num_parameters == 10_745_088
        assert Transformer(65, 64, 4, 4, 128, bias=False).num_parameters == 804_096
        llama = Transformer(32000, 2048, 22, 32, 2048, n_kv_head=4, hidden=5632, **LLAMA)
        assert llama.num_parameters == 1_100_048_384  # TinyLlama
        assert LSTM(65, n_layer=1, n_embd=4, hidden=6).num_parameters == 65 * 10 + 4 * 6 * (4 + 6 + 2)
        assert [Transformer(9, 9, 1, 1, n, activation="swiglu").hidden for n in (128, 384, 768)] == [344, 1024, 2048]


# ---- mistakes


@pytest.mark.parametrize(("options", "message"), [
    ({"n_head": 5}, "model.network.n_head: 5 was found, a divisor of n_embd 16 is expected"),
    ({"n_kv_head": 3}, "model.network.n_kv_head: 3 was found, a divisor of n_head 4 is expected"),
    ({"n_head": 16, "positions": "rotary"}, "n_head: 16 was found, an even n_embd / n_head, for rotary"),
    ({"positions": "rotery"}, "positions: 'rotery' was found, one of learned, rotary, alibi is expected; did you mean"),
    ({"norm": "batch"}, "norm: 'batch' was found, one of layer, rms is expected"),
    ({"activation": "relu"}, "activation: 'relu' was found"),
    ({"init": "one"}, "init: 'one' was found"),
    ({"dropout": 1.0}, r"dropout: 1.0 was found, a number in \[0, 1\) is expected"),
    ({"softcap": 0.0}, "softcap: 0.0 was found, a number above 0 or null is expected"),
    ({"n_layer": 0}, "n_layer: 0 was found, a whole number of at least 1 is expected"),
    ({"n_kv_head": 0}, "n_kv_head: 0 was found"),
    ({"hidden": 0}, "hidden: 0 was found"),
    ({"norm_eps": 0.0}, "norm_eps: 0.0 was found"),
])  # fmt: skip
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(UserError, match=message):
        Transformer(V, SIZE, **GPT2 | options)


def test_options_out_of_range_are_named_by_the_lstm():
    with pytest.raises(UserError, match="hidden: 10 was found, n_embd 8, for a tied head, is expected"):
        LSTM(V, n_embd=8, hidden=10, tied=True)
    with pytest.raises(UserError, match="dropout: -1 was found"):
        LSTM(V, dropout=-1)


@torch.no_grad()
def test_a_context_longer_than_the_block_is_refused():
    network = build("llama")
    with pytest.raises(ValueError, match="13 a row were found, at most block_size 12"):
        network(text(2, SIZE + 1))
    cache = network.new_cache(2)
    network(text(2, 10), cache, torch.tensor([10, 3]))
    network(text(2, 9), cache, torch.tensor([2, 9]))  # to the brim, whatever the padding
    with pytest.raises(ValueError, match=r"rows of \[12, 12\] tokens cannot take \[0, 1\] more"):
        network(text(2, 1), cache, torch.tensor([0, 1]))
    assert cache.lengths.tolist() == [12, 12]  # as it was
    with pytest.raises(ValueError, match="out of 1"):
        network(text(2, 1), network.new_cache(2), torch.tensor([1, 2]))
