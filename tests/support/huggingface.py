"""Tiny random models of the library transformers, the oracle of what is read from and written to its folders."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lit_gen.models.lm.huggingface import folder
from lit_gen.models.lm.transformer import Transformer

VOCABULARY, CONTEXT = 97, 24
KINDS = ("GPT2", "Llama", "Qwen2", "Qwen3")
NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
_GPT2 = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": CONTEXT,
         "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}  # fmt: skip
_LLAMA = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5,
}  # fmt: skip


def theirs(kind, vocab_size=VOCABULARY, **options):
    """A model in evaluation mode whose every weight is far from where it starts; Qwen3's heads are wider than usual."""
    transformers = pytest.importorskip("transformers")
    shape = _GPT2 if kind == "GPT2" else _LLAMA | ({"head_dim": 16} if kind == "Qwen3" else {})
    config = getattr(transformers, f"{kind}Config")(**{"vocab_size": vocab_size, **shape, **NO_TOKENS, **options})
    torch.manual_seed(6)
    model = getattr(transformers, f"{kind}{'LMHeadModel' if kind == 'GPT2' else 'ForCausalLM'}")(config).eval()
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def saved(path, kind="GPT2", **options):
    """The folder of such a model."""
    theirs(kind, **options).save_pretrained(path)
    return path


def read(path, **options):
    """The network of a folder, in evaluation mode."""
    return Transformer(**{**folder.options(path), "pretrained": str(path), **options}).eval()


def edit_config(path, **changes):
    """Change keys of a folder's ``config.json``; ... removes one."""
    file = Path(path) / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | changes
    kept = {key: value for key, value in config.items() if value is not ...}
    file.write_text(json.dumps(kept), encoding="utf-8")


def edit_weights(path, **changes):
    """Change tensors of a folder's one file, each by a function of it, or by None which removes it."""
    file = Path(path) / folder.WEIGHTS
    tensors = load_file(file)
    for name, change in changes.items():
        tensor = tensors.pop(name, None)
        if change is not None:
            tensors[name] = change(tensor).contiguous()
    save_file(tensors, file, {"format": "pt"})
