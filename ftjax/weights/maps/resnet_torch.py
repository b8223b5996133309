"""torch ResNets: torchvision's and timm's (`layer1.0.conv1.weight`, `downsample.0`, `fc`) and the CIFAR kind (`shortcut.0`, `linear`; Akamaster, kuangliu).

Stages `layer1..4` are counted through to blocks. What the names cannot tell (activation, where the stride lies) is torchvision v1.5's.
"""

from __future__ import annotations

import functools
import re

from ftjax.errors import WeightsError
from ftjax.weights.maps.base import (
    CONV,
    IMAGENET_MEAN,
    IMAGENET_STD,
    LINEAR,
    TORCH_BATCH_NORM,
    Line,
    NameMap,
    Recognised,
    count_up,
    input_spec,
    norm_lines,
)
from ftjax.weights.source import Source

_IGNORED = ((r".*\.num_batches_tracked", "a counter of torch's batch norm, not a weight"),)
_BLOCK = re.compile(r"layer(\d)\.(\d{1,4})\.(.*)")


def _detect(source: Source, head: str) -> Recognised | None:
    tensors = source.tensors
    needed = {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.running_mean", "layer1.0.conv2.weight"}
    other = {"fc": "linear", "linear": "fc"}[head]
    if not needed <= set(tensors) or f"{other}.weight" in tensors or (head == "linear" and "linear.weight" not in tensors):
        return None
    _refuse_relatives(source)
    stages = count_up("layer{i}.0.conv1.weight", [*tensors, "layer0.0.conv1.weight"]) - 1
    depths = [count_up(f"layer{stage}.{{i}}.conv1.weight", tensors) for stage in range(1, stages + 1)]
    bottleneck = "layer1.0.conv3.weight" in tensors
    widths = [tensors.shape(f"layer{stage}.0.conv1.weight")[0] for stage in range(1, stages + 1)]
    imagenet = tensors.shape("conv1.weight")[2] == 7
    options = {
        "stem": "imagenet" if imagenet else "cifar",
        "block": "bottleneck" if bottleneck else "basic",
        "widths": widths,
        "depths": depths,
        "activation": "relu",
        "padding": "symmetric",
        "shortcut": _shortcut(source, head, bottleneck, widths),
        "final_norm": False,
    }
    classes = tensors.shape(f"{head}.weight")[0] if f"{head}.weight" in tensors else None
    size, crop = ((224, 224), 0.875) if imagenet else ((32, 32), 1.0)
    why = f"image size {size[0]} and ImageNet's mean and deviation by convention"
    name = TORCHVISION_RESNET.name if head == "fc" else CIFAR_TORCH_RESNET.name
    return Recognised("resnet", options, classes, size, name, input_spec(IMAGENET_MEAN, IMAGENET_STD, "bilinear", crop), why)


def _refuse_relatives(source: Source) -> None:
    """Wide, grouped and squeezed ResNets share the names but not the computation.

    Raises:
      WeightsError: a tensor belongs to one of them.
    """
    tensors = source.tensors
    for marker, what in ((".se.", "squeeze and excitation"), ("conv1.0.", "a deep stem"), ("aa.", "anti-aliasing")):
        found = next((name for name in tensors if marker in name), None)
        if found is not None:
            raise WeightsError(f"{source.location}: a ResNet with {what} ({found!r}) is not supported; allowed: basic and bottleneck ResNets")
    if "layer1.0.conv3.weight" in tensors:
        inner, seen = tensors.shape("layer1.0.conv2.weight")[0], tensors.shape("layer1.0.conv2.weight")[1]
        outer = tensors.shape("layer1.0.conv3.weight")[0]
        if inner != seen or outer != 4 * inner:
            kind = "grouped convolutions (ResNeXt)" if inner != seen else "wide bottlenecks"
            raise WeightsError(f"{source.location}: a ResNet with {kind} is not supported; allowed: basic and bottleneck ResNets")


def _shortcut(source: Source, head: str, bottleneck: bool, widths: list[int]) -> str:
    """How a block changes shape: 1x1 convolution and norm, or (Akamaster's option A) padding with zeros."""
    name = "downsample" if head == "fc" else "shortcut"
    if any(f".{name}.0." in tensor for tensor in source.tensors):
        return "conv_norm"
    return "conv_norm" if bottleneck or len(set(widths)) == 1 else "subsample"


def _normalise(name: str, recognised: Recognised) -> str:
    """`layer2.0.conv1.weight` -> `block.3.conv1.weight` when the first stage has three blocks."""
    found = _BLOCK.fullmatch(name)
    if not found:
        return name
    stage, index, rest = int(found[1]), int(found[2]), found[3]
    before = recognised.options["depths"][: max(stage - 1, 0)]
    return f"block.{sum(before) + index}.{rest}"


def _table(_: Recognised, head: str) -> tuple[Line, ...]:
    block = "encoder/block_{i}"
    shortcut = "downsample" if head == "fc" else "shortcut"
    numbered = [
        line
        for number in (1, 2, 3)
        for line in (
            Line(f"block.{{i}}.conv{number}.weight", f"{block}/conv{number}/kernel", CONV),
            *norm_lines(f"block.{{i}}.bn{number}", f"{block}/norm{number}", ".", TORCH_BATCH_NORM),
        )
    ]
    return (
        Line("conv1.weight", "stem/conv/kernel", CONV),
        *norm_lines("bn1", "stem/norm", ".", TORCH_BATCH_NORM),
        *numbered,
        Line(f"block.{{i}}.{shortcut}.0.weight", f"{block}/shortcut/conv/kernel", CONV),
        *norm_lines(f"block.{{i}}.{shortcut}.1", f"{block}/shortcut/norm", ".", TORCH_BATCH_NORM),
        Line(f"{head}.weight", "head/kernel", LINEAR),
        Line(f"{head}.bias", "head/bias"),
    )


def _named(name: str, head: str) -> NameMap:
    return NameMap(name, functools.partial(_detect, head=head), functools.partial(_table, head=head), _normalise, _IGNORED)


TORCHVISION_RESNET = _named("torchvision ResNet", "fc")
CIFAR_TORCH_RESNET = _named("torch CIFAR ResNet", "linear")
