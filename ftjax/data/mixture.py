"""Several data sets in one training: how often each is drawn, and names that cannot collide.

The first one, `data.path`, keeps its ids and brings validation and test, split as if it were alone; of the further ones only training rows are taken, with
their data set before their ids (`more/cat/1.png`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ftjax.config import DataConfig
from ftjax.data.dataset import Dataset, Rows
from ftjax.data.drop import rows_of
from ftjax.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Mixture:
    """The data sets of a training.

    Attributes:
      names: the first one and the further ones.
      paths: where they are.
      weights: of each; the first has 1.
      temperature: T of `shares`.
      left_out: of the further ones, rows by split that are not taken.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    weights: tuple[float, ...]
    temperature: float
    left_out: tuple[Mapping[str, int], ...] = ()

    def set_of(self, name: str) -> int:
        """The number of the data set that an id is of."""
        prefix = name.split("/", 1)[0]
        return self.names.index(prefix, 1) if "/" in name and prefix in self.names[1:] else 0

    def own(self, name: str) -> str:
        """An id as its own data set has it."""
        return name.split("/", 1)[1] if self.set_of(name) else name

    def further(self, ids: Sequence[str]) -> Bool[np.ndarray, " rows"]:
        """Which rows are of a further data set."""
        return np.array([self.set_of(name) > 0 for name in ids], bool)


def mixture_of(config: DataConfig, ids: Sequence[str]) -> Mixture:
    """The data sets that the configuration names.

    Args:
      config: with at least one further data set.
      ids: of the first one; no further one is called what they begin with.

    Raises:
      ConfigError: a weight or the temperature is not above 0, or a path is there twice.
    """
    check_mixture(config)
    taken = {name.split("/", 1)[0] for name in ids if "/" in name}
    names = [Path(config.path or "").name]
    for path, _ in config.mixture:
        name, number = Path(path).name.replace("/", "_") or "more", 1
        while (found := name if number == 1 else f"{name}#{number}") in taken or found in names:
            number += 1
        names.append(found)
    paths, weights = (config.path or "", *(path for path, _ in config.mixture)), (1.0, *(weight for _, weight in config.mixture))
    return Mixture(tuple(names), paths, weights, config.mixture_temperature)


def check_mixture(config: DataConfig) -> None:
    """Weights and temperature mean something, and no data set is there twice.

    Raises:
      ConfigError: they do not, or one is.
    """
    for path, weight in config.mixture:
        if not (weight > 0 and math.isfinite(weight)):
            raise ConfigError(f"data.mixture: the weight of {path!r} is {weight}; allowed is a finite number above 0")
    if not (config.mixture_temperature > 0 and math.isfinite(config.mixture_temperature)):
        raise ConfigError(f"data.mixture_temperature={config.mixture_temperature}: allowed is a finite number above 0")
    paths = [Path(path).expanduser().resolve() for path in (config.path or "", *(path for path, _ in config.mixture))]
    for number, path in enumerate(paths[1:], 1):
        if path in paths[:number]:
            raise ConfigError(f"data.mixture: {config.mixture[number - 1][0]!r} is there twice; a weight says how often a data set is drawn")
    if config.mixture and config.sampling != "natural":
        raise ConfigError(f"data.mixture and data.sampling={config.sampling!r} both say how often rows are drawn; leave one open")


def mixed_rows(rows: Rows, config: DataConfig, read: Callable[[DataConfig], Rows]) -> tuple[Rows, Mixture | None]:
    """The rows of the first data set and, after them, the training rows of the further ones.

    Args:
      rows: of the first.
      config: where they all are.
      read: reads a source.

    Raises:
      ConfigError: see `check_mixture`.
      DataError: a data set has a class that the first one has not, or no training row.
    """
    if not config.mixture:
        return rows, None
    mixture, parts, left_out = mixture_of(config, rows.ids), [rows], []
    for name, path in zip(mixture.names[1:], mixture.paths[1:]):
        other = read(further_config(config, path))
        train = [row for row, split in enumerate(other.splits) if split == "train"]
        left_out.append(count_left(other.splits))
        check_further(path, {other.classes[label] for label in other.labels[train]}, set(rows.classes), len(train))
        other = rows_of(other, train)
        labels = np.array([rows.classes.index(other.classes[label]) for label in other.labels], np.int32)
        ignored = tuple({**entry, "file": f"{name}/{entry['file']}"} for entry in other.ignored)
        parts.append(dataclasses.replace(other, ids=tuple(f"{name}/{own}" for own in other.ids), labels=labels, ignored=ignored))
    return _joined(parts), dataclasses.replace(mixture, left_out=tuple(left_out))


