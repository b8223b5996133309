"""What the Hugging Face formats share: checked values of `config.json`, class names, and the input that `preprocessor_config.json` describes.

Whatever would change the computation and has no counterpart here is refused with its key, never dropped.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ftjax.errors import WeightsError
from ftjax.weights.maps.base import input_spec
from ftjax.weights.readers.hf_config import CONFIG, PREPROCESSOR
from ftjax.weights.source import Source

Size = tuple[int, int]

_FILTERS = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers for the filters that we have."""
_PLACEHOLDER = re.compile(r"LABEL_\d+")
_ANY = object()


@dataclasses.dataclass(frozen=True)
class Table:
    """One JSON file beside the weights, read key by key; every complaint names the file and the key."""

    where: str
    values: Mapping[str, Any]

    def refuse(self, key: str, allowed: str) -> WeightsError:
        """The error that `key` has a value that cannot be used."""
        return WeightsError(f"{self.where}: {key}={self.values.get(key)!r}; allowed: {allowed}")

    def natural(self, key: str) -> int:
        """A positive whole number."""
        value = self.values.get(key)
        if type(value) is not int or value < 1:
            raise self.refuse(key, "a positive whole number")
        return value

    def number(self, key: str, default: float) -> float:
        """A finite number that is not negative; `default` where the key is missing."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise self.refuse(key, "a number of at least 0")
        return float(value)

    def naturals(self, key: str) -> list[int]:
        """A list of positive whole numbers."""
        value = self.values.get(key)
        if not isinstance(value, list) or not value or not all(type(item) is int and item > 0 for item in value):
            raise self.refuse(key, "a list of positive whole numbers")
        return list(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.refuse(key, "true or false")
        return value

    def side(self, key: str) -> Size:
        """A number of pixels, or height and width."""
        value = self.values.get(key)
        sides = value if isinstance(value, list) else [value, value]
        if len(sides) != 2 or not all(type(item) is int and item > 0 for item in sides):
            raise self.refuse(key, "a number of pixels, or a list of height and width")
        return sides[0], sides[1]

    def must_be(self, key: str, wanted: Any, default: Any = _ANY) -> None:
        """Only one value can be computed here; a missing key counts as `default`, by default as that value."""
        found = self.values.get(key, wanted if default is _ANY else default)
        if found != wanted:
            raise WeightsError(f"{self.where}: {key}={found!r} is not supported; allowed: {key}={wanted!r}")


def config_of(source: Source, *model_types: str) -> Table | None:
    """`config.json` if it is of one of these kinds."""
    values = source.settings.get(CONFIG, {})
    return Table(f"{source.location}/{CONFIG}", values) if values.get("model_type") in model_types else None


def needs_config(source: Source, markers: Sequence[str], kind: str) -> None:
    """Names of a Hugging Face model without its `config.json`: the names do not tell heads, epsilons and the like.

    Raises:
      WeightsError: one of the markers is the name of a tensor.
    """
    if CONFIG not in source.settings and any(marker in source.tensors for marker in markers):
        raise WeightsError(
            f"{source.location}: the names are those of a Hugging Face {kind}, whose heads and epsilons only {CONFIG} tells; "
            f"give the directory that has {CONFIG} beside the weights"
        )


def classes_of(config: Table, source: Source, head: str) -> tuple[int | None, tuple[str, ...] | None]:
    """Rows of the head (None without one) and the names of its classes (None where they are placeholders).

    Raises:
      WeightsError: `id2label` is malformed, or has another number of classes than the head.
    """
    if head not in source.tensors:
        return None, None
    count = source.tensors.shape(head)[0] if source.tensors.shape(head) else 0
    table = config.values.get("id2label")
    if table is None:
        return count, None
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise WeightsError(f"{config.where}: id2label is not a table of names")
    if set(table) != {str(index) for index in range(count)}:
        raise WeightsError(
            f"{config.where}: id2label names {len(table)} classes ({', '.join(list(table.values())[:3])}, ...), {head!r} has {count}: 0 to {count - 1}"
        )
    names = tuple(table[str(index)] for index in range(count))
    return count, None if all(map(_PLACEHOLDER.fullmatch, names)) or len(set(names)) < count else names


def input_of(source: Source, conventional: dict[str, Any]) -> tuple[dict[str, Any], Size | None, str]:
    """The `InputSpec` as JSON, the size that the pictures get (None: not said), and what was assumed.

    `rescale_factor` f and the mean and deviation of the rescaled pixels become those of pixels / 255: mean / (255 f), deviation / (255 f).

    Raises:
      WeightsError: a value that cannot be computed here.
    """
    if PREPROCESSOR not in source.settings:
        return conventional, None, f"no {PREPROCESSOR}: mean, deviation and filter by convention"
    table = Table(f"{source.location}/{PREPROCESSOR}", source.settings[PREPROCESSOR])
    for key in ("rescale_offset", "do_grayscale", "do_flip_channel_order", "do_pad"):
        table.must_be(key, False)
    factor = table.number("rescale_factor", 1 / 255) if table.flag("do_rescale", True) else 1.0
    if factor == 0:
        raise table.refuse("rescale_factor", "a positive number")
    normal = table.flag("do_normalize", True)
    mean = _three(table, "image_mean", conventional["mean"]) if normal else (0.0,) * 3
    std = _three(table, "image_std", conventional["std"]) if normal else (1.0,) * 3
    if min(std) <= 0:
        raise table.refuse("image_std", "three positive numbers")
    size, crop, why = _geometry(table)
    scale = 1.0 if abs(255 * factor - 1) < 1e-6 else 255 * factor
    return input_spec(tuple(m / scale for m in mean), tuple(s / scale for s in std), _filter(table, conventional["interpolation"]), crop), size, why


def _three(table: Table, key: str, default: Sequence[float]) -> tuple[float, ...]:
    value = table.values.get(key)
    value = list(default) if value is None else value if isinstance(value, list) else [value] * 3
    if len(value) != 3 or not all(type(item) in (int, float) and math.isfinite(item) for item in value):
        raise table.refuse(key, "three numbers, of red, green and blue")
    return tuple(map(float, value))


def _filter(table: Table, default: str) -> str:
    code = table.values.get("resample")
    if code is None:
        return default
    if type(code) is not int or code not in _FILTERS:
        raise table.refuse("resample", f"{', '.join(f'{number} ({name})' for number, name in _FILTERS.items())}; change it in the file to the nearest of them")
    return _FILTERS[code]


def _geometry(table: Table) -> tuple[Size | None, float, str]:
    """(Final size, share of the resized picture that the centre crop keeps, what differs).

    Sizes are written as a number, as height and width, or as the shortest edge (also as a number with `default_to_square` off or `crop_pct`).
    """
    resized = _size(table, "size") if table.flag("do_resize", True) and table.values.get("size") is not None else None
    cropped = _size(table, "crop_size") if table.flag("do_center_crop", "crop_size" in table.values) and table.values.get("crop_size") is not None else None
    if "crop_pct" in table.values and table.values["crop_pct"] is not None and resized and not cropped:
        share = table.number("crop_pct", 0.875)
        if not 0 < share <= 1:
            raise table.refuse("crop_pct", "above 0 and at most 1")
        return resized, share if resized[0] < 384 else 1.0, "" if resized[0] < 384 else _squashed(resized)
    if resized and cropped:
        share = max(cropped[0] / resized[0], cropped[1] / resized[1])
        return cropped, min(share, 1.0), ""
    final = cropped or resized
    return final, 1.0, _squashed(final) if final and not cropped and not _keeps_shape(table) else ""


def _squashed(size: Size) -> str:
    return f"transformers squeezes pictures that are not square into {size[0]}x{size[1]}, here their shape is kept and the centre cropped"


def _keeps_shape(table: Table) -> bool:
    return isinstance(table.values["size"], dict) and "shortest_edge" in table.values["size"]


def _size(table: Table, key: str) -> Size:
    value = table.values[key]
    if isinstance(value, dict) and set(value) in ({"height", "width"}, {"shortest_edge"}, {"shortest_edge", "longest_edge"}):
        value = [value["height"], value["width"]] if "height" in value else [value["shortest_edge"]] * 2
    sides = value if isinstance(value, list) else [value, value]
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise table.refuse(key, 'a number of pixels, {"height", "width"} or {"shortest_edge"}')
    return sides[0], sides[1]
