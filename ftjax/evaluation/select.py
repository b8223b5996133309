"""Which examples a person should look at: the surest mistakes, and the predictions the model was least sure of."""

from __future__ import annotations

import numpy as np

from ftjax.evaluation.records import Records
from ftjax.evaluation.table import RecordTable


def worst(records: RecordTable, count: int) -> np.ndarray:
    """Rows of the answers that are not right in every part, those of the largest loss first; at most `count` of them."""
    return _first(records, np.flatnonzero(~records.correct & (records.weight > 0)), -records.losses, count)


def worst_errors(records: Records, count: int) -> np.ndarray:
    """Rows of the wrong predictions with the highest confidence, the worst first; at most `count` of them. Rows without a prediction come as sure and wrong."""
    return _first(records, np.flatnonzero(~records.correct & (records.weight > 0)), -records.confidence, count)


def least_certain(records: Records, count: int) -> np.ndarray:
    """Rows of the predictions, right or wrong, with the lowest confidence, the least certain first; at most `count` of them."""
    return _first(records, np.flatnonzero(~records.bad & (records.weight > 0)), records.confidence, count)


def _first(records: RecordTable, candidates: np.ndarray, key: np.ndarray, count: int) -> np.ndarray:
    """The `count` candidates with the smallest key; ties by id, so that the order of evaluation does not matter."""
    return candidates[np.lexsort((records.id[candidates], key[candidates]))][:count]
