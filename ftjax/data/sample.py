"""Fewer labels on purpose, always the first ones of one fixed order, so that smaller samples are among larger ones; and how often what is left is drawn."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ftjax.config import DataConfig
from ftjax.data.curriculum import read_difficulty
from ftjax.data.dataset import Dataset, Members, Rows
from ftjax.data.order import rank
from ftjax.errors import ConfigError, did_you_mean

POWERS = {"natural": 0.0, "balanced": -1.0, "sqrt": -0.5}
"""A row of a class with n rows is drawn in proportion to n to this power."""

_SHIFT = 1.05
"""Change of a class's share above which a warning says what it does to the probabilities."""


def sample(rows: Rows, members: Members, config: DataConfig, seed: int) -> tuple[Members, dict[str, Any]]:
    """Keep so many training rows of each class. Validation and test stay whole.

    The rows of each class are ordered by a hash of id and seed and the first ones are kept, so 5 per class are among the 10 per class of the same seed, and
    10 % are among 20 %. Of a class with n rows `min(max(class_floor, round(fraction n)), max_per_class)` stay, or `labels_per_class`; none more than n.
    With data.curriculum="ambiguous" the order is that of variability, the most ambiguous first (Swayamdipta et al. 2020), and the hash decides between equals.

    Returns:
      The members, and what was done for data.json.
    """
    train, labels_per_class, fraction = members["train"], config.labels_per_class, config.fraction
    counts = np.bincount(rows.labels[train], minlength=len(rows.classes))
    shares = [round(fraction * int(count)) for count in counts] if fraction is not None else counts.tolist()
    floors = [config.class_floor if fraction is not None else 0] * len(counts)
    caps = [cap for cap in (labels_per_class, config.max_per_class) if cap is not None]
    allowed = [min(int(count), max(share, floor), *caps) for count, share, floor in zip(counts, shares, floors)]
    report: dict[str, Any] = {"labels_per_class": labels_per_class, "rows_before": len(train), "rows_after": sum(allowed), "short": []}
    if labels_per_class is not None:
        report["short"] = [name for name, count in zip(rows.classes, counts) if 0 < count < labels_per_class]
    if fraction is not None:
        raised = {name: kept for name, kept, share in zip(rows.classes, allowed, shares) if kept > share}
        report |= {"fraction": fraction, "class_floor": config.class_floor, "raised": raised}
    if config.max_per_class is not None:
        report["max_per_class"] = config.max_per_class
    if fraction is None and not caps:
        return members, report
    report["shares"] = {"before": _shares(rows.classes, counts), "after": _shares(rows.classes, np.array(allowed))}
    kept = np.zeros(len(rows.classes), np.int64)
    chosen = []
    order, about = _order(rows, train, config, seed)
    for row in order:
        label = int(rows.labels[row])
        if kept[label] < allowed[label]:
            kept[label] += 1
            chosen.append(row)
    return {**members, "train": train[np.isin(train, chosen)]}, report | about


def _order(rows: Rows, train: np.ndarray, config: DataConfig, seed: int) -> tuple[list[int], dict[str, Any]]:
    """The training rows in the order in which they are kept, and what data.json says of it."""
    by_hash = sorted(train, key=lambda row: rank("sample", seed, rows.ids[row]))
    if config.curriculum != "ambiguous":
        return by_hash, {}
    found = read_difficulty(config.difficulty or "", [rows.ids[row] for row in train])
    variability = dict(zip(train, found.variability))
    about = {"way": config.curriculum, "by": "variability", **found.facts}
    return sorted(by_hash, key=lambda row: -variability[row]), {"curriculum": about}


def _shares(classes: tuple[str, ...], counts: np.ndarray) -> dict[str, float]:
    return {name: float(count / counts.sum()) for name, count in zip(classes, counts)}


def draw_by_class(dataset: Dataset, sampling: str, key: str = "data.sampling") -> Dataset:
    """The data set whose training rows are drawn in proportion to `n ** POWERS[sampling]`, n being the rows of their class.

    So a class of n rows gets a share in proportion to n ("natural": every row once an epoch), to 1 ("balanced"), or to the root of n ("sqrt", as in
    Mahajan et al. 2018, arXiv 1805.00932). What it does to the shares of the classes is added to the report.

    Args:
      dataset: of one class for each row.
      sampling: "natural", "balanced" or "sqrt".
      key: what asked for it, for the report.

    Raises:
      ConfigError: another way of sampling.
    """
    if sampling not in POWERS:
        raise ConfigError(f"{key}={sampling!r}: {did_you_mean(sampling, POWERS)}")
    sampled = dataset.report.get("sampling", {})
    if sampling == "natural" or sampled.get("drawn_by") == key:
        return dataset
    train, classes = dataset.splits["train"], dataset.classes
    counts = np.bincount(train.labels, minlength=len(classes))
    weights = 1.0 / counts[train.labels] if sampling == "balanced" else 1.0 / np.sqrt(counts[train.labels])
    before = counts / counts.sum()
    drawn = np.bincount(train.labels, weights=weights, minlength=len(classes)) / weights.sum()
    shares = {"before": _shares(classes, before), "after": _shares(classes, before), **sampled.get("shares", {}), "effective": _shares(classes, drawn)}
    report = {**dataset.report, "sampling": {**sampled, "drawn": sampling, "drawn_by": key, "shares": shares}}
    if (np.maximum(drawn, before) > _SHIFT * np.minimum(drawn, before)).any():
        report["warnings"] = [*report.get("warnings", ()), _hint(key, sampling, classes, before, drawn)]
    return dataclasses.replace(dataset, splits={**dataset.splits, "train": dataclasses.replace(train, sampling=weights)}, report=report)


def _hint(key: str, sampling: str, classes: tuple[str, ...], before: np.ndarray, drawn: np.ndarray) -> str:
    """What a shift of the classes does to probabilities, and what corrects it."""
    label = int(np.argmax(drawn / np.maximum(before, 1e-300)))
    change = f"{key}={sampling!r} draws {classes[label]!r} for {drawn[label]:.1%} of the steps' rows, where it is {before[label]:.1%} of the training rows"
    remedy = "" if sampling == "balanced" else "; task.imbalance='logit_adjust' takes the drawn shares out of the logits"
    return f"{change}: probabilities are those of the drawn shares{remedy}"
