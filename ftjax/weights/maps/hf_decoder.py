"""Hugging Face's decoders: Llama (also SmolLM), Qwen 2 and 3, Gemma 2 and 3 (text) and GPT-2, with the head that writes, one for texts, or none.

GPT-2's matrices lie (in, out), and query, key and value in one. A tied head is not in the file, or if it is it is left out.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ftjax.errors import WeightsError
from ftjax.weights.maps.base import LINEAR, TORCH_NORM, Conversion, Line, NameMap, Recognised, norm_lines
from ftjax.weights.maps.hf import classes_of, config_of, needs_config
from ftjax.weights.maps.hf_decoder_options import GEMMAS, MODEL_TYPES, options_of
from ftjax.weights.maps.hf_text import check_rows
from ftjax.weights.readers.hf_config import CONFIG
from ftjax.weights.source import Source

_ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "o_proj"}
_NORMS = {"norm1": "input_layernorm", "norm2": "post_attention_layernorm"}
_GEMMA_NORMS = {
    "norm1": "input_layernorm",
    "post_norm1": "post_attention_layernorm",
    "norm2": "pre_feedforward_layernorm",
    "post_norm2": "post_feedforward_layernorm",
}
_EMBEDDING = {"llama": "model.embed_tokens.weight", "gpt2": "transformer.wte.weight"}
_FIRST = {"llama": r"(embed_tokens|layers|norm)\.", "gpt2": r"(wte|wpe|h|ln_f)\."}


def is_gpt2(options: Any) -> bool:
    """Whether a model of ours is named as GPT-2, not as Llama."""
    return options["position"] == "learned"


def _style(options: Any) -> str:
    return "gpt2" if is_gpt2(options) else "llama"


def _whole(name: str, style: str) -> str:
    """A tensor's name with the body's prefix, which a bare model is saved without."""
    name = name.removeprefix("module.")
    return f"{_EMBEDDING[style].partition('.')[0]}.{name}" if re.match(_FIRST[style], name) else name


def _table(recognised: Recognised) -> tuple[Line, ...]:
    options = recognised.options
    body = _gpt2_body() if is_gpt2(options) else _llama_body(options)
    if options["output"] == "sequence":
        return (*body, Line("score.weight", "head/kernel", LINEAR))
    return body if options["tied"] else (*body, Line("lm_head.weight", "head/kernel", LINEAR))


def _llama_body(options: Any) -> tuple[Line, ...]:
    theirs, ours = "model.layers.{i}", "encoder/block_{i}"
    layers = {f"attention/{name}": f"self_attn.{layer}" for name, layer in _ATTENTION.items()} | {f"mlp/{name}": f"mlp.{name}_proj" for name in _MLP}
    lines = [Line(_EMBEDDING["llama"], "stem/word/embedding"), Line("model.norm.weight", "norm/scale")]
    for name, layer in layers.items():
        lines += [Line(f"{theirs}.{layer}.weight", f"{ours}/{name}/kernel", LINEAR), Line(f"{theirs}.{layer}.bias", f"{ours}/{name}/bias")]
    norms = _GEMMA_NORMS if options["post_norms"] else _NORMS
    lines += [Line(f"{theirs}.{layer}.weight", f"{ours}/{name}/scale") for name, layer in norms.items()]
    return (*lines, *(Line(f"{theirs}.self_attn.{letter}_norm.weight", f"{ours}/attention/{name}_norm/scale") for letter, name in _QK))


_MLP = ("gate", "up", "down")
_QK = (("q", "query"), ("k", "key"))


def _third(index: int, name: str) -> Conversion:
    """One of three matrices side by side, or of three biases."""

    def take(array: np.ndarray) -> np.ndarray:
        size = array.shape[-1] // 3
        return array[..., index * size : (index + 1) * size]

    return Conversion(f"{name} of c_attn", take, lambda array: array, index, axis=-1)


def _gpt2_body() -> tuple[Line, ...]:
    theirs, ours = "transformer.h.{i}", "encoder/block_{i}"
    lines = [Line(_EMBEDDING["gpt2"], "stem/word/embedding"), Line("transformer.wpe.weight", "stem/position/embedding")]
    lines += norm_lines("transformer.ln_f", "norm", ".", TORCH_NORM)
    for name, layer in {"attention/out": "attn.c_proj", "mlp/up": "mlp.c_fc", "mlp/down": "mlp.c_proj"}.items():
        lines += [Line(f"{theirs}.{layer}.weight", f"{ours}/{name}/kernel"), Line(f"{theirs}.{layer}.bias", f"{ours}/{name}/bias")]
    for index, name in enumerate(("query", "key", "value")):
        fused = (("weight", "kernel"), ("bias", "bias"))
        lines += [Line(f"{theirs}.attn.c_attn.{leaf}", f"{ours}/attention/{name}/{kept}", _third(index, name)) for leaf, kept in fused]
    for index in (1, 2):
        lines += norm_lines(f"{theirs}.ln_{index}", f"{ours}/norm{index}", ".", TORCH_NORM)
    return tuple(lines)


def _detect(source: Source) -> Recognised | None:
    config = config_of(source, *MODEL_TYPES)
    if config is None:
        _refuse_relatives(source)
        return None
    kind = str(config.values["model_type"])
    style = "gpt2" if kind == "gpt2" else "llama"
    names = {_whole(name, style): name for name in source.tensors}
    options = options_of(config, kind)
    check_rows(source, config, names.get(_EMBEDDING[style]), options["vocabulary"])
    if "score.weight" in names:
        classes, named = classes_of(config, source, names["score.weight"])
        return Recognised("decoder", _complete(options, "sequence"), classes, None, HF_DECODER.name, None, f"{CONFIG} says {kind}", named)
    written = options["vocabulary"] if options["tied"] or "lm_head.weight" in names else None
    return Recognised("decoder", _complete(options, "language"), written, None, HF_DECODER.name, None, f"{CONFIG} says {kind}")


def _complete(options: dict[str, Any], output: str) -> dict[str, Any]:
    """With every option that tells how the file's tensors are named."""
    return {"norm": "rms", "position": "rotary", "post_norms": False} | options | {"output": output}


