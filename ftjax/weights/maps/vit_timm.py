"""timm's plain ViT and DeiT (`blocks.0.attn.qkv.weight`), in torch's layouts; the fused qkv is split."""

from __future__ import annotations

import numpy as np

from ftjax.weights.maps.base import CONV, HALF, KEEP, LINEAR, TORCH_NORM, Conversion, Line, NameMap, Recognised, count_up, input_spec, norm_lines
from ftjax.weights.maps.vit import heads_of, image_size_of, ratio, refuse_unsupported, square_patch
from ftjax.weights.source import Source

_UNSUPPORTED = {
    "fc_norm.": "average pooling before the head",
    "dist_token": "a distillation token",
    "reg_token": "register tokens",
    ".ls1.": "layer scale",
    ".q_norm.": "normalised queries",
    "norm_pre.": "a norm before the blocks",
    "pre_logits.": "a representation layer before the head",
    "attn_pool.": "attention pooling",
    "rel_pos": "relative positions",
}


def _third(index: int, name: str, layout: Conversion) -> Conversion:
    """One of query, key and value, which lie one after the other along the first axis."""

    def take(array: np.ndarray) -> np.ndarray:
        size = array.shape[0] // 3
        return layout.apply(array[index * size : (index + 1) * size])

    return Conversion(f"{name} of the fused qkv" + (f", {layout.name}" if layout.name else ""), take)


def _detect(source: Source) -> Recognised | None:
    names = list(source.tensors)
    if not {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight", "pos_embed", "cls_token"} <= set(names):
        return None
    refuse_unsupported(source, names, _UNSUPPORTED, "a timm ViT")
    shape = source.tensors.shape
    width, channels, *patch = shape("patch_embed.proj.weight")
    side = square_patch(source, patch[0], patch[1], channels)
    heads, why = heads_of(source, width)
    options = {
        "patch": side,
        "width": width,
        "depth": count_up("blocks.{i}.norm1.weight", names),
        "heads": heads,
        "mlp_ratio": ratio(shape("blocks.0.mlp.fc1.weight")[0], width),
    }
    classes = shape("head.weight")[0] if "head.weight" in source.tensors else None
    size = image_size_of(source, shape("pos_embed")[1] - 1, (side, side))
    why += "; input as timm normalises plain ViTs (DeiT differs)"
    return Recognised("vit", options, classes, size, TIMM_VIT.name, input_spec(HALF, HALF, "bicubic", 0.9), why)


def _linear(source: str, target: str) -> tuple[Line, ...]:
    return Line(f"{source}.weight", f"{target}/kernel", LINEAR), Line(f"{source}.bias", f"{target}/bias")


def _table(_: Recognised) -> tuple[Line, ...]:
    block = "encoder/block_{i}"
    fused = [
        Line(f"blocks.{{i}}.attn.qkv.{leaf}", f"{block}/attention/{name}/{ours}", _third(index, name, layout))
        for index, name in enumerate(("query", "key", "value"))
        for leaf, ours, layout in (("weight", "kernel", LINEAR), ("bias", "bias", KEEP))
    ]
    return (
        Line("patch_embed.proj.weight", "stem/patch/kernel", CONV),
        Line("patch_embed.proj.bias", "stem/patch/bias"),
        Line("cls_token", "stem/class_token"),
        Line("pos_embed", "stem/position"),
        *norm_lines("blocks.{i}.norm1", f"{block}/norm1", ".", TORCH_NORM),
        *norm_lines("blocks.{i}.norm2", f"{block}/norm2", ".", TORCH_NORM),
        *fused,
        *_linear("blocks.{i}.attn.proj", f"{block}/attention/out"),
        *_linear("blocks.{i}.mlp.fc1", f"{block}/mlp/up"),
        *_linear("blocks.{i}.mlp.fc2", f"{block}/mlp/down"),
        *norm_lines("norm", "norm", ".", TORCH_NORM),
        *_linear("head", "head"),
    )


TIMM_VIT = NameMap("timm ViT", _detect, _table)
