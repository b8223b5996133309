"""Hugging Face's ModernBERT, with heads for texts, tokens and answers, or none. Query, key and value lie fused in one tensor, as do the MLP's two."""

from __future__ import annotations

from typing import Any

import numpy as np

from ftjax.weights.maps.base import LINEAR, Conversion, Line, NameMap, Recognised
from ftjax.weights.maps.hf import Table, classes_of, config_of, needs_config
from ftjax.weights.maps.hf_text import ACTIVATIONS, check_rows, pooling_of
from ftjax.weights.source import Source

FAR, NEAR = "full_attention", "sliding_attention"
_POOLS = {"cls": "first", "mean": "mean"}


def _piece(index: int, count: int, name: str) -> Conversion:
    """One of `count` matrices that lie one after the other along the first axis."""

    def take(array: np.ndarray) -> np.ndarray:
        size = array.shape[0] // count
        return LINEAR.apply(array[index * size : (index + 1) * size])

    return Conversion(f"{name}, {LINEAR.name}", take, LINEAR.back, index)


def _bare(name: str) -> str:
    return name.removeprefix("module.").removeprefix("model.")


def _normalise(name: str, recognised: Recognised) -> str:
    bare = _bare(name)
    return f"{_prefix(recognised)}{bare}" if bare.startswith(("embeddings.", "layers.", "final_norm.")) else bare


def _prefix(recognised: Recognised) -> str:
    """A bare model is saved without the prefix that it has inside a classifier."""
    return "" if recognised.options["output"] == "embedding" else "model."


def _table(recognised: Recognised) -> tuple[Line, ...]:
    prefix = _prefix(recognised)
    block, ours = f"{prefix}layers.{{i}}", "encoder/block_{i}"
    fused = [Line(f"{block}.attn.Wqkv.weight", f"{ours}/attention/{name}/kernel", _piece(i, 3, f"{name} of Wqkv")) for i, name in enumerate(_QKV)]
    fused += [Line(f"{block}.mlp.Wi.weight", f"{ours}/mlp/{name}/kernel", _piece(i, 2, f"{name} of Wi")) for i, name in enumerate(("up", "gate"))]
    return (
        Line(f"{prefix}embeddings.tok_embeddings.weight", "stem/word/embedding"),
        Line(f"{prefix}embeddings.norm.weight", "stem/norm/scale"),
        *fused,
        Line(f"{block}.attn_norm.weight", f"{ours}/norm1/scale"),
        Line(f"{block}.attn.Wo.weight", f"{ours}/attention/out/kernel", LINEAR),
        Line(f"{block}.mlp_norm.weight", f"{ours}/norm2/scale"),
        Line(f"{block}.mlp.Wo.weight", f"{ours}/mlp/down/kernel", LINEAR),
        Line(f"{prefix}final_norm.weight", "norm/scale"),
        Line("head.dense.weight", "head/dense/kernel", LINEAR),
        Line("head.norm.weight", "head/norm/scale"),
        Line("classifier.weight", "head/kernel", LINEAR),
        Line("classifier.bias", "head/bias"),
    )


_QKV = ("query", "key", "value")


def _detect(source: Source) -> Recognised | None:
    config = config_of(source, "modernbert")
    if config is None:
        needs_config(source, ["model.embeddings.tok_embeddings.weight"], "ModernBERT")
        return None
    names = {_bare(name): name for name in source.tensors}
    options = _options(config)
    check_rows(source, config, names.get("embeddings.tok_embeddings.weight"), options["vocabulary"])
    head = names.get("classifier.weight")
    pool, why = pooling_of(source)
    architectures = config.values.get("architectures") or [""]
    made = str(architectures[0]) if isinstance(architectures, list) else ""
    tokens = head is not None and made.endswith(("ForTokenClassification", "ForQuestionAnswering"))
    end = {"pool": _pool(config), "output": "tokens" if tokens else "sequence"}
    end |= {"pool": pool, "output": "embedding"} if pool is not None and head is None else {}
    classes, named = classes_of(config, source, head) if head else (None, None)
    return Recognised("modernbert", options | end, classes, None, HF_MODERNBERT.name, None, why, named)


def _pool(config: Table) -> str:
    value = config.values.get("classifier_pooling", "cls")
    if value not in _POOLS:
        raise config.refuse("classifier_pooling", ", ".join(_POOLS))
    return _POOLS[value]


def _options(config: Table) -> dict[str, Any]:
    """The body's options.

    Raises:
      WeightsError: a key of `config.json` that cannot be computed here.
    """
    for key in ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"):
        config.must_be(key, False)
    config.must_be("classifier_activation", "gelu")
    activation = config.values.get("hidden_activation", "gelu")
    if activation not in ACTIVATIONS:
        raise config.refuse("hidden_activation", ", ".join(ACTIVATIONS))
    depth = config.natural("num_hidden_layers")
    return {
        "vocabulary": config.natural("vocab_size"),
        "positions": config.natural("max_position_embeddings"),
        "width": config.natural("hidden_size"),
        "depth": depth,
        "heads": config.natural("num_attention_heads"),
        "hidden": config.natural("intermediate_size"),
        "epsilon": config.number("norm_eps", 1e-5),
        "activation": ACTIVATIONS[activation],
        "window": config.natural("local_attention") // 2,
        "every": _every(config, depth),
        "theta": _theta(config, FAR, "global_rope_theta", 160000.0),
        "local_theta": _theta(config, NEAR, "local_rope_theta", 10000.0),
    }


def layer_types(depth: int, every: int) -> list[str]:
    """Which blocks see far, as `config.json` lists it."""
    return [NEAR if index % every else FAR for index in range(depth)]


def _every(config: Table, depth: int) -> int:
    """Every how many blocks attention sees far: the number of transformers 4, or what the list of transformers 5 amounts to."""
    number = config.natural("global_attn_every_n_layers") if "global_attn_every_n_layers" in config.values else 3
    listed = config.values.get("layer_types")
    if listed is None:
        return number
    found = next((every for every in (number, *range(1, depth + 1)) if layer_types(depth, every) == listed), None)
    if found is None:
        raise config.refuse("layer_types", f"{FAR!r} for every n-th layer from the first on, {NEAR!r} for the others")
    return found


def _theta(config: Table, kind: str, old: str, default: float) -> float:
    """The base of the rotary positions, in the spelling of transformers 5 or 4."""
    table = config.values.get("rope_parameters")
    if table is None:
        config.must_be("rope_scaling", None)
        return config.number(old, default)
    entry = table.get(kind) if isinstance(table, dict) else None
    if not isinstance(entry, dict) or entry.get("rope_type", "default") != "default":
        raise config.refuse("rope_parameters", f'{{"rope_type": "default", "rope_theta": number}} for {FAR} and {NEAR}')
    return Table(f"{config.where}: rope_parameters.{kind}", entry).number("rope_theta", default)


_IGNORED = (
    (r"(module\.)?decoder\.(weight|bias)", "the head of pretraining, which guessed words"),
    (r"(module\.)?(head\.(dense|norm)|classifier)\.(weight|bias)", "a head for which this model has no place"),
)
HF_MODERNBERT = NameMap("Hugging Face ModernBERT", _detect, _table, _normalise, _IGNORED)
