"""`config.json` of Hugging Face's decoders, in the spellings of transformers 4 and 5, as our options; whatever cannot be computed is refused by its key."""

from __future__ import annotations

import math
from typing import Any

from ftjax.weights.maps.hf import Table
from ftjax.weights.maps.hf_text import ACTIVATIONS

NEAR, FAR = "sliding_attention", "full_attention"
GEMMAS = ("gemma2", "gemma3_text")
MODEL_TYPES = ("llama", "qwen2", "qwen3", *GEMMAS, "gpt2")
_LLAMA3 = {"rope_low": "low_freq_factor", "rope_high": "high_freq_factor", "rope_factor": "factor"}


def options_of(config: Table, kind: str) -> dict[str, Any]:
    """The body's options and `tied`.

    Args:
      config: the file.
      kind: its `model_type`, one of `MODEL_TYPES`.

    Raises:
      WeightsError: a key that cannot be computed here.
    """
    config.must_be("quantization_config", None)
    tied = config.flag("tie_word_embeddings", kind in (*GEMMAS, "gpt2"))
    return (_gpt2(config) if kind == "gpt2" else _llama(config, kind)) | {"tied": tied}


def _gpt2(config: Table) -> dict[str, Any]:
    config.must_be("scale_attn_weights", True)
    for key in ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "add_cross_attention"):
        config.must_be(key, False)
    width = config.natural("n_embd")
    return {
        "vocabulary": config.natural("vocab_size"),
        "positions": config.natural("n_positions"),
        "width": width,
        "depth": config.natural("n_layer"),
        "heads": config.natural("n_head"),
        "hidden": 4 * width if config.values.get("n_inner") is None else config.natural("n_inner"),
        "epsilon": config.number("layer_norm_epsilon", 1e-5),
        "activation": _activation(config, "activation_function", "gelu_new"),
        "norm": "layer",
        "position": "learned",
        "gated": False,
        **dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias"), True),
    }


def _llama(config: Table, kind: str) -> dict[str, Any]:
    """Llama's keys, which all the others have too."""
    config.must_be("pretraining_tp", 1)
    config.must_be("partial_rotary_factor", 1.0)
    for key in ("num_experts", "num_local_experts"):
        config.must_be(key, None)
    biased = config.flag("attention_bias", False) if kind != "qwen2" else False
    heads = config.natural("num_attention_heads")
    return {
        "vocabulary": config.natural("vocab_size"),
        "positions": config.natural("max_position_embeddings"),
        "width": config.natural("hidden_size"),
        "depth": config.natural("num_hidden_layers"),
        "heads": heads,
        "kv_heads": heads if config.values.get("num_key_value_heads") is None else config.natural("num_key_value_heads"),
        "head_size": _head_size(config, kind, heads),
        "hidden": config.natural("intermediate_size"),
        "epsilon": config.number("rms_norm_eps", 1e-6),
        "activation": _activation(config, "hidden_activation" if kind in GEMMAS else "hidden_act", "gelu_pytorch_tanh" if kind in GEMMAS else "silu"),
        "qkv_bias": biased or kind == "qwen2",
        "out_bias": biased,
        "mlp_bias": config.flag("mlp_bias", False) if kind == "llama" else False,
        "qk_norm": kind in ("qwen3", "gemma3_text"),
        **_rope(config, kind),
        **_windows(config, kind),
        **(_gemma(config) if kind in GEMMAS else {}),
    }


def _gemma(config: Table) -> dict[str, Any]:
    if config.values.get("use_bidirectional_attention"):
        raise config.refuse("use_bidirectional_attention", "false: texts are read forwards")
    caps = {"attention_cap": ("attn_logit_softcapping", 50.0), "logit_cap": ("final_logit_softcapping", 30.0)}
    plain = config.values["model_type"] == "gemma3_text"
    found = {name: 0.0 if config.values.get(key, None if plain else usual) is None else config.number(key, usual) for name, (key, usual) in caps.items()}
    scalar = config.number("query_pre_attn_scalar", 256.0)
    if scalar == 0:
        raise config.refuse("query_pre_attn_scalar", "a positive number")
    return {
        "norm": "rms_one",
        "post_norms": True,
        "embedding_scale": math.sqrt(config.natural("hidden_size")),
        "query_scale": scalar**-0.5,
        **found,
    }


