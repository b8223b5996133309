"""Tables of a classifier's errors: the confusion matrix, and one row per class."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ftjax.evaluation.metric import by_class, ratio
from ftjax.evaluation.metrics import MacroF1
from ftjax.evaluation.records import Records, check_labels


@dataclasses.dataclass(frozen=True)
class ClassRow:
    """One class of the table: None where nothing is defined (no example, or never predicted)."""

    name: str
    support: int
    precision: float | None
    recall: float | None
    f1: float | None


def confusion_matrix(records: Records, num_classes: int | None = None) -> np.ndarray:
    """Counts int64 `[label, prediction]`, padding left out. A row without a prediction (`records.bad`) is in no column.

    `num_classes` sets the size; None: the highest label or prediction plus one.

    Raises:
      DataError: a label outside `0..num_classes-1`.
    """
    check_labels(records, num_classes)
    rows = records.drop_padding()
    size = num_classes or (int(max(rows.label.max(), rows.prediction.max())) + 1 if len(rows) else 0)
    rows = rows.take(~rows.bad)
    flat = np.bincount(rows.label.astype(np.int64) * size + rows.prediction, minlength=size * size)
    return flat.reshape(size, size)


def per_class(records: Records, classes: Sequence[str]) -> tuple[ClassRow, ...]:
    """Support, precision, recall and F1 of every class, also of those without examples (there undefined values are None, not 0)."""
    check_labels(records, len(classes))
    state = MacroF1().get_state(records)
    counts = np.pad(state, (0, 3 * len(classes) - len(state)))
    support, predicted, right = by_class(counts[None, :])
    ratios = [ratio(top[0], bottom[0], np.nan) for top, bottom in ((right, predicted), (right, support), (2 * right, support + predicted))]
    return tuple(
        ClassRow(name, round(float(support[0, row])), *(None if np.isnan(values[row]) else float(values[row]) for values in ratios))
        for row, name in enumerate(classes)
    )
