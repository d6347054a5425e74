"""A `Transformer`'s options as Hugging Face's ``config.json`` says them, both ways: GPT-2, Llama, Qwen2 and Qwen3.

The keys and their defaults are those of the classes ``GPT2Config``, ``LlamaConfig``, ``Qwen2Config`` and
``Qwen3Config`` of https://github.com/huggingface/transformers, whose models the tests compare with.
"""

import json
from collections.abc import Mapping
from typing import Any

from lit_gen.core.errors import UserError
from lit_gen.core.options import expect, one_of, whole_number

KINDS = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""What ``model_type`` may be, and the class of each."""

_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}

_NEUTRAL: dict[str, dict[str, tuple[Any, ...]]] = {
    "gpt2": {
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    "llama": {},
    "qwen2": {"use_sliding_window": (False,)},
    "qwen3": {"use_sliding_window": (False,), "attention_bias": (False,)},
}
"""Keys that change a network in a way that is not read, and the values, the default first, that change nothing."""

_LLAMA_FORM: dict[str, tuple[Any, ...]] = {
    "positions": ("rotary",),
    "norm": ("rms",),
    "activation": ("swiglu",),
    "softcap": (None,),
}
_FORMS: dict[str, dict[str, tuple[Any, ...]]] = {
    "gpt2": {
        "positions": ("learned",),
        "norm": ("layer",),
        "activation": ("gelu_tanh", "gelu"),
        "softcap": (None,),
        "bias": (True,),
        "qk_norm": (False,),
    },
    "llama": {**_LLAMA_FORM, "bias": (False, True), "qk_norm": (False,)},
    "qwen2": {**_LLAMA_FORM, "bias": ("qkv",), "qk_norm": (False,)},
    "qwen3": {**_LLAMA_FORM, "bias": (False,), "qk_norm": (True,)},
}
"""The options that tell the architectures apart, with the values that each may have."""


# ---- from config.json to options


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the `Transformer` that a ``config.json`` describes; dropout and ``init`` are none of them.

    Raises:
        UserError: for an architecture, a key or a value that is not read; begins with the key.
    """
    kind = config.get("model_type")
    one_of(tuple(KINDS), model_type=kind)  # type: ignore[arg-type]
    assert isinstance(kind, str)
    for key, allowed in {**_NEUTRAL[kind], "quantization_config": (None,)}.items():
        found = config.get(key, allowed[0])
        expect(found in allowed, key, found, "null" if allowed[0] is None else _json(allowed[0]), "; it is not read")
    return _gpt2(config) if kind == "gpt2" else _llama(config, kind)


def _gpt2(config: Mapping[str, Any]) -> dict[str, Any]:
    width, heads = _whole(config, "n_embd"), _whole(config, "n_head")
    activation = config.get("activation_function", "gelu_new")
    one_of(tuple(_ACTIVATIONS), activation_function=activation)
    return {
        "vocab_size": _whole(config, "vocab_size"),
        "block_size": _whole(config, "n_positions"),
        "n_layer": _whole(config, "n_layer"),
        "n_head": heads,
        "n_embd": width,
        "n_kv_head": heads,
        "head_dim": width // heads,
        "hidden": 4 * width if config.get("n_inner") is None else _whole(config, "n_inner"),
        "positions": "learned",
        "norm": "layer",
        "activation": _ACTIVATIONS[activation],
        "bias": True,
        "qk_norm": False,
        "softcap": None,
        "tied": _truth(config, "tie_word_embeddings", True),
        "norm_eps": _number(config, "layer_norm_epsilon", 1e-5),
    }


