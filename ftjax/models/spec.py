"""What a model is, as data: its architecture (`ModelSpec`), what its pixels look like (`InputSpec`) and how it is computed (`Compute`).

The first two travel with the weights in every artefact; the third belongs to a run.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ftjax.errors import ConfigError, did_you_mean
from ftjax.models.layers import Precision

Option = Any
"""A JSON value: int, float, str, bool or a list of ints; of the type of the family's default."""


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """One architecture: a family, its options, the number of classes and the (height, width) that it sees, in pixels; None: it reads text."""

    family: str
    options: Mapping[str, Option]
    num_classes: int
    image_size: tuple[int, int] | None = None

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_json(), sort_keys=True))

    def to_json(self) -> dict[str, Any]:
        """The value that `from_json` reads; without `image_size` where there is none."""
        size = {} if self.image_size is None else {"image_size": list(self.image_size)}
        return {"family": self.family, "options": dict(self.options), "num_classes": self.num_classes} | size

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelSpec:
        """The inverse of `to_json`.

        Raises:
          ConfigError: a key is missing or unknown.
        """
        _check_keys(cls, value)
        made = cls(str(value["family"]), dict(value["options"]), int(value["num_classes"]))
        if "image_size" not in value:
            return made
        height, width = value["image_size"]
        return dataclasses.replace(made, image_size=(int(height), int(width)))


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """How pixels become the model's input: resize with `interpolation`, keep the central `crop_fraction`, then (pixels / 255 - mean) / std."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bicubic", "bilinear"]
    crop_fraction: float

    def to_json(self) -> dict[str, Any]:
        """The value that `from_json` reads."""
        return {"mean": list(self.mean), "std": list(self.std), "interpolation": self.interpolation, "crop_fraction": self.crop_fraction}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> InputSpec:
        """The inverse of `to_json`.

        Raises:
          ConfigError: a key is missing or unknown.
        """
        _check_keys(cls, value)
        return cls(_three(value["mean"]), _three(value["std"]), value["interpolation"], float(value["crop_fraction"]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compute:
    """How a model is computed; none of it changes which parameters there are.

    Raises:
      ConfigError: a value is not allowed.
    """

    precision: Precision = "float32"
    batch_statistics: Literal["frozen", "updated"] = "frozen"
    remat: Literal["none", "blocks", "dots"] | bool = "none"
    scan: bool = False
    drop_path: float = 0.0
    dropout: float = 0.0
    neftune: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.remat, bool):
            object.__setattr__(self, "remat", "blocks" if self.remat else "none")
        choices = (("precision", ("float32", "bfloat16")), ("batch_statistics", ("frozen", "updated")), ("remat", ("none", "blocks", "dots")))
        for name, allowed in choices:
            if getattr(self, name) not in allowed:
                raise ConfigError(f"model.{name} {getattr(self, name)!r}: {did_you_mean(str(getattr(self, name)), allowed)}")
        for name in ("drop_path", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"model.{name} {getattr(self, name)!r}: a rate of at least 0 and below 1 is allowed")
        if not 0 <= self.neftune < math.inf:
            raise ConfigError(f"augment.neftune {self.neftune!r}: a number of at least 0 is allowed")

    @property
    def is_random(self) -> bool:
        """Whether training draws random numbers inside the model."""
        return self.drop_path > 0 or self.dropout > 0 or self.neftune > 0


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def _check_keys(cls: type, value: Mapping[str, Any]) -> None:
    fields = dataclasses.fields(cls)
    known = [field.name for field in fields]
    for name in (field.name for field in fields if field.default is dataclasses.MISSING):
        if name not in value:
            raise ConfigError(f"{cls.__name__}: key {name!r} is missing from {sorted(value)}")
    for name in value:
        if name not in known:
            raise ConfigError(f"{cls.__name__}: unknown key {name!r}; {did_you_mean(name, known)}")
