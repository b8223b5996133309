"""The families and the models that have a name, and the two ways in: `named` for a name, `build` for a spec."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from ftjax.errors import ConfigError, did_you_mean
from ftjax.models import convnext, decoder, encoder, factorisation, mobilenet_v2, modernbert, recurrent, resnet, sequence, two_tower, vit
from ftjax.models.family import Family, Model, Options
from ftjax.models.layers import Precision
from ftjax.models.spec import Compute, InputSpec, ModelSpec

_RECOMMENDERS = (sequence.SASREC, sequence.BERT4REC, recurrent.FAMILY, two_tower.FAMILY, factorisation.FAMILY)

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        *(vit.FAMILY, resnet.FAMILY, mobilenet_v2.FAMILY, convnext.FAMILY, encoder.FAMILY, modernbert.FAMILY, decoder.FAMILY),
        *_RECOMMENDERS,
    )
}
"""Every family by its name. To add one, write its file after the pattern of `vit.py` and name it here."""

RECOMMENDERS = tuple(family.name for family in _RECOMMENDERS)
"""Families that read histories; each is also a name (`model.name`), whose sizes are `config.recommendation`'s."""

_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR = ((0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784))
"""Mean and standard deviation of CIFAR-10's training pixels."""


@dataclasses.dataclass(frozen=True)
class _Named:
    family: str
    options: dict[str, Any]
    image_size: tuple[int, int]
    input: InputSpec


def _vit(width: int, heads: int) -> _Named:
    options = {"patch": 16, "width": width, "depth": 12, "heads": heads, "mlp_ratio": 4.0}
    return _Named("vit", options, (224, 224), InputSpec(*_HALF, "bicubic", 0.9))


def _cifar(block: str) -> _Named:
    options = {"stem": "cifar", "block": block, "widths": [16, 32, 64], "depths": [3, 3, 3], "activation": "relu"}
    return _Named("resnet", options, (32, 32), InputSpec(*_CIFAR, "bilinear", 1.0))


def _resnet(block: str, depths: list[int]) -> _Named:
    options = {"stem": "imagenet", "block": block, "widths": [64, 128, 256, 512], "depths": depths, "activation": "relu"}
    return _Named("resnet", options, (224, 224), InputSpec(*_IMAGENET, "bilinear", 0.875))


def _mobilenet(alpha: float) -> _Named:
    """Keras trained with 0.875 of the image for evaluation; its own examples resize straight to the model's size, and so do we."""
    return _Named("mobilenet_v2", {"alpha": alpha}, (224, 224), InputSpec(*_HALF, "bilinear", 1.0))


_NAMED: dict[str, _Named] = {
    "vit_tiny_patch16_224": _vit(192, 3),
    "vit_small_patch16_224": _vit(384, 6),
    "vit_base_patch16_224": _vit(768, 12),
    "vit_digits": _Named("vit", {"patch": 4, "width": 96, "depth": 4, "heads": 4, "mlp_ratio": 4.0}, (16, 16), InputSpec(*_HALF, "bilinear", 1.0)),
    "resnet20_cifar": _cifar("basic"),
    "preact_resnet20_cifar": _cifar("preact"),
    "resnet18": _resnet("basic", [2, 2, 2, 2]),
    "resnet50": _resnet("bottleneck", [3, 4, 6, 3]),
    "mobilenet_v2_0.35": _mobilenet(0.35),
    "mobilenet_v2_1.0": _mobilenet(1.0),
}


def names() -> tuple[str, ...]:
    """Every model that `named` knows."""
    return tuple(_NAMED)


def named(name: str, num_classes: int, image_size: tuple[int, int] | None = None) -> tuple[ModelSpec, InputSpec]:
    """The specification of a model by its name, complete and checked, and how its pixels are prepared.

    Args:
      name: one of `names()`.
      num_classes: outputs of the head.
      image_size: (height, width) in pixels; None: what the model was made for.

    Raises:
      ConfigError: unknown name, or a size that the model cannot take.
    """
    if name not in _NAMED:
        raise ConfigError(f"model.name {name!r} is unknown; {did_you_mean(name, _NAMED)}")
    entry = _NAMED[name]
    spec = ModelSpec(entry.family, entry.options, num_classes, tuple(image_size or entry.image_size))
    return FAMILIES[entry.family].resolve(spec), entry.input


def for_output(family: str, options: Options, output: str, pool: str | None = None) -> Options:
    """The options of a pretrained body for a run of one's own.

    Args:
      family: as in `ModelSpec.family`.
      options: what the pretrained file was made for, complete.
      output: "sequence", "tokens", "embedding" or "language".
      pool: what the head sees, as `model.pool` has it; None: what the file was made for.

    Raises:
      ConfigError: the family is unknown, or it has no such output or pool.
    """
    if family not in FAMILIES:
        raise ConfigError(f"model family {family!r} is unknown; {did_you_mean(family, FAMILIES)}")
    known = FAMILIES[family]
    if known.reads == "images" and (output != "sequence" or pool is not None):
        raise ConfigError(f"{family} reads images: output {output!r} and model.pool={pool!r} are of text; allowed: 'sequence' and none")
    return known.for_output(options, output, pool)


def build(
    spec: ModelSpec,
    *,
    precision: Precision = "float32",
    batch_statistics: Literal["frozen", "updated"] = "frozen",
    remat: Literal["none", "blocks", "dots"] | bool = "none",
    scan: bool = False,
    drop_path: float = 0.0,
    dropout: float = 0.0,
    neftune: float = 0.0,
) -> Model:
    """The model of `spec`; options that it leaves out take the family's defaults.

    Args:
      spec: what to compute.
      precision: of operands; parameters, accumulation and logits stay float32.
      batch_statistics: whether training follows batch norm's mean and variance or keeps them.
      remat: what the backward pass computes again, to save memory: each block's inside ("blocks", True), or all of that but products with weights ("dots").
      scan: compile one block and repeat it; the parameters keep their names.
      drop_path: stochastic depth's rate at the last block.
      dropout: rate of dropout.
      neftune: how loud the noise on the embeddings of words is when training (Jain et al. 2023).

    Raises:
      ConfigError: unknown family or option, or values that do not fit together.
    """
    if spec.family not in FAMILIES:
        raise ConfigError(f"model family {spec.family!r} is unknown; {did_you_mean(spec.family, FAMILIES)}")
    family = FAMILIES[spec.family]
    compute = Compute(precision=precision, batch_statistics=batch_statistics, remat=remat, scan=scan, drop_path=drop_path, dropout=dropout, neftune=neftune)
    _check_compute(family, compute)
    return Model(family.resolve(spec), family, compute)


def _check_compute(family: Family, compute: Compute) -> None:
    """Refuse what this family cannot do.

    Raises:
      ConfigError: the key that asks for it.
    """
    if compute.scan and not family.alike:
        alike = ", ".join(sorted(other.name for other in FAMILIES.values() if other.alike))
        raise ConfigError(f"model.scan: the blocks of {family.name} are not all alike, one cannot stand for the others; allowed for: {alike}")
    if compute.scan and compute.drop_path > 0:
        raise ConfigError(f"model.scan: with model.drop_path={compute.drop_path} every block has a rate of its own; allowed: one of the two")
    if compute.neftune > 0 and family.reads != "text":
        raise ConfigError(f"augment.neftune {compute.neftune}: {family.name} reads {family.reads} and has no embeddings of words; allowed: 0")
