"""Rows that a body's features make suspicious: labels that are probably wrong, and rows far from all others.

Pure on arrays: `training/inspection.py` computes the features, `suspects_policy.py` says what becomes of the rows. The training rows are judged by each other,
validation and test by the training rows alone, each split by itself, so that no label of a test changes what is trained on or named elsewhere.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ftjax.data import label_errors, outliers
from ftjax.data.components import components

SHOWN = 24
"""The most suspicious rows of each kind that a person is shown."""
KINDS = ("label_errors", "outliers")


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Rows of one split with their features."""

    ids: Sequence[str]
    labels: Int[np.ndarray, " rows"]
    features: Float[np.ndarray, "rows width"]


Parts = Mapping[str, Part]
"""By split; the first one holds the rows that judge all others."""


def find_label_errors(parts: Parts, classes: Sequence[str], together: Iterable[Sequence[str]], seed: int) -> dict[str, Any]:
    """What data.json says of labels that are probably wrong.

    Args:
      parts: the rows; those of the first part are judged out of fold.
      classes: names by label.
      together: ids of rows that are copies of each other and share a fold.
      seed: of the folds.

    Raises:
      DataError: features are not finite.
    """
    name, first = next(iter(parts.items()))
    probe, judged, judgeable = judge_labels(first, len(classes), together, seed)
    rows = _wrong(name, first, judged, classes)
    thresholds = label_errors.thresholds_of(first.labels, probe.values, judgeable)
    for split, part in parts.items():
        if split != name and len(part.ids):
            values = label_errors.of_others(first.features, first.labels, part.features, len(classes), probe.penalty)
            rows += _wrong(split, part, label_errors.judge_by(thresholds, part.labels, values, judgeable), classes)
    majority = float(np.bincount(first.labels).max() / len(first.labels))
    measured = {"accuracy": probe.accuracy, "majority": majority, "log_loss": probe.log_loss, "penalty": probe.penalty}
    return {
        "probe": {"folds": label_errors.FOLDS, **measured},
        "filter": label_errors.FILTER,
        "found": {split: sum(row["split"] == split for row in rows) for split in parts},
        "per_class": {label: sum(row["split"] == name and row["label"] == label for row in rows) for label in classes},
        "noise": label_errors.noise_rows(judged.noise, classes),
        "not_judged": [label for label, known in zip(classes, judgeable) if not known],
        "rows": rows,
    }


def judge_labels(
    part: Part, classes: int, together: Iterable[Sequence[str]], seed: int
) -> tuple[label_errors.Probabilities, label_errors.Judged, Bool[np.ndarray, " classes"]]:
    """The probabilities of every row by a probe that has not seen it, what confident learning makes of them, and which classes can be judged.

    A class with fewer than `label_errors.LEAST` rows cannot be, copies of one another counted once: all copies lie in one fold, whose probe never saw them.
    """
    groups = groups_of(part.ids, together)
    first_of_group = np.unique(np.stack([groups, part.labels]), axis=1)[1]
    judgeable = np.bincount(first_of_group, minlength=classes) >= label_errors.LEAST
    probe = label_errors.out_of_fold(part.features, part.labels, label_errors.folds_of(part.ids, part.labels, groups, seed), classes)
    return probe, label_errors.judge(part.labels, probe.values, judgeable), judgeable


def _wrong(split: str, part: Part, judged: label_errors.Judged, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The rows that are probably wrong, the worst first."""
    found = sorted(np.flatnonzero(judged.wrong).tolist(), key=lambda row: (judged.score[row], part.ids[row]))
    return [
        {
            "id": part.ids[row],
            "split": split,
            "label": classes[int(part.labels[row])],
            "suggested": classes[int(judged.suggested[row])],
            "score": float(judged.score[row]),
        }
        for row in found
    ]


def find_outliers(parts: Parts, classes: Sequence[str], together: Iterable[Sequence[str]] = ()) -> dict[str, Any]:
    """What data.json says of rows that lie far from all others. Copies of one another count as one training row, and what is said of it holds for all of them.

    Raises:
      DataError: features are not finite.
    """
    name, first = next(iter(parts.items()))
    for part in parts.values():
        label_errors.check_finite(part.features)
    _, rows_of, groups = np.unique(groups_of(first.ids, together), return_index=True, return_inverse=True)
    judges = Part([first.ids[row] for row in rows_of], first.labels[rows_of], first.features[rows_of])
    others = [part.features for split, part in parts.items() if split != name]
    own, other = outliers.find_outliers(judges.features, np.concatenate(others) if others else None)
    rows = _far(name, first, judges, own.of(groups), classes)
    start = 0
    for split, part in parts.items():
        if split != name and other is not None:
            rows += _far(split, part, judges, other.of(np.arange(start, start + len(part.ids))), classes)
            start += len(part.ids)
    about = {"neighbours": own.neighbours, "median": own.median, "threshold": own.threshold if np.isfinite(own.threshold) else None, "deviations": outliers.FAR}
    return {**about, "found": {split: sum(row["split"] == split for row in rows) for split in parts}, "rows": rows}


def _far(split: str, part: Part, first: Part, found: outliers.Distances, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The rows that are far from all others, the farthest first."""
    far = sorted(np.flatnonzero(found.far).tolist(), key=lambda row: (-found.values[row], part.ids[row]))
    return [
        {
            "id": part.ids[row],
            "split": split,
            "label": classes[int(part.labels[row])],
            "distance": float(found.values[row]),
            "nearest": first.ids[int(found.nearest[row])],
        }
        for row in far
    ]


def copies(report: Mapping[str, Any]) -> list[list[str]]:
    """Ids of exact copies and near duplicates that `collect` found."""
    exact, near = report.get("duplicates", {}), report.get("near_duplicates", {})
    return [list(entry["ids"]) for entry in (*exact.get("within", ()), *exact.get("across", ()), *exact.get("conflicting", ()), *near.get("groups", ()))]


def groups_of(ids: Sequence[str], together: Iterable[Sequence[str]]) -> Int[np.ndarray, " rows"]:
    """A number for each row, the same for rows that belong together, also through others."""
    row_of = {name: row for row, name in enumerate(ids)}
    pairs = [pair for names in together for pair in itertools.pairwise(row_of[name] for name in names if name in row_of)]
    left, right = np.array(pairs, np.int64).reshape(-1, 2).T
    return components(len(ids), left, right).astype(np.int64)
