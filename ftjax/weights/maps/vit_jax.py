"""Google's own ViTs: vision_transformer (`Transformer/encoderblock_0/MultiHeadDotProductAttention_1/...`) and big_vision (`params/...`, `_0`).

Attention kernels come as (in, heads, size) and are flattened; the number of heads is read from them. big_vision puts the class token in front
after adding positions, so its table of positions has one row less: a zero row is the same computation.
"""

from __future__ import annotations

import numpy as np

from ftjax.errors import WeightsError
from ftjax.weights.maps.base import (
    FLAX_NORM,
    HALF,
    HEADS_BIAS,
    HEADS_IN,
    HEADS_OUT,
    KEEP,
    Conversion,
    Line,
    NameMap,
    Recognised,
    count_up,
    input_spec,
    norm_lines,
)
from ftjax.weights.maps.vit import image_size_of, ratio, refuse_unsupported, square_patch
from ftjax.weights.source import Source

_UNSUPPORTED = {
    "MAPHead": "attention pooling (MAPHead)",
    "pre_logits": "a representation layer before the head (pre_logits)",
    "Transformer/encoderblock/": "scanned blocks: unstack them first",
    "ResNet": "a convolutional root (hybrid)",
}
_ZERO_ROW = Conversion("a zero row in front for the class token", lambda array: np.concatenate([np.zeros_like(array[:, :1]), array], axis=1))
_PREFIXES = ("params/", "opt/target/")


def _strip(name: str, _: Recognised | None = None) -> str:
    return next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), name)


def _detect(source: Source) -> Recognised | None:
    raw = {_strip(name): name for name in source.tensors}
    if "embedding/kernel" not in raw or not any(name.startswith("Transformer/encoderblock") for name in raw):
        return None
    refuse_unsupported(source, list(raw), _UNSUPPORTED, "a Google ViT")
    if "cls" not in raw:
        raise WeightsError(f"{source.location}: a Google ViT without a class token ('cls') is not supported; allowed: a plain ViT with a class token")
    big_vision = "pos_embedding" in raw
    query, hidden, position = _markers(big_vision)
    if not {query, hidden, position} <= raw.keys():
        raise WeightsError(f"{source.location}: a Google ViT without {sorted({query, hidden, position} - raw.keys())}")
    return _recognised(source, raw, query, hidden, position)


def _markers(big_vision: bool) -> tuple[str, str, str]:
    attention, mlp = ("MultiHeadDotProductAttention_0", "MlpBlock_0") if big_vision else ("MultiHeadDotProductAttention_1", "MlpBlock_3")
    position = "pos_embedding" if big_vision else "Transformer/posembed_input/pos_embedding"
    return f"Transformer/encoderblock_0/{attention}/query/kernel", f"Transformer/encoderblock_0/{mlp}/Dense_0/kernel", position


def _recognised(source: Source, raw: dict[str, str], query: str, hidden: str, position: str) -> Recognised:
    def shape(name: str) -> tuple[int, ...]:
        return source.tensors.shape(raw[name])

    height, breadth, channels, width = shape("embedding/kernel")
    side = square_patch(source, height, breadth, channels)
    options = {
        "patch": side,
        "width": width,
        "depth": count_up("Transformer/encoderblock_{i}/LayerNorm_0/scale", raw),
        "heads": shape(query)[1],
        "mlp_ratio": ratio(shape(hidden)[1], width),
    }
    classes = shape("head/kernel")[1] if "head/kernel" in raw else None
    big_vision = position == "pos_embedding"
    size = image_size_of(source, shape(position)[1] - (0 if big_vision else 1), (side, side))
    name_map = BIG_VISION_VIT if big_vision else VISION_TRANSFORMER_VIT
    return Recognised("vit", options, classes, size, name_map.name, input_spec(HALF, HALF, "bilinear", 1.0), "input as big_vision's value_range(-1, 1)")


def _attention(source: str, target: str) -> tuple[Line, ...]:
    lines: list[Line] = []
    for name in ("query", "key", "value"):
        lines += [Line(f"{source}/{name}/kernel", f"{target}/{name}/kernel", HEADS_OUT), Line(f"{source}/{name}/bias", f"{target}/{name}/bias", HEADS_BIAS)]
    return (*lines, Line(f"{source}/out/kernel", f"{target}/out/kernel", HEADS_IN), Line(f"{source}/out/bias", f"{target}/out/bias"))


def _dense(source: str, target: str) -> tuple[Line, ...]:
    return Line(f"{source}/kernel", f"{target}/kernel"), Line(f"{source}/bias", f"{target}/bias")


def _lines(attention: str, norm2: str, mlp: str, position: Line) -> tuple[Line, ...]:
    block, ours = "Transformer/encoderblock_{i}", "encoder/block_{i}"
    return (
        *_dense("embedding", "stem/patch"),
        Line("cls", "stem/class_token"),
        position,
        *norm_lines(f"{block}/LayerNorm_0", f"{ours}/norm1", "/", FLAX_NORM),
        *norm_lines(f"{block}/{norm2}", f"{ours}/norm2", "/", FLAX_NORM),
        *_attention(f"{block}/{attention}", f"{ours}/attention"),
        *_dense(f"{block}/{mlp}/Dense_0", f"{ours}/mlp/up"),
        *_dense(f"{block}/{mlp}/Dense_1", f"{ours}/mlp/down"),
        *norm_lines("Transformer/encoder_norm", "norm", "/", FLAX_NORM),
        *_dense("head", "head"),
    )


def _vision_transformer_table(_: Recognised) -> tuple[Line, ...]:
    position = Line("Transformer/posembed_input/pos_embedding", "stem/position", KEEP)
    return _lines("MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3", position)


def _big_vision_table(_: Recognised) -> tuple[Line, ...]:
    return _lines("MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0", Line("pos_embedding", "stem/position", _ZERO_ROW))


_IGNORED = ((r"(opt|opt_state|extra)/(?!target/).*", "training state"), (r"step", "training state"))
VISION_TRANSFORMER_VIT = NameMap("vision_transformer ViT", _detect, _vision_transformer_table, _strip, _IGNORED)
BIG_VISION_VIT = NameMap("big_vision ViT", lambda source: None, _big_vision_table, _strip, _IGNORED)
