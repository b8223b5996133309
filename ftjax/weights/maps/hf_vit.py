"""Hugging Face's ViT, DeiT and DINOv2, in both spellings: on disk `encoder.layer.0.attention.attention.query`, and the names inside
transformers from 5.9 on (`layers.0.attention.q_proj`, DINOv2 `encoder.layer.0.attention.q_proj`), which adapters and bare state dicts have.

What is read from `config.json` is checked; the shapes of the tensors are held against it by the load plan.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from ftjax.weights.maps.base import CONV, HALF, IMAGENET_MEAN, IMAGENET_STD, LINEAR, TORCH_NORM, Line, NameMap, Recognised, input_spec, norm_lines
from ftjax.weights.maps.hf import Size, Table, classes_of, config_of, input_of, needs_config
from ftjax.weights.maps.vit import ratio
from ftjax.weights.resize import interpolate_positions
from ftjax.weights.source import Source


@dataclasses.dataclass(frozen=True)
class _Names:
    """The names of one family in one spelling: prefix of the body, of a block, and of its layers in the order of `_ROLES`."""

    prefix: str
    block: str
    layers: tuple[str, ...]


_ROLES = ("norm1", "norm2", "attention/query", "attention/key", "attention/value", "attention/out", "mlp/up", "mlp/down")
_DISK = ("attention.attention.query", "attention.attention.key", "attention.attention.value", "attention.output.dense")
_INSIDE = ("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj")
_VIT_NORMS, _DINO_NORMS = ("layernorm_before", "layernorm_after"), ("norm1", "norm2")
_VIT_MLP, _MLP = ("intermediate.dense", "output.dense"), ("mlp.fc1", "mlp.fc2")
_HEADS = ("classifier.", "cls_classifier.", "distillation_classifier.")


def _disk(prefix: str) -> _Names:
    norms, mlp = (_DINO_NORMS, _MLP) if prefix == "dinov2" else (_VIT_NORMS, _VIT_MLP)
    return _Names(prefix, "encoder.layer.{i}", (*norms, *_DISK, *mlp))


def _inside(prefix: str) -> _Names:
    dino = prefix == "dinov2"
    return _Names(prefix, "encoder.layer.{i}" if dino else "layers.{i}", (*(_DINO_NORMS if dino else _VIT_NORMS), *_INSIDE, *_MLP))


def _table(_: Recognised, names: _Names) -> tuple[Line, ...]:
    stem, block, ours = f"{names.prefix}.embeddings", f"{names.prefix}.{names.block}", "encoder/block_{i}"
    lines = [
        Line(f"{stem}.patch_embeddings.projection.weight", "stem/patch/kernel", CONV),
        Line(f"{stem}.patch_embeddings.projection.bias", "stem/patch/bias"),
        Line(f"{stem}.cls_token", "stem/class_token"),
        Line(f"{stem}.position_embeddings", "stem/position"),
    ]
    for role, layer in zip(_ROLES, names.layers):
        lines += norm_lines(f"{block}.{layer}", f"{ours}/{role}", ".", TORCH_NORM) if role.startswith("norm") else _linear(f"{block}.{layer}", f"{ours}/{role}")
    if names.prefix == "deit":
        lines.append(Line(f"{stem}.distillation_token", "stem/distillation_token"))
    if names.prefix == "dinov2":
        lines += [Line(f"{block}.layer_scale{number}.lambda1", f"{ours}/layer_scale{number}/scale") for number in (1, 2)]
    return (*lines, *norm_lines(f"{names.prefix}.layernorm", "norm", ".", TORCH_NORM), *_linear("classifier", "head"))


def _linear(source: str, target: str) -> tuple[Line, ...]:
    return Line(f"{source}.weight", f"{target}/kernel", LINEAR), Line(f"{source}.bias", f"{target}/bias")


def _normalise(name: str, _: Recognised, prefix: str) -> str:
    """A bare model (`ViTModel`) is saved without the prefix that it has inside a classifier."""
    return name if name.startswith((f"{prefix}.", *_HEADS)) else f"{prefix}.{name}"


def _detect(source: Source, prefix: str) -> Recognised | None:
    config = config_of(source, prefix)
    if config is None:
        needs_config(source, [f"{prefix}.embeddings.cls_token"], prefix)
        return None
    _check_supported(config)
    height, width = config.side("image_size")
    classes, names = classes_of(config, source, "classifier.weight")
    read, asked, why = input_of(source, _CONVENTIONS[prefix])
    inside = any(".q_proj." in name for name in source.tensors)
    name_map = HF_VITS[f"{prefix} inside" if inside else prefix]
    size, note = _input_size(prefix, (height, width), asked)
    reasons = "; ".join(part for part in (why, note, _teacher(source)) if part)
    return Recognised("vit", _options(config, prefix), classes, (height, width), name_map.name, read, reasons, names, size)


def _check_supported(config: Table) -> None:
    """Refuse what the family cannot compute.

    Raises:
      WeightsError: the key of `config.json` that asks for it.
    """
    config.must_be("hidden_act", "gelu")
    config.must_be("qkv_bias", True)
    config.must_be("num_channels", 3)
    config.must_be("use_swiglu_ffn", False)
    rows, columns = config.side("patch_size")
    if rows != columns:
        raise config.refuse("patch_size", "square patches")


def _options(config: Table, prefix: str) -> dict[str, Any]:
    width = config.natural("hidden_size")
    dino = prefix == "dinov2"
    hidden = int(width * config.number("mlp_ratio", 4)) if dino else config.natural("intermediate_size")
    options: dict[str, Any] = {
        "patch": config.side("patch_size")[0],
        "width": width,
        "depth": config.natural("num_hidden_layers"),
        "heads": config.natural("num_attention_heads"),
        "mlp_ratio": ratio(hidden, width),
        "epsilon": config.number("layer_norm_eps", 1e-6 if dino else 1e-12),
    }
    if width % options["heads"]:
        raise config.refuse("num_attention_heads", f"a divisor of hidden_size={width}")
    return options | {"deit": {"distillation": True}, "dinov2": {"layer_scale": True, "pool": "token_mean"}}.get(prefix, {})


def _input_size(prefix: str, trained: Size, asked: Size | None) -> tuple[Size | None, str]:
    """DINOv2 interpolates its positions for any picture; the others take the size of `config.json` and nothing else."""
    if asked is None or asked == trained:
        return None, ""
    if prefix == "dinov2":
        return asked, f"positions of {trained[0]}x{trained[1]} pixels for pictures of {asked[0]}x{asked[1]}, as transformers interpolates them"
    return None, f"preprocessor_config.json asks for {asked[0]}x{asked[1]} pixels, config.json for {trained[0]}x{trained[1]}: the latter"


def _teacher(source: Source) -> str:
    return _TWO_HEADS if "cls_classifier.weight" in source.tensors else ""


_TWO_HEADS = "its answer is the mean of two heads on two tokens, which is no single head on the class token"
_CONVENTIONS = {
    "vit": input_spec(HALF, HALF, "bilinear", 1.0),
    "deit": input_spec(IMAGENET_MEAN, IMAGENET_STD, "bicubic", 0.875),
    "dinov2": input_spec(IMAGENET_MEAN, IMAGENET_STD, "bicubic", 0.875),
}
_IGNORED = (
    (r"((vit|deit|dinov2)\.)?pooler\.dense\.(weight|bias)", "a pooler, which image classification does not use"),
    (r"(dinov2\.)?embeddings\.mask_token", "stands for masked patches in pretraining"),
    (r"(cls|distillation)_classifier\.(weight|bias)", _TWO_HEADS),
)


def _name_map(name: str, names: _Names, detect: Any) -> NameMap:
    normalise = functools.partial(_normalise, prefix=names.prefix)
    return NameMap(name, detect, functools.partial(_table, names=names), normalise, _IGNORED, interpolate_positions)


def _both(prefix: str, shown: str) -> dict[str, NameMap]:
    """The maps of one family: files as they lie on disk, and the spelling inside transformers, which the first one's `detect` also finds."""
    return {
        prefix: _name_map(f"Hugging Face {shown}", _disk(prefix), functools.partial(_detect, prefix=prefix)),
        f"{prefix} inside": _name_map(f"Hugging Face {shown} (transformers 5.9 inside)", _inside(prefix), lambda source: None),
    }


HF_VITS = {**_both("vit", "ViT"), **_both("deit", "DeiT"), **_both("dinov2", "DINOv2")}
"""Every map of this file, by model type."""