def further_config(config: DataConfig, path: str) -> DataConfig:
    """Where a further data set is: at a path, or, of tensorflow-datasets, under another name in the same data_dir."""
    if config.source == "tfds" and not Path(path).expanduser().exists():
        return dataclasses.replace(config, name=path)
    return dataclasses.replace(config, path=path, name=None)


def count_left(splits: Sequence[str]) -> dict[str, int]:
    """Rows of a further data set that are not taken, by split."""
    return {split: splits.count(split) for split in ("validation", "test") if split in splits}


def check_further(path: str, classes: set[str], known: set[str], rows: int) -> None:
    """A further data set has training rows, and only classes of the first one.

    Raises:
      DataError: it has not.
    """
    if not rows:
        raise DataError(f"data.mixture: {path} has no training rows")
    if classes - known:
        extra, allowed = (", ".join(map(repr, sorted(names))) for names in (classes - known, known))
        raise DataError(f"data.mixture: {path} has {extra}, which data.path has not; the classes are {allowed}")


def _joined(parts: Sequence[Rows]) -> Rows:
    starts = np.cumsum([0, *map(len, parts)])

    def read(row: int) -> bytes | np.ndarray:
        part = int(np.searchsorted(starts, row, side="right")) - 1
        return parts[part].read(row - int(starts[part]))

    ids, splits, ignored = (tuple(value for part in parts for value in getattr(part, name)) for name in ("ids", "splits", "ignored"))
    return dataclasses.replace(parts[0], ids=ids, splits=splits, ignored=ignored, labels=np.concatenate([part.labels for part in parts]), read=read)


def shares(rows: Int[np.ndarray, " sets"], weights: Sequence[float], temperature: float) -> Float[np.ndarray, " sets"]:
    """How often each data set is drawn: `p_i ~ (n_i w_i)^(1/T)`.

    T = 1 draws in proportion to size and weight; a larger one draws small data sets more often (multilingual BERT's exponent 0.7 is T = 1.43; mT5, Xue et al.
    2021, arXiv 2010.11934, takes 1/T = 0.3).
    """
    logs = np.log(np.asarray(rows, np.float64) * np.asarray(weights)) / temperature
    powers = np.exp(logs - logs.max())
    return powers / powers.sum()


def draw_sets(dataset: Dataset, mixture: Mixture | None) -> Dataset:
    """The data set whose training rows are drawn by the shares of their data sets; sizes and shares go to the report.

    Weights of 1 and a temperature of 1 leave every row once an epoch.

    Raises:
      DataError: a data set has no training row left.
    """
    if mixture is None:
        return dataset
    train = dataset.splits["train"]
    number = np.array([mixture.set_of(name) for name in train.ids], np.int64)
    rows = np.bincount(number, minlength=len(mixture.names))
    if not rows.all():
        raise DataError(f"data.mixture: {mixture.paths[int(rows.argmin())]} has no training row left after cleaning and sampling; leave it out")
    drawn = shares(rows, mixture.weights, mixture.temperature)
    sets: list[dict[str, Any]] = [
        {
            "name": name,
            "path": mixture.paths[index],
            "weight": mixture.weights[index],
            "rows": int(rows[index]),
            "share_before": float(rows[index] / rows.sum()),
            "share_drawn": float(drawn[index]),
            "times_an_epoch": float(drawn[index] * rows.sum() / rows[index]),
            "left_out": dict(mixture.left_out[index - 1]) if index else {},
        }
        for index, name in enumerate(mixture.names)
    ]
    report = {**dataset.report, "mixture": {"temperature": mixture.temperature, "sets": sets}}
    if mixture.temperature == 1 and set(mixture.weights) == {1.0}:
        return dataclasses.replace(dataset, report=report)
    sampled = dataclasses.replace(train, sampling=(drawn / rows)[number])
    return dataclasses.replace(dataset, splits={**dataset.splits, "train": sampled}, report=report)
