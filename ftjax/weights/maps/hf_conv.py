"""Hugging Face's ConvNeXt and ResNet (`microsoft/resnet-50` and kin, which are v1.5: the stride lies in the 3x3 convolution).

`stages.1.layers.0` is counted through to blocks, so their tables list every block of the model at hand.
"""

from __future__ import annotations

import functools
from typing import Any

from ftjax.weights.maps.base import (
    CONV,
    IMAGENET_MEAN,
    IMAGENET_STD,
    LINEAR,
    TORCH_BATCH_NORM,
    TORCH_NORM,
    Line,
    NameMap,
    Recognised,
    input_spec,
    norm_lines,
)
from ftjax.weights.maps.hf import Table, classes_of, config_of, input_of, needs_config
from ftjax.weights.source import Source

_SIZE = (224, 224)


def _normalise(name: str, _: Recognised, prefix: str) -> str:
    """A bare model (`ResNetModel`) is saved without the prefix that it has inside a classifier."""
    return name if name.startswith((f"{prefix}.", "classifier.")) else f"{prefix}.{name}"


def _recognised(source: Source, config: Table, family: str, options: dict[str, Any], head: str, name: str) -> Recognised:
    classes, names = classes_of(config, source, head)
    read, size, why = input_of(source, input_spec(IMAGENET_MEAN, IMAGENET_STD, "bicubic", 0.875))
    why += "" if size else "; image size 224 by convention"
    return Recognised(family, options, classes, size or _SIZE, name, read, why, names)


def _blocks(depths: list[int]) -> list[tuple[int, int, int]]:
    """(stage, index in the stage, index in the model) of every block."""
    places = [(stage, index) for stage, depth in enumerate(depths) for index in range(depth)]
    return [(stage, index, number) for number, (stage, index) in enumerate(places)]


def _layer(source: str, target: str, conversion: Any) -> tuple[Line, ...]:
    return Line(f"{source}.weight", f"{target}/kernel", conversion), Line(f"{source}.bias", f"{target}/bias")


def _detect_convnext(source: Source) -> Recognised | None:
    config = config_of(source, "convnext")
    if config is None:
        needs_config(source, ["convnext.embeddings.layernorm.weight"], "ConvNeXt")
        return None
    config.must_be("hidden_act", "gelu")
    config.must_be("num_channels", 3)
    widths, depths = _stages(config)
    options = {
        "patch": config.natural("patch_size"),
        "widths": widths,
        "depths": depths,
        "layer_scale": config.number("layer_scale_init_value", 1e-6),
        "epsilon": config.number("layer_norm_eps", 1e-12),
    }
    return _recognised(source, config, "convnext", options, "classifier.weight", HF_CONVNEXT.name)


def _stages(config: Table) -> tuple[list[int], list[int]]:
    """Widths and numbers of blocks.

    Raises:
      WeightsError: there is not one for each stage.
    """
    widths, depths = config.naturals("hidden_sizes"), config.naturals("depths")
    if len(widths) != len(depths):
        raise config.refuse("depths", f"one for each of hidden_sizes={widths}")
    return widths, depths


def _convnext_table(recognised: Recognised) -> tuple[Line, ...]:
    lines = [
        *_layer("convnext.embeddings.patch_embeddings", "stem/patch", CONV),
        *norm_lines("convnext.embeddings.layernorm", "stem/norm", ".", TORCH_NORM),
    ]
    for stage, index, number in _blocks(recognised.options["depths"]):
        theirs, ours = f"convnext.encoder.stages.{stage}.layers.{index}", f"encoder/block_{number}"
        if stage and not index:
            down = f"convnext.encoder.stages.{stage}.downsampling_layer"
            lines += norm_lines(f"{down}.0", f"{ours}/downsample/norm", ".", TORCH_NORM)
            lines += _layer(f"{down}.1", f"{ours}/downsample/conv", CONV)
        lines += _layer(f"{theirs}.dwconv", f"{ours}/depthwise", CONV)
        lines += norm_lines(f"{theirs}.layernorm", f"{ours}/norm", ".", TORCH_NORM)
        lines += _layer(f"{theirs}.pwconv1", f"{ours}/mlp/up", LINEAR)
        lines += _layer(f"{theirs}.pwconv2", f"{ours}/mlp/down", LINEAR)
        lines.append(Line(f"{theirs}.layer_scale_parameter", f"{ours}/layer_scale/scale"))
    return (*lines, *norm_lines("convnext.layernorm", "norm", ".", TORCH_NORM), *_layer("classifier", "head", LINEAR))