def _llama(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    layers, width, heads = (_whole(config, key) for key in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    silent = {"llama": ("num_key_value_heads", "head_dim"), "qwen2": ("head_dim",), "qwen3": ()}[kind]
    given = {**dict.fromkeys(silent), **config}  # the others have defaults that do not follow from the rest
    if given.get("layer_types") is not None:
        expect(given["layer_types"] == ["full_attention"] * layers, "layer_types", given["layer_types"],
               f"full_attention for each of {layers} layers", "; no other is read")  # fmt: skip
    act = given.get("hidden_act", "silu")
    expect(act in ("silu", "swish"), "hidden_act", act, "silu")
    bias: bool | str = "qkv" if kind == "qwen2" else False
    if kind == "llama":
        bias, of_mlp = (_truth(given, f"{part}_bias", False) for part in ("attention", "mlp"))
        expect(of_mlp == bias, "mlp_bias", of_mlp, f"{_json(bias)}, as attention_bias,")
    return {
        "vocab_size": _whole(given, "vocab_size"),
        "block_size": _whole(given, "max_position_embeddings"),
        "n_layer": layers,
        "n_head": heads,
        "n_embd": width,
        "n_kv_head": _whole(given, "num_key_value_heads", heads),
        "head_dim": _whole(given, "head_dim", width // heads),
        "hidden": _whole(given, "intermediate_size"),
        "positions": "rotary",
        "norm": "rms",
        "activation": "swiglu",
        "bias": bias,
        "qk_norm": kind == "qwen3",
        "softcap": None,
        "tied": _truth(given, "tie_word_embeddings", False),
        "norm_eps": _number(given, "rms_norm_eps", 1e-6),
        "rotary_base": _rotary_base(given),
    }


def _rotary_base(config: Mapping[str, Any]) -> float:
    """The base of the angles, at the top as older files say it or among ``rope_parameters``; no scaling is read."""
    base = _number(config, "rope_theta", 10_000.0)
    for key in ("rope_scaling", "rope_parameters"):
        found = config.get(key)
        if found is None:
            continue
        expect(isinstance(found, dict), key, found, "a mapping")
        for inner in found:
            neutral = inner == "rope_theta" or (inner in ("rope_type", "type") and found[inner] == "default")
            if not neutral:
                raise UserError(f"{key}.{inner}: {found[inner]!r} was found; scaled rotary positions are not read")
        base = _number(found, "rope_theta", base)
    expect(config.get("partial_rotary_factor") in (None, 1), "partial_rotary_factor",
           config.get("partial_rotary_factor"), "1", "; it is not read")  # fmt: skip
    return base


# ---- and back


def config_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The ``config.json`` of a `Transformer` with these options, each of them resolved: no null for ``n_kv_head``.

    Raises:
        UserError: if no architecture has them; names those that the nearest lacks.
    """
    others = {kind: _differences(kind, options) for kind in _FORMS}
    kind = min(others, key=lambda one: len(others[one]))
    if others[kind]:
        told = "; ".join(others[kind])
        raise UserError(f"model.network: {told}; GPT-2, Llama, Qwen2 and Qwen3 can be written, {kind} is the nearest")
    common = {
        "architectures": [KINDS[kind]],
        "model_type": kind,
        "dtype": "float32",
        "torch_dtype": "float32",
        "vocab_size": options["vocab_size"],
        "tie_word_embeddings": options["tied"],
        "bos_token_id": None,
        "eos_token_id": None,
    }
    return {**common, **(_gpt2_config(options) if kind == "gpt2" else _llama_config(options, kind))}


def _differences(kind: str, options: Mapping[str, Any]) -> list[str]:
    """What an architecture lacks of these options, in words."""
    found = [
        f"{name} {_json(options[name])} was found, where {kind} has {' or '.join(map(_json, allowed))}"
        for name, allowed in _FORMS[kind].items()
        if not any(options[name] is one or (options[name] == one and isinstance(one, str)) for one in allowed)
    ]
    heads, width = options["n_head"], options["n_embd"]
    if kind != "qwen3" and (width % heads or (kind == "gpt2" and options["head_dim"] != width // heads)):
        found.append(f"head_dim {options['head_dim']} was found, where {kind} has n_embd / n_head")
    if kind == "gpt2" and options["n_kv_head"] != heads:
        found.append(f"n_kv_head {options['n_kv_head']} was found, where {kind} has n_head {heads}")
    return found


def _gpt2_config(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "n_positions": options["block_size"],
        "n_layer": options["n_layer"],
        "n_head": options["n_head"],
        "n_embd": options["n_embd"],
        "n_inner": options["hidden"],
        "activation_function": {"gelu_tanh": "gelu_new", "gelu": "gelu"}[options["activation"]],
        "layer_norm_epsilon": options["norm_eps"],
        **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), options["dropout"]),
    }


def _llama_config(options: Mapping[str, Any], kind: str) -> dict[str, Any]:
    config = {
        "max_position_embeddings": options["block_size"],
        "num_hidden_layers": options["n_layer"],
        "num_attention_heads": options["n_head"],
        "num_key_value_heads": options["n_kv_head"],
        "head_dim": options["head_dim"],
        "hidden_size": options["n_embd"],
        "intermediate_size": options["hidden"],
        "hidden_act": "silu",
        "rms_norm_eps": options["norm_eps"],
        "rope_theta": options["rotary_base"],  # where versions before 5 look for it
        "rope_parameters": {"rope_type": "default", "rope_theta": options["rotary_base"]},
    }
    if kind == "llama":
        return {**config, "attention_bias": options["bias"], "mlp_bias": options["bias"]}
    return {**config, "use_sliding_window": False, **({"attention_bias": False} if kind == "qwen3" else {})}


# ---- single keys


def _whole(config: Mapping[str, Any], key: str, null: int | None = None) -> int:
    """A count; ``null`` is what a null stands for."""
    if key not in config:
        raise UserError(f"{key}: nothing was found, {config['model_type']} needs it")
    found = config[key]
    count: Any = null if found is None else found
    expect(isinstance(count, int) and not isinstance(count, bool) and count > 0, key, count, whole_number(1))
    return int(count)


def _number(config: Mapping[str, Any], key: str, default: float) -> float:
    found = config.get(key, default)
    good = isinstance(found, int | float) and not isinstance(found, bool) and 0 < found < float("inf")
    expect(good, key, found, "a number above 0")
    return float(found)


def _truth(config: Mapping[str, Any], key: str, default: bool) -> bool:
    found = config.get(key, default)
    expect(isinstance(found, bool), key, found, "true or false")
    return bool(found)


def _json(value: Any) -> str:
    """A value as ``config.json`` would say it."""
    return json.dumps(value)
