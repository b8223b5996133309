"""The CIFAR ResNets of the UvA deep learning course in Flax: `ResNetBlock_i/Conv_j` and its pre-activation twin, `{params, batch_stats}`.

The basic block's shortcut is a convolution with bias and no norm; the pre-activation one's is norm, activation, convolution, and there is no final norm.
"""

from __future__ import annotations

import re
from typing import Any

from ftjax.weights.maps.base import FLAX_BATCH_NORM, Line, NameMap, Recognised, count_up, input_spec, norm_lines
from ftjax.weights.source import Source

CIFAR_MEAN, CIFAR_STD = (0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784)
"""Of CIFAR-10's training images, as the course normalises them."""

_IGNORED = ((r"(opt_state|step|tx|rng)(/.*)?", "training state"),)


def _strip(name: str, _: Recognised | None = None) -> str:
    return re.sub(r"^(params|batch_stats)/", "", name)


def _detect(source: Source) -> Recognised | None:
    raw = {_strip(name): name for name in source.tensors}
    kind = next((kind for kind in ("PreActResNetBlock", "ResNetBlock") if f"{kind}_0/Conv_0/kernel" in raw), None)
    if kind is None or "Conv_0/kernel" not in raw:
        return None
    widths, depths = _stages(source, raw, kind)
    preact = kind == "PreActResNetBlock"
    options: dict[str, Any] = {
        "stem": "cifar",
        "block": "preact" if preact else "basic",
        "widths": widths,
        "depths": depths,
        "activation": "relu",
        "padding": "same",
        "shortcut": "norm_conv" if preact else "conv_bias",
        "final_norm": False,
    }
    classes = source.tensors.shape(raw["Dense_0/kernel"])[1] if "Dense_0/kernel" in raw else None
    name_map = FLAX_PREACT_RESNET if preact else FLAX_RESNET
    why = "image size 32, CIFAR-10's mean and deviation and ReLU by convention of the course that made them"
    return Recognised("resnet", options, classes, (32, 32), name_map.name, input_spec(CIFAR_MEAN, CIFAR_STD, "bilinear", 1.0), why)


def _stages(source: Source, raw: dict[str, str], kind: str) -> tuple[list[int], list[int]]:
    """Widths and numbers of blocks of the stages: a new stage begins where the width changes."""
    blocks = [source.tensors.shape(raw[f"{kind}_{index}/Conv_0/kernel"])[-1] for index in range(count_up(f"{kind}_{{i}}/Conv_0/kernel", raw))]
    widths: list[int] = []
    depths: list[int] = []
    for width in blocks:
        if not widths or widths[-1] != width:
            widths.append(width)
            depths.append(0)
        depths[-1] += 1
    return widths, depths


def _common(kind: str) -> tuple[Line, ...]:
    block, ours = f"{kind}_{{i}}", "encoder/block_{i}"
    return (
        Line("Conv_0/kernel", "stem/conv/kernel"),
        Line(f"{block}/Conv_0/kernel", f"{ours}/conv1/kernel"),
        *norm_lines(f"{block}/BatchNorm_0", f"{ours}/norm1", "/", FLAX_BATCH_NORM),
        Line(f"{block}/Conv_1/kernel", f"{ours}/conv2/kernel"),
        *norm_lines(f"{block}/BatchNorm_1", f"{ours}/norm2", "/", FLAX_BATCH_NORM),
        Line(f"{block}/Conv_2/kernel", f"{ours}/shortcut/conv/kernel"),
        Line("Dense_0/kernel", "head/kernel"),
        Line("Dense_0/bias", "head/bias"),
    )


def _basic_table(_: Recognised) -> tuple[Line, ...]:
    bias = Line("ResNetBlock_{i}/Conv_2/bias", "encoder/block_{i}/shortcut/conv/bias")
    return (*_common("ResNetBlock"), *norm_lines("BatchNorm_0", "stem/norm", "/", FLAX_BATCH_NORM), bias)


def _preact_table(_: Recognised) -> tuple[Line, ...]:
    shortcut = norm_lines("PreActResNetBlock_{i}/BatchNorm_2", "encoder/block_{i}/shortcut/norm", "/", FLAX_BATCH_NORM)
    return (*_common("PreActResNetBlock"), *shortcut)


FLAX_RESNET = NameMap("Flax CIFAR ResNet", _detect, _basic_table, _strip, _IGNORED)
FLAX_PREACT_RESNET = NameMap("Flax CIFAR PreActResNet", lambda source: None, _preact_table, _strip, _IGNORED)
