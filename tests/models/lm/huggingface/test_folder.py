"""Folders of the library transformers read into our network: the same logits, loss, gradients and texts."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from support.huggingface import CONTEXT, KINDS, VOCABULARY, edit_config, edit_weights, read, saved, theirs

from lit_gen.core.errors import UserError
from lit_gen.models.lm.huggingface import folder
from lit_gen.models.lm.huggingface.names import Heads, to_theirs
from lit_gen.models.lm.sampling import generate
from lit_gen.models.lm.transformer import Transformer
from lit_gen.training.hparams import describe

every_kind = pytest.mark.parametrize("kind", KINDS)


def text(*shape):
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(1))


def assert_same(model, network):
    """Logits, loss and every gradient of theirs and ours."""
    tokens = text(3, CONTEXT)
    out, logits = model(tokens, labels=tokens), network(tokens)
    torch.testing.assert_close(logits, out.logits, rtol=1e-5, atol=1e-5)
    loss = F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:])
    torch.testing.assert_close(loss, out.loss, rtol=1e-5, atol=1e-5)
    loss.backward()
    out.loss.backward()
    ours = {name: parameter.grad for name, parameter in network.named_parameters()}
    kind, heads = model.config.model_type, Heads(network.n_head, network.n_kv_head)
    found = to_theirs(kind, ours, heads)
    wanted = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-5, msg=lambda told, n=name: f"{n}: {told}")


@every_kind
def test_logits_loss_and_gradients_are_theirs(tmp_path, kind):
    model = theirs(kind)
    model.save_pretrained(tmp_path)
    assert_same(model, read(tmp_path))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("GPT2", {"tie_word_embeddings": False, "n_inner": 40, "activation_function": "gelu"}),
        ("Llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "head_dim": 16}),
        ("Llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "num_key_value_heads": 4}),
        ("Qwen2", {"tie_word_embeddings": True, "rms_norm_eps": 1e-3}),
        ("Qwen3", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    ],
)
def test_what_a_config_may_say_otherwise(tmp_path, kind, options):
    model = theirs(kind, **options)
    model.save_pretrained(tmp_path)
    assert_same(model, read(tmp_path))


@every_kind
def test_greedy_texts_are_theirs(tmp_path, kind):
    model = theirs(kind)
    model.save_pretrained(tmp_path)
    prompts = [[5, 6, 7], [90], [1, 2, 3, 4, 5, 6, 7, 8]]
    texts = generate(read(tmp_path), prompts, range(3), max_new_tokens=12, temperature=0.0)
    for prompt, ours in zip(prompts, texts, strict=True):
        ids = torch.tensor([prompt])
        wanted = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False,
                                pad_token_id=0)  # fmt: skip
        assert ours == wanted[0, len(prompt) :].tolist()


def test_the_shape_of_gpt2():
    config = {
        "model_type": "gpt2",
        "vocab_size": 50257,
        "n_positions": 1024,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
    }
    from lit_gen.models.lm.huggingface.config import options_of

    with torch.device("meta"):
        assert Transformer(**options_of(config)).num_parameters == 124_439_808


@every_kind
def test_shards_are_one_file(tmp_path, kind):
    theirs(kind).save_pretrained(tmp_path / "one")
    theirs(kind).save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    one, many = read(tmp_path / "one").state_dict(), read(tmp_path / "many").state_dict()
    assert all(torch.equal(one[name], many[name]) for name in one | many)


def test_older_files(tmp_path):
    """Without the base model's name; masks and a tied head beside the weights; the base of the angles at the top."""
    saved(tmp_path / "gpt2")
    saved(tmp_path / "llama", "Llama")
    wanted = [read(tmp_path / name).state_dict() for name in ("gpt2", "llama")]
    for name in ("gpt2", "llama"):
        file = tmp_path / name / folder.WEIGHTS
        tensors = {key.removeprefix("transformer.").removeprefix("model."): t for key, t in load_file(file).items()}
        if name == "gpt2":
            tensors |= {"h.0.attn.bias": torch.ones(1, 1, 4, 4), "lm_head.weight": tensors["wte.weight"].clone()}
        else:
            tensors["layers.1.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
        save_file(tensors, file)
    edit_config(tmp_path / "gpt2", tie_word_embeddings=...)
    edit_config(tmp_path / "llama", rope_parameters=..., rope_theta=10_000, rope_scaling=None, head_dim=None)
    for name, state in zip(("gpt2", "llama"), wanted, strict=True):
        found = read(tmp_path / name).state_dict()
        assert all(torch.equal(found[key], state[key]) for key in state)


def test_half_precision_is_read_exactly(tmp_path):
    theirs("Qwen2").bfloat16().save_pretrained(tmp_path)
    network = read(tmp_path)
    stored = load_file(tmp_path / folder.WEIGHTS)["model.embed_tokens.weight"]
    assert network.wte.weight.dtype == torch.float32
    assert torch.equal(network.wte.weight, stored.float())


def test_the_folder_is_forgotten(tmp_path):
    described = describe(read(saved(tmp_path, "Qwen2")), "network")
    assert described["init_args"]["pretrained"] is None
    assert described["init_args"]["bias"] == "qkv"
    Transformer(**described["init_args"])


def test_fewer_positions_where_none_are_learned(tmp_path):
    model = theirs("Llama")
    model.save_pretrained(tmp_path)
    tokens = text(2, 8)
    torch.testing.assert_close(read(tmp_path, block_size=8)(tokens), model(tokens).logits, rtol=1e-5, atol=1e-5)


# ---- mistakes


def refused(path, *told, **options):
    with pytest.raises(UserError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    for words in told:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "changes", "told"),
    [
        ("GPT2", {"model_type": "gptj"}, "model_type: 'gptj' was found, one of gpt2, llama, qwen2, qwen3"),
        ("GPT2", {"model_type": ...}, "model_type: null was found"),
        ("GPT2", {"n_embd": ...}, "n_embd: nothing was found, gpt2 needs it"),
        ("GPT2", {"n_layer": "2"}, "n_layer: '2' was found, a whole number"),
        ("GPT2", {"n_layer": True}, "n_layer: True was found, a whole number"),
        ("GPT2", {"activation_function": "relu"}, "activation_function: 'relu'"),
        ("GPT2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx: True was found, false"),
        ("GPT2", {"layer_norm_epsilon": 0}, "layer_norm_epsilon: 0 was found"),
        ("GPT2", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("Llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_scaling.rope_type: 'llama3'"),
        ("Llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling.type: 'linear'"),
        ("Llama", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rope_parameters.rope_type: 'yarn'"),
        ("Llama", {"attention_bias": True}, "mlp_bias: False was found, true"),
        ("Llama", {"hidden_act": "gelu"}, "hidden_act: 'gelu' was found, silu"),
        ("Llama", {"tie_word_embeddings": "no"}, "tie_word_embeddings: 'no'"),
        ("Qwen2", {"use_sliding_window": True}, "use_sliding_window: True was found, false"),
        ("Qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types: "),
        ("Qwen2", {"num_key_value_heads": ...}, "num_key_value_heads: nothing was found, qwen2 needs it"),
        ("Qwen3", {"head_dim": ...}, "head_dim: nothing was found, qwen3 needs it"),
        ("Qwen3", {"attention_bias": True}, "attention_bias: True was found, false"),
    ],
)
def test_what_is_not_read_is_refused_by_its_key(tmp_path, kind, changes, told):
    saved(tmp_path, kind)
    edit_config(tmp_path, **changes)
    refused(tmp_path, told, "config.json")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"n_layer": 3}, "model.network.n_layer: 3 was found, 2 is expected, as "),
        ({"softcap": 30.0}, "model.network.softcap: 30.0 was found, null is expected, as "),
        ({"bias": False}, "model.network.bias: False was found, true is expected, as "),
        ({"block_size": CONTEXT + 1}, "model.network.block_size: 25 was found, 24 is expected, as "),
        ({"block_size": CONTEXT - 1}, "model.network.block_size: 23 was found, 24 is expected, as "),
        ({"vocab_size": 98}, "model.network.vocab_size: 98 was found, 97 is expected, as "),
    ],
)
def test_an_option_that_contradicts_the_config(tmp_path, options, told):
    refused(saved(tmp_path), told, "config.json says", **options)


