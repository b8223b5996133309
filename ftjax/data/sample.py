"""Few labels on purpose: the same number of training examples of each class, always the first ones of one fixed order."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np

from ftjax.data.dataset import Members, Rows
from ftjax.data.order import rank


def sample(rows: Rows, members: Members, labels_per_class: int | None, seed: int) -> tuple[Members, dict[str, Any]]:
    """Keep `labels_per_class` training rows of each class (None: all). Validation and test stay whole.

    The rows of each class are ordered by a hash of id and seed and the first ones are kept, so 5 per class are among the 10 per class of the same seed.

    Returns:
      The members, and what was done for data.json.
    """
    train = members["train"]
    report: dict[str, Any] = {"labels_per_class": labels_per_class, "rows_before": len(train), "rows_after": len(train), "short": []}
    if labels_per_class is None:
        return members, report
    kept: collections.Counter[int] = collections.Counter()
    chosen = []
    for row in sorted(train, key=lambda row: rank("sample", seed, rows.ids[row])):
        label = int(rows.labels[row])
        if kept[label] < labels_per_class:
            kept[label] += 1
            chosen.append(row)
    rest = train[np.isin(train, chosen)]
    report["rows_after"] = len(rest)
    report["short"] = [rows.classes[label] for label in sorted(kept) if kept[label] < labels_per_class]
    return {**members, "train": rest}, report
