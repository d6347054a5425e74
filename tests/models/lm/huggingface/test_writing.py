"""Folders that transformers loads: equal logits, and every tensor equal after a round trip."""

import json

import pytest
import torch
from safetensors.torch import load_file
from support.huggingface import CONTEXT, KINDS, VOCABULARY, read, theirs

from lit_gen.core.errors import UserError
from lit_gen.models.lm.huggingface import writing
from lit_gen.models.lm.huggingface.folder import WEIGHTS
from lit_gen.models.lm.lstm import LSTM
from lit_gen.models.lm.transformer import Transformer
from lit_gen.tokenizers.bpe import train_bpe
from lit_gen.tokenizers.plain import CharTokenizer

LLAMA = {"positions": "rotary", "norm": "rms", "activation": "swiglu", "bias": False, "n_kv_head": 2}
OPTIONS = {
    "gpt2": {"activation": "gelu", "hidden": 40},
    "gpt2-untied": {"tied": False},
    "llama": {**LLAMA, "tied": False, "rotary_base": 500.0, "norm_eps": 1e-4},
    "llama-biases": {**LLAMA, "bias": True, "head_dim": 6},
    "qwen2": {**LLAMA, "bias": "qkv"},
    "qwen2-heads": {**LLAMA, "bias": "qkv", "head_dim": 16},
    "qwen3": {**LLAMA, "qk_norm": True, "tied": False},
    "qwen3-heads": {**LLAMA, "qk_norm": True, "n_head": 6, "head_dim": 10},
}


def network_of(**options):
    torch.manual_seed(3)
    network = Transformer(VOCABULARY, CONTEXT, **{"n_layer": 2, "n_head": 4, "n_embd": 32, **options}).eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in network.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return network


@pytest.mark.parametrize("name", OPTIONS)
def test_transformers_loads_it_with_equal_logits(tmp_path, name):
    transformers = pytest.importorskip("transformers")
    network = network_of(**OPTIONS[name])
    assert not writing.write(network, tmp_path)
    model, told = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(told.values())
    assert model.config.model_type == name.partition("-")[0]
    tokens = torch.arange(2 * CONTEXT).view(2, -1) % VOCABULARY
    torch.testing.assert_close(model.eval()(tokens).logits, network(tokens), rtol=1e-5, atol=1e-5)
    again = read(tmp_path)
    for key, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [True, False])
def test_a_round_trip_keeps_every_byte(tmp_path, kind, tied):
    theirs(kind, tie_word_embeddings=tied).save_pretrained(tmp_path / "a")
    writing.write(read(tmp_path / "a"), tmp_path / "b")
    before, after = load_file(tmp_path / "a" / WEIGHTS), load_file(tmp_path / "b" / WEIGHTS)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.numpy().tobytes() == after[name].numpy().tobytes(), name


def test_the_tokenizer_comes_along(tmp_path):
    transformers = pytest.importorskip("transformers")
    texts = ["the cat sat on the mat\n", "a cat, the mat: café\n"] * 20
    tokenizer = train_bpe(texts, 280, end_of_text=True)
    network = Transformer(tokenizer.vocab_size, 8, 1, 1, 8)
    assert writing.write(network, tmp_path, tokenizer)
    found = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in (*texts[:2], "  unseen\tÜ\n\n"):
        assert found(text)["input_ids"] == tokenizer.encode(text)
        assert found.decode(tokenizer.encode(text)) == text
    assert found.eos_token_id == tokenizer.end_of_text == tokenizer.vocab_size - 1
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["eos_token_id"] == tokenizer.end_of_text
    assert len(found) == tokenizer.vocab_size


def test_characters_have_no_form_there(tmp_path):
    assert not writing.write(Transformer(3, 8, 1, 1, 8), tmp_path, CharTokenizer("abc"))
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"positions": "alibi"}, 'positions "alibi" was found, where gpt2 has "learned"'),
        ({"activation": "relu2"}, 'activation "relu2" was found, where gpt2 has "gelu_tanh" or "gelu"'),
        ({"softcap": 3.0}, "softcap 3.0 was found, where gpt2 has null"),
        ({"n_kv_head": 2}, "n_kv_head 2 was found, where gpt2 has n_head 4"),
        ({"head_dim": 10}, "head_dim 10 was found, where gpt2 has n_embd / n_head"),
        ({**LLAMA, "n_head": 6, "head_dim": 8}, "head_dim 8 was found, where llama has n_embd / n_head"),
        ({**LLAMA, "qk_norm": True, "bias": True}, "qk_norm true was found, where llama has false"),
    ],
)
def test_options_that_no_architecture_has(tmp_path, options, told):
    with pytest.raises(UserError) as caught:
        writing.write(network_of(**options), tmp_path)
    assert told in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_other_files_are_kept(tmp_path):
    network, file = Transformer(3, 8, 1, 1, 8), tmp_path / "config.json"
    with pytest.raises(UserError, match="only a Transformer has a form"):
        writing.write(LSTM(3, 8), tmp_path)
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.json exists"):
        writing.write(network, tmp_path)
    with pytest.raises(UserError, match="is a file"):
        writing.write(network, file)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert file.read_text(encoding="utf-8") == "mine"
    writing.write(network, tmp_path, overwrite=True)
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"tokenizer\.json is of another model"):
        writing.write(network, tmp_path, overwrite=True)
