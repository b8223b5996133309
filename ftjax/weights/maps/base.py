"""What a name map is made of: lines `(foreign name, ftjax path, conversion)` in which `{i}` stands for a number.

A table is read in both directions: from the names of a file to paths when loading, from paths to names when a message must say what is missing.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ftjax.errors import WeightsError
from ftjax.weights.resize import Grid, resize_positions
from ftjax.weights.source import Source


@dataclasses.dataclass(frozen=True)
class Conversion:
    """A change of layout that moves numbers and changes none; `name` is the reason given in load.json (empty: as it is).

    `back` undoes `apply`, for the formats that are written too; `part` is its place among those that lie fused in one tensor, one after the other along `axis`.
    """

    name: str
    apply: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray] | None = None
    part: int = 0
    axis: int = 0


KEEP = Conversion("", lambda array: array, lambda array: array)
LINEAR = Conversion("(out, in) -> (in, out)", lambda array: array.transpose(1, 0), lambda array: array.transpose(1, 0))
CONV = Conversion("OIHW -> HWIO", lambda array: array.transpose(2, 3, 1, 0), lambda array: array.transpose(3, 2, 0, 1))
DEPTHWISE = Conversion("(h, w, c, 1) -> (h, w, 1, c)", lambda array: array.transpose(0, 1, 3, 2))
HEADS_OUT = Conversion("(in, heads, size) -> (in, out)", lambda array: array.reshape(array.shape[0], -1))
HEADS_IN = Conversion("(heads, size, out) -> (in, out)", lambda array: array.reshape(-1, array.shape[-1]))
HEADS_BIAS = Conversion("(heads, size) -> (out)", lambda array: array.reshape(-1))


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a table; `{i}` matches a number in `source` and is filled into `target`."""

    source: str
    target: str
    conversion: Conversion = KEEP


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line filled in: this tensor of the file becomes that leaf of the model."""

    source: str
    target: str
    conversion: Conversion


@dataclasses.dataclass(frozen=True)
class Recognised:
    """What a file holds.

    Attributes:
      family, options: as `ModelSpec` has them.
      num_classes: rows of the head; None when the file has no head.
      image_size: height and width that the weights were trained with; None: they read text.
      name_map: which table translates the names.
      input: the `InputSpec` as JSON; None when nothing is known, and for text.
      why: what was inferred rather than read.
      classes: names of the head's classes, where the file has them.
      input_size: height and width that pictures are given to the model in, where these are not the ones of the weights.
    """

    family: str
    options: dict[str, Any]
    num_classes: int | None
    image_size: tuple[int, int] | None
    name_map: str
    input: dict[str, Any] | None
    why: str = ""
    classes: tuple[str, ...] | None = None
    input_size: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class NameMap:
    """How the files of one kind are told and translated.

    Attributes:
      name: shown to the user.
      detect: what a source holds, or None if it is not of this kind; raises WeightsError for a relative that cannot be loaded.
      table: the lines, for the options recognised; None: names are already ours.
      normalise: the name as the table writes it (a prefix stripped, stages and blocks counted through).
      ignored: `(pattern of whole names, why)` of tensors that have no place in a model.
      resize: how the original library brings positions to another grid.
    """

    name: str
    detect: Callable[[Source], Recognised | None]
    table: Callable[[Recognised], tuple[Line, ...]] | None
    normalise: Callable[[str, Recognised], str] = lambda name, recognised: name
    ignored: tuple[tuple[str, str], ...] = ()
    resize: Callable[[np.ndarray, Grid, Grid, int], np.ndarray] = resize_positions

    def entries(self, names: Iterable[str], recognised: Recognised) -> tuple[Entry, ...]:
        """What becomes of each tensor; a fused tensor has several entries, an unknown one none."""
        if self.table is None:
            return tuple(Entry(name, name, KEEP) for name in names)
        lines = self.table(recognised)
        return tuple(
            Entry(name, fill(line.target, numbers), line.conversion)
            for name in names
            for line in lines
            if (numbers := match(line.source, self.normalise(name, recognised))) is not None
        )

    def written(self, target: str, recognised: Recognised) -> tuple[str, Conversion] | None:
        """The name and the layout in which a file of this kind holds `target`."""
        lines = self.table(recognised) if self.table else ()
        found = ((line, numbers) for line in lines if (numbers := match(line.target, target)) is not None)
        return next(((fill(line.source, numbers), line.conversion) for line, numbers in found), None)

    def expected(self, target: str, recognised: Recognised) -> str | None:
        """The name under which a file of this kind should hold `target`."""
        found = self.written(target, recognised)
        return found[0] if found else None

    def foreign(self, flat: Mapping[str, Any], recognised: Recognised) -> dict[str, np.ndarray]:
        """Leaves by their paths, as the tensors of a file of this kind, float32.

        Raises:
          WeightsError: a leaf has no tensor there.
        """
        parts: dict[str, list[tuple[int, np.ndarray]]] = {}
        axes: dict[str, int] = {}
        for path, array in flat.items():
            found = self.written(path, recognised)
            if found is None or found[1].back is None:
                raise WeightsError(f"{path}: a {self.name} has no tensor for it")
            axes[found[0]] = found[1].axis
            parts.setdefault(found[0], []).append((found[1].part, found[1].back(np.asarray(array, np.float32))))
        joined = {name: [array for _, array in sorted(found, key=lambda part: part[0])] for name, found in parts.items()}
        return {name: np.ascontiguousarray(arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axes[name])) for name, arrays in joined.items()}

    def ignored_because(self, name: str) -> str | None:
        """The rule that leaves a tensor out, if there is one."""
        return next((why for pattern, why in self.ignored if re.fullmatch(pattern, name)), None)


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>\\d{1,4})", re.escape(template)))


def match(template: str, name: str) -> Mapping[str, str] | None:
    """The numbers for which `template` reads `name`.

    >>> match("blocks.{i}.norm1.weight", "blocks.3.norm1.weight")
    {'i': '3'}
    """
    found = _pattern(template).fullmatch(name)
    return found.groupdict() if found else None


def fill(template: str, numbers: Mapping[str, str]) -> str:
    """`template` with its numbers filled in."""
    for key, number in numbers.items():
        template = template.replace(f"{{{key}}}", number)
    return template


def count_up(template: str, names: Iterable[str]) -> int:
    """How many numbers 0, 1, 2, ... in a row `template` has among `names`."""
    known = set(names)
    number = 0
    while fill(template, {"i": str(number)}) in known:
        number += 1
    return number


def norm_lines(source: str, target: str, separator: str, leaves: Mapping[str, str]) -> tuple[Line, ...]:
    """The lines of one normalisation layer: `leaves` maps foreign leaf names to ours."""
    return tuple(Line(f"{source}{separator}{foreign}", f"{target}/{ours}") for foreign, ours in leaves.items())


def input_spec(mean: tuple[float, ...], std: tuple[float, ...], interpolation: str, crop_fraction: float) -> dict[str, Any]:
    """An `InputSpec` as JSON."""
    return {"mean": list(mean), "std": list(std), "interpolation": interpolation, "crop_fraction": crop_fraction}


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
TORCH_NORM = {"weight": "scale", "bias": "bias"}
TORCH_BATCH_NORM = {**TORCH_NORM, "running_mean": "mean", "running_var": "var"}
FLAX_NORM = {"scale": "scale", "bias": "bias"}
FLAX_BATCH_NORM = {**FLAX_NORM, "mean": "mean", "var": "var"}
KERAS_BATCH_NORM = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}
