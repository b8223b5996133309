"""Keras' MobileNetV2 (`Conv1`, `expanded_conv_*`, `block_1_expand`, `..._BN/gamma`, `Conv_1`), HWIO; the depthwise kernel's last two axes are swapped."""

from __future__ import annotations

import re

from ftjax.errors import WeightsError
from ftjax.weights.maps.base import DEPTHWISE, HALF, KERAS_BATCH_NORM, Line, NameMap, Recognised, input_spec, norm_lines
from ftjax.weights.source import Source

ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
"""Width multipliers that Keras publishes."""

WIDTHS = (16, *(24,) * 2, *(32,) * 3, *(64,) * 4, *(96,) * 3, *(160,) * 3, 320)
"""Output channels of the 17 blocks for alpha 1 (Sandler et al. 2018, table 2)."""


def scaled(width: int, alpha: float) -> int:
    """`int(alpha * width)` to the nearest multiple of 8, but never more than a tenth below it."""
    wanted = int(alpha * width)
    rounded = max(8, (wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _normalise(name: str, _: Recognised | None = None) -> str:
    name = re.sub(r"^expanded_conv_", "block_0_", name)
    return re.sub(r"^(predictions|Logits|logits)/", "predictions/", name)


def _detect(source: Source) -> Recognised | None:
    raw = {_normalise(name): name for name in source.tensors}
    if not {"Conv1/kernel", "block_0_depthwise/depthwise_kernel", "block_1_expand/kernel", "Conv_1/kernel"} <= raw.keys():
        return None
    projections = (f"block_{index}_project/kernel" for index in range(len(WIDTHS)))
    seen = tuple(source.tensors.shape(raw[name])[-1] if name in raw else None for name in projections)
    alpha = next((alpha for alpha in ALPHAS if seen == tuple(scaled(width, alpha) for width in WIDTHS)), None)
    if alpha is None:
        allowed = ", ".join(str(alpha) for alpha in ALPHAS)
        raise WeightsError(f"{source.location}: a MobileNetV2 whose blocks have {seen} channels, which is no known alpha; allowed: {allowed}")
    classes = source.tensors.shape(raw["predictions/kernel"])[-1] if "predictions/kernel" in raw else None
    why = "image size 224 and pixels in -1..1 by Keras' convention"
    return Recognised("mobilenet_v2", {"alpha": alpha}, classes, (224, 224), KERAS_MOBILENET_V2.name, input_spec(HALF, HALF, "bilinear", 1.0), why)


def _table(_: Recognised) -> tuple[Line, ...]:
    block = "encoder/block_{i}"
    norms = [
        line for part in ("expand", "depthwise", "project") for line in norm_lines(f"block_{{i}}_{part}_BN", f"{block}/{part}_norm", "/", KERAS_BATCH_NORM)
    ]
    return (
        Line("Conv1/kernel", "stem/conv/kernel"),
        *norm_lines("bn_Conv1", "stem/norm", "/", KERAS_BATCH_NORM),
        Line("block_{i}_expand/kernel", f"{block}/expand/kernel"),
        Line("block_{i}_depthwise/depthwise_kernel", f"{block}/depthwise/kernel", DEPTHWISE),
        Line("block_{i}_project/kernel", f"{block}/project/kernel"),
        *norms,
        Line("Conv_1/kernel", "top/conv/kernel"),
        *norm_lines("Conv_1_bn", "top/norm", "/", KERAS_BATCH_NORM),
        Line("predictions/kernel", "head/kernel"),
        Line("predictions/bias", "head/bias"),
    )


KERAS_MOBILENET_V2 = NameMap("Keras MobileNetV2", _detect, _table, _normalise)