def _activation(config: Table, key: str, usual: str) -> str:
    name = config.values.get(key) or usual
    if name not in ACTIVATIONS:
        raise config.refuse(key, ", ".join(ACTIVATIONS))
    return ACTIVATIONS[name]


def _head_size(config: Table, kind: str, heads: int) -> int:
    if config.values.get("head_dim") is not None:
        return config.natural("head_dim")
    usual = {"qwen3": 128, "gemma2": 256, "gemma3_text": 256}
    width = config.natural("hidden_size")
    if kind not in usual and width % heads:
        raise config.refuse("num_attention_heads", f"a divisor of hidden_size={width}")
    return usual.get(kind, width // heads)


def _windows(config: Table, kind: str) -> dict[str, Any]:
    """Which blocks see a window only: a list in transformers 5, a rule for each kind before."""
    depth, size = config.natural("num_hidden_layers"), config.values.get("sliding_window")
    on = kind in GEMMAS or (kind != "llama" and config.flag("use_sliding_window", False))
    if not on or (size is None and kind not in GEMMAS):
        return {"window": 0, "windowed": [0] * depth}
    listed = config.values.get("layer_types")
    if listed is not None and (not isinstance(listed, list) or len(listed) != depth or not set(listed) <= {NEAR, FAR}):
        raise config.refuse("layer_types", f"{NEAR!r} or {FAR!r} for each of {depth} blocks")
    windowed = [int(name == NEAR) for name in listed] if listed else [int(_sees_window(config, kind, index)) for index in range(depth)]
    window = (4096 if "sliding_window" not in config.values else config.natural("sliding_window")) if any(windowed) else 0
    return {"window": window, "windowed": windowed}


def _sees_window(config: Table, kind: str, index: int) -> bool:
    if kind == "gemma2":
        return index % 2 == 0
    if kind == "gemma3_text":
        key = "sliding_window_pattern" if "sliding_window_pattern" in config.values else "_sliding_window_pattern"
        return (index + 1) % (config.natural(key) if key in config.values else 6) > 0
    return index >= (config.natural("max_window_layers") if config.values.get("max_window_layers") else 28)


def _rope(config: Table, kind: str) -> dict[str, Any]:
    """Bases and scaling of the rotary positions."""
    usual = 1e6 if kind == "gemma3_text" else 10000.0
    new = config.values.get("rope_parameters")
    if new is not None and not isinstance(new, dict):
        raise config.refuse("rope_parameters", "a table")
    if new is None:
        scaling = config.values.get("rope_scaling")
        theta = config.number("rope_theta", usual)
        found = _scaled(Table(f"{config.where}: rope_scaling", scaling if isinstance(scaling, dict) else {}), scaling) | {"theta": theta}
        return found | ({"local_theta": config.number("rope_local_base_freq", 10000.0)} if kind == "gemma3_text" else {})
    if kind != "gemma3_text":
        table = Table(f"{config.where}: rope_parameters", new)
        return _scaled(table, new) | {"theta": table.number("rope_theta", config.number("rope_theta", usual))}
    far, near = (Table(f"{config.where}: rope_parameters.{name}", new.get(name) or {}) for name in (FAR, NEAR))
    near.must_be("rope_type", "default")
    return _scaled(far, far.values) | {"theta": far.number("rope_theta", usual), "local_theta": near.number("rope_theta", 10000.0)}


def _scaled(table: Table, value: Any) -> dict[str, Any]:
    """The scaling of frequencies.

    Raises:
      WeightsError: a kind of scaling that there is not here.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise table.refuse("rope_type", "a table with the rope_type")
    table.must_be("partial_rotary_factor", 1.0)
    key = "rope_type" if "rope_type" in value else "type"
    name = value.get(key, "default")
    if name == "default":
        return {}
    if name == "linear":
        return {"rope_scaling": "linear", "rope_factor": table.number("factor", 1.0)}
    if name == "llama3":
        factors = {ours: table.number(theirs, 0.0) for ours, theirs in _LLAMA3.items()}
        return {"rope_scaling": "llama3", "rope_original": table.natural("original_max_position_embeddings"), **factors}
    raise table.refuse(key, "default, linear, llama3")