def _refuse_relatives(source: Source) -> None:
    """Other decoders, and these without their `config.json`.

    Raises:
      WeightsError: the names are those of a decoder.
    """
    markers = ("model.embed_tokens.weight", "transformer.wte.weight", "model.language_model.embed_tokens.weight", "language_model.model.embed_tokens.weight")
    needs_config(source, markers[:2], "decoder")
    kind = source.settings.get(CONFIG, {}).get("model_type")
    if kind is not None and any(marker in source.tensors for marker in markers):
        raise WeightsError(f"{source.location}/{CONFIG}: model_type={kind!r} is a language model that is not supported; allowed: {', '.join(MODEL_TYPES)}")


def kind_of(options: Any) -> str:
    """Which `model_type` computes what a model of ours does.

    Raises:
      WeightsError: none does.
    """
    if is_gpt2(options):
        kind = "gpt2"
    elif options["norm"] == "rms_one":
        kind = "gemma3_text" if options["qk_norm"] else "gemma2"
    else:
        kind = "qwen3" if options["qk_norm"] else "qwen2" if options["qkv_bias"] and not options["out_bias"] else "llama"
    gemma, gpt2 = kind in GEMMAS, kind == "gpt2"
    wanted = {"norm": "layer" if gpt2 else "rms_one" if gemma else "rms", "gated": not gpt2, "post_norms": gemma}
    wanted |= {} if gemma else {"embedding_scale": 1.0, "query_scale": 0.0, "attention_cap": 0.0, "logit_cap": 0.0}
    wanted |= {} if kind == "gemma3_text" else {"local_theta": 0.0}
    wanted |= {"window": 0} if kind in ("llama", "gpt2") else {}
    wanted |= {"out_bias": True, "qkv_bias": True, "mlp_bias": True, "qk_norm": False, "kv_heads": options["heads"]} if gpt2 else {}
    wanted |= {"mlp_bias": False} if kind not in ("llama", "gpt2") else {}
    wanted |= {"out_bias": options["qkv_bias"]} if kind != "qwen2" else {}
    odd = [f"{name}={options[name]!r}" for name, value in wanted.items() if options[name] != value]
    if odd or (gpt2 and options["head_size"] * options["heads"] != options["width"]):
        raise WeightsError(
            f"transformers' {kind} has no {', '.join(odd) or 'head_size=' + repr(options['head_size'])}; allowed: the options of one of its decoders"
        )
    return kind


_IGNORED = (
    (r"(module\.)?lm_head\.weight", "the head that writes: here it is the table of embeddings itself, or this model has another end"),
    (r"(module\.)?score\.weight", "a head for texts, for which this model has no place"),
    (r".*\.rotary_emb\.inv_freq", "frequencies of the rotary positions: computed, not stored"),
    (r"((module\.)?transformer\.)?h\.\d+\.attn\.(bias|masked_bias)", "the causal mask: computed, not stored"),
)
HF_DECODER = NameMap("Hugging Face decoder", _detect, _table, lambda name, recognised: _whole(name, _style(recognised.options)), _IGNORED)
