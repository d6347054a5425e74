"""Hugging Face's names and layouts of a `Transformer`'s weights, both ways: GPT-2, Llama, Qwen2 and Qwen3.

GPT-2's ``c_`` layers hold their matrices transposed; the others have queries, keys and values apart, one under the
other in ours. Nothing is computed: each number is where it was after a round trip.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

GPT2_NAMES = {
    "wte.": "transformer.wte.",
    "wpe.": "transformer.wpe.",
    "blocks.": "transformer.h.",
    ".norm_1.": ".ln_1.",
    ".norm_2.": ".ln_2.",
    ".attn.qkv.": ".attn.c_attn.",
    ".attn.proj.": ".attn.c_proj.",
    ".mlp.up.": ".mlp.c_fc.",
    ".mlp.down.": ".mlp.c_proj.",
    "norm_f.": "transformer.ln_f.",
    "head.": "lm_head.",
}
"""What each piece of a parameter's name is in Hugging Face's GPT2LMHeadModel, whose ``c_`` weights are transposed."""

LLAMA_NAMES = {
    "wte.": "model.embed_tokens.",
    "blocks.": "model.layers.",
    ".norm_1.": ".input_layernorm.",
    ".norm_2.": ".post_attention_layernorm.",
    ".attn.": ".self_attn.",
    ".proj.": ".o_proj.",
    ".mlp.gate.": ".mlp.gate_proj.",
    ".mlp.up.": ".mlp.up_proj.",
    ".mlp.down.": ".mlp.down_proj.",
    "norm_f.": "model.norm.",
    "head.": "lm_head.",
}
"""The same in LlamaForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM, which have q, k and v apart."""

_BUFFERS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)|layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
"""What older files hold beside weights: causal masks and angles, which are computed here."""


class Place(NamedTuple):
    """Where one of our tensors is in theirs."""

    names: tuple[str, ...]
    """Theirs, whose rows lie one under the other in ours; several only for queries, keys and values."""
    rows: tuple[int, ...]
    """Of each."""
    transposed: bool
    """Theirs has rows and columns exchanged."""


class Heads(NamedTuple):
    """What tells queries, keys and values apart in our one matrix."""

    queries: int
    keys: int


def place(kind: str, name: str, rows: int, heads: Heads) -> Place:
    """Where our tensor is.

    Args:
        kind: of `lit_gen.models.lm.huggingface.config.KINDS`.
        name: in the `Transformer`'s ``state_dict``.
        rows: its first dimension.
        heads: of the network.
    """
    theirs = name
    for ours, of_theirs in (GPT2_NAMES if kind == "gpt2" else LLAMA_NAMES).items():
        theirs = theirs.replace(ours, of_theirs)
    if kind == "gpt2":
        return Place((theirs,), (rows,), ".c_" in theirs and theirs.endswith("weight"))
    if ".qkv." not in theirs:
        return Place((theirs,), (rows,), False)
    unit = rows // (heads.queries + 2 * heads.keys)
    names = tuple(theirs.replace(".qkv.", f".{part}_proj.") for part in "qkv")
    return Place(names, (heads.queries * unit, heads.keys * unit, heads.keys * unit), False)


def to_theirs(kind: str, state: Mapping[str, Tensor], heads: Heads) -> dict[str, Tensor]:
    """A `Transformer`'s ``state_dict`` under their names; each tensor is whole and its own."""
    found = {}
    for name, tensor in state.items():
        there = place(kind, name, tensor.shape[0], heads)
        for theirs, part in zip(there.names, tensor.split(there.rows), strict=True):
            found[theirs] = (part.T if there.transposed else part).clone(memory_format=torch.contiguous_format)
    return found


def to_ours(there: Place, shape: torch.Size, take: Callable[[str, tuple[int, ...]], Tensor]) -> Tensor:
    """One of our tensors.

    Args:
        there: where it is.
        shape: ours.
        take: gives a tensor by their name and the shape that it must have.
    """
    parts = []
    for name, rows in zip(there.names, there.rows, strict=True):
        wanted = (rows, *shape[1:])
        part = take(name, wanted[::-1] if there.transposed else wanted)
        parts.append(part.T if there.transposed else part)
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def is_buffer(name: str) -> bool:
    """Whether an older file holds that beside the weights: a causal mask or angles, which are computed here."""
    return _BUFFERS.fullmatch(without_base(name)) is not None


def without_base(name: str) -> str:
    """A name without the base model's, which a file of the base model alone does not have."""
    return name.removeprefix("transformer.").removeprefix("model.")
