"""What the model gets wrong, for report.html: confusion matrix, table per class, calibration, and the examples themselves.

Everything comes from evaluation/test.json and evaluation/test.npz; class names from data.json.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ftjax.reporting import figures, wording
from ftjax.reporting.record import Run, listing, mapping

IMAGE = re.compile(r"data:image/(?:jpeg|png|webp);base64,[A-Za-z0-9+/]+=*")
"""The only images the page shows: bytes inside the page, never an address."""
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


def _label(value: Any, classes: Sequence[str]) -> str:
    """A label given as a row of `classes` or as its name."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(classes):
        return classes[value]
    return wording.printable(value)


def thumbnails(items: Any, classes: Sequence[str]) -> list[dict[str, Any]]:
    """What is shown of each example; an image that is not an embedded one is left out."""
    shown = []
    for item in (mapping(item) for item in listing(items)):
        image = item.get("image")
        label, prediction = _label(item.get("label"), classes), _label(item.get("prediction"), classes)
        shown.append(
            {
                "image": image if isinstance(image, str) and IMAGE.fullmatch(image) else None,
                "label": figures.short(label),
                "prediction": figures.short(prediction),
                "said": f"{item.get('id', '')}: {prediction}, true: {label}",
                "right": label == prediction,
                "confidence": wording.percent(item.get("confidence"), 0),
                "id": wording.printable(item.get("id", "")),
            }
        )
    return shown


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
    matrix = figures.as_matrix(run.test.get("confusion")) if run.test.get("confusion") else None
    classes = class_names(run, 0 if matrix is None else len(matrix))
    size = listing(run.data.get("image_size"))
    drawing = figures.confusion(matrix, classes) if matrix is not None else ""
    errors, uncertain = thumbnails(run.test.get("errors"), classes), thumbnails(run.test.get("uncertain"), classes)
    rows = per_class(matrix, classes, mapping(run.data.get("splits")))
    return {
        "confusion": drawing,
        "confusion_note": f"{len(matrix)} classes are too many to draw; the largest confusions are listed." if matrix is not None and not drawing else "",
        "confusions": confusions(matrix, classes) if matrix is not None else [],
        "measured": matrix is not None,
        "per_class": rows,
        "reliability": _calibration(run),
        "errors": errors,
        "uncertain": uncertain,
        "pixelated": bool(size) and all(wording.is_finite(side) and side <= 64 for side in size),
        "reason": "" if matrix is not None or errors or uncertain else "The test set was not evaluated, so there are no mistakes to show.",
    }