def test_more_positions_than_the_config_says(tmp_path):
    refused(saved(tmp_path, "Llama"), "model.network.block_size: 25 was found, 24", block_size=25)


def test_no_folder_no_config_no_weights(tmp_path):
    refused("gpt2-xl", "model.network.pretrained: gpt2-xl is no folder", "nothing is downloaded")
    refused(tmp_path, "holds no config.json")
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    refused(tmp_path, "config.json cannot be read")
    (tmp_path / "config.json").write_text("[1]", encoding="utf-8")
    refused(tmp_path, "config.json cannot be read (it holds no JSON object)")
    saved(tmp_path)
    (tmp_path / folder.WEIGHTS).unlink()
    refused(tmp_path, "holds no weights; model.safetensors or model.safetensors.index.json is expected")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    refused(tmp_path, "holds only pytorch_model.bin, a pickle, which may run code")


WTE, UP = "transformer.wte.weight", "transformer.h.1.mlp.c_fc.weight"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({UP: None}, f"the tensor {UP} is missing"),
        ({"extra": lambda t: torch.ones(2)}, "the tensor extra was found, which a gpt2"),
        ({UP: lambda t: t.T}, f"{UP}: (128, 32) was found, the shape (32, 128) is expected"),
        ({WTE: lambda t: t[:-1]}, f"{WTE}: (96, 32) was found"),
        ({UP: lambda t: t.fill_(float("nan"))}, f"{UP} is NaN or infinite"),
        ({UP: lambda t: t.int()}, f"{UP}: 'torch.int32' was found"),
        ({"lm_head.weight": lambda t: torch.ones(97, 32)}, "lm_head.weight: 'another tensor' was found, the embedding"),
        ({"wte.weight": lambda t: torch.ones(97, 32)}, "the tensor wte.weight was found twice"),
    ],
)
def test_weights_of_another_model(tmp_path, changes, told):
    edit_weights(saved(tmp_path), **changes)
    refused(tmp_path, told, str(tmp_path))