def _detect_resnet(source: Source) -> Recognised | None:
    config = config_of(source, "resnet")
    if config is None:
        needs_config(source, ["resnet.embedder.embedder.convolution.weight"], "ResNet")
        return None
    config.must_be("num_channels", 3)
    config.must_be("downsample_in_first_stage", False)
    config.must_be("downsample_in_bottleneck", False)
    kind, activation = config.values.get("layer_type", "bottleneck"), config.values.get("hidden_act", "relu")
    if kind not in ("basic", "bottleneck"):
        raise config.refuse("layer_type", "'basic' or 'bottleneck'")
    if activation not in _ACTIVATIONS:
        raise config.refuse("hidden_act", ", ".join(map(repr, _ACTIVATIONS)))
    options = {
        "stem": "imagenet",
        "block": kind,
        **_resnet_stages(config, 4 if kind == "bottleneck" else 1),
        "activation": _ACTIVATIONS[activation],
        "padding": "symmetric",
        "shortcut": "conv_norm",
        "final_norm": False,
    }
    return _recognised(source, config, "resnet", options, "classifier.1.weight", HF_RESNET.name)


def _resnet_stages(config: Table, expansion: int) -> dict[str, list[int]]:
    """Inner widths and depths.

    Raises:
      WeightsError: the stem is not as wide as the first stage's inside, or a width is no multiple of the expansion.
    """
    outer, depths = _stages(config)
    if any(width % expansion for width in outer):
        raise config.refuse("hidden_sizes", f"multiples of {expansion}")
    widths = [width // expansion for width in outer]
    if config.natural("embedding_size") != widths[0]:
        raise config.refuse("embedding_size", f"{widths[0]}, the inner width of the first stage")
    return {"widths": widths, "depths": depths}


def _resnet_table(recognised: Recognised) -> tuple[Line, ...]:
    stem = "resnet.embedder.embedder"
    lines = [Line(f"{stem}.convolution.weight", "stem/conv/kernel", CONV), *norm_lines(f"{stem}.normalization", "stem/norm", ".", TORCH_BATCH_NORM)]
    convolutions = 3 if recognised.options["block"] == "bottleneck" else 2
    for stage, index, number in _blocks(recognised.options["depths"]):
        theirs, ours = f"resnet.encoder.stages.{stage}.layers.{index}", f"encoder/block_{number}"
        places = [(f"{theirs}.layer.{place}", f"conv{place + 1}", f"norm{place + 1}") for place in range(convolutions)]
        for layer, conv, norm in (*places, (f"{theirs}.shortcut", "shortcut/conv", "shortcut/norm")):
            lines.append(Line(f"{layer}.convolution.weight", f"{ours}/{conv}/kernel", CONV))
            lines += norm_lines(f"{layer}.normalization", f"{ours}/{norm}", ".", TORCH_BATCH_NORM)
    return (*lines, *_layer("classifier.1", "head", LINEAR))


_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "silu": "swish", "swish": "swish", "tanh": "tanh"}
_COUNTERS = ((r".*\.num_batches_tracked", "a counter of torch's batch norm, not a weight"),)
HF_CONVNEXT = NameMap("Hugging Face ConvNeXt", _detect_convnext, _convnext_table, functools.partial(_normalise, prefix="convnext"))
HF_RESNET = NameMap("Hugging Face ResNet", _detect_resnet, _resnet_table, functools.partial(_normalise, prefix="resnet"), _COUNTERS)
