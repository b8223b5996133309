"""What the model gets wrong, for report.html: confusion matrix, table per class, calibration, and the examples themselves.

Everything comes from evaluation/test.json and evaluation/test.npz; class names from data.json. Tasks without classes have their own in `outcomes.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ftjax.reporting import confusion, examples, figures, outcomes, wording
from ftjax.reporting.record import Run, listing, mapping

MOST_CONFUSIONS = 8
LONGEST = 60


def class_names(run: Run, total: int = 0) -> list[str]:
    """Names of data.json, filled up with numbers where there are too few."""
    names = [wording.printable(name) for name in listing(run.data.get("classes"))]
    return names + [str(index) for index in range(len(names), total)]


def class_counts(split: Any) -> dict[str, Any]:
    """Rows of a split by class, the classes named as `class_names` names them."""
    return {wording.printable(name): value for name, value in mapping(mapping(split).get("per_class")).items()}


def confusions(matrix: np.ndarray, classes: Sequence[str]) -> list[dict[str, str]]:
    """The pairs that are confused most often, with their share of the true class."""
    wrong = matrix * (1 - np.eye(len(matrix)))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]
    rows = []
    for flat in order:
        true, predicted = divmod(int(flat), len(matrix))
        if wrong[true, predicted] > 0:
            share = wording.percent(wrong[true, predicted] / matrix[true].sum())
            rows.append(
                {
                    "true": figures.short(classes[true], LONGEST),
                    "predicted": figures.short(classes[predicted], LONGEST),
                    "count": wording.count(wrong[true, predicted]),
                    "share": share,
                }
            )
    return rows


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole > 0 else None


def per_class(matrix: np.ndarray | None, classes: Sequence[str], splits: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per class: rows of each split, precision, recall, F1 and what it is mistaken for."""
    rows = []
    counts = [class_counts(splits.get(split)) for split in figures.SPLITS]
    for index, name in enumerate(classes):
        row: dict[str, Any] = {"name": figures.short(name, LONGEST), "counts": [found.get(name) for found in counts]}
        if matrix is not None and index < len(matrix):
            right, true, predicted = matrix[index, index], matrix[index].sum(), matrix[:, index].sum()
            others = matrix[index].copy()
            others[index] = 0
            row |= {"precision": _ratio(right, predicted), "recall": _ratio(right, true), "f1": _ratio(2 * right, true + predicted)}
            row["mistaken"] = f"{figures.short(classes[int(others.argmax())], LONGEST)} ({wording.count(others.max())})" if others.max() > 0 else ""
        rows.append(row)
    return rows


def _calibration(run: Run) -> Any:
    """The reliability diagram of the test records that count (weight above 0)."""
    records = run.records
    if not {"confidence", "prediction", "label"} <= set(records):
        return ""
    kept = np.asarray(records["weight"]) > 0 if "weight" in records else np.ones(len(records["label"]), bool)
    correct = np.asarray(records["prediction"]) == np.asarray(records["label"])
    return figures.reliability(np.asarray(records["confidence"], float)[kept], correct[kept])


def mistakes(run: Run) -> dict[str, Any]:
    """Everything of the section; `reason` says why it is empty."""
    found = outcomes.OTHERS[run.task](run) if run.task in outcomes.OTHERS else _classification(run)
    empty = not any(found.get(key) for key in ("measured", "figures", "tables", "shown", "errors", "uncertain"))
    measured = bool(mapping(mapping(run.result.get("splits")).get("test")))
    why = "No test example was predicted wrongly." if measured and run.test else "The test set was not evaluated, so there are no mistakes to show."
    return {"of_text": run.of_text, "reason": why if empty else "", **found}


def _classification(run: Run) -> dict[str, Any]:
    """Matrix, tables and examples of a run whose answers are classes."""
    matrix = confusion.as_matrix(run.test.get("confusion")) if run.test.get("confusion") else None
    classes = class_names(run, 0 if matrix is None else len(matrix))
    size = listing(run.data.get("image_size"))
    drawing = confusion.draw(matrix, classes) if matrix is not None else ""
    show = examples.cards if run.of_text else examples.thumbnails
    rows = per_class(matrix, classes, mapping(run.data.get("splits")))
    return {
        "confusion": drawing,
        "confusion_note": f"{len(matrix)} classes are too many to draw; the largest confusions are listed." if matrix is not None and not drawing else "",
        "confusion_large": matrix is not None and len(matrix) > confusion.FITTING_CLASSES,
        "confusions": confusions(matrix, classes) if matrix is not None else [],
        "measured": matrix is not None,
        "per_class": sorted(rows, key=lambda row: -row["counts"][-1] if wording.is_finite(row["counts"][-1]) else 1),
        "reliability": _calibration(run),
        "errors": show(run.test.get("errors"), classes),
        "uncertain": show(run.test.get("uncertain"), classes),
        "pixelated": bool(size) and all(wording.is_finite(side) and side <= 64 for side in size),
    }