@pytest.mark.parametrize("kept", [0, 4, 100, 5000, -1])
def test_a_file_that_is_cut_short(tmp_path, kept):
    file = saved(tmp_path) / folder.WEIGHTS
    file.write_bytes(file.read_bytes()[:kept])
    refused(tmp_path, "model.safetensors is damaged or cut short")


def test_shards_that_are_not_what_the_index_says(tmp_path):
    theirs("Qwen2").save_pretrained(tmp_path, max_shard_size="20KB")
    index, first = tmp_path / folder.INDEX, sorted(tmp_path.glob("*.safetensors"))[0]
    written, shard = json.loads(index.read_text(encoding="utf-8")), first.read_bytes()
    names = written["weight_map"]

    def told(changed, *words):
        index.write_text(json.dumps({"weight_map": changed}), encoding="utf-8")
        refused(tmp_path, folder.INDEX, *words)

    held = next(name for name, file in names.items() if file == first.name)
    told({}, "weight_map: 'dict' was found")
    told(names | {held: f"../{first.name}"}, "a .safetensors file beside it is expected")
    told(names | {held: str(first.resolve())}, "a .safetensors file beside it is expected")
    told(names | {held: "pytorch_model.bin"}, "a .safetensors file beside it is expected")
    told(names | {"other": first.name}, f"{first} lacks the tensor other, which")
    told({k: v for k, v in names.items() if k != held}, f"{first} ")
    first.unlink()
    told(names, f"{first} is missing, which")
    first.write_bytes(shard[:-7])
    refused(tmp_path, f"{first} is damaged or cut short")
