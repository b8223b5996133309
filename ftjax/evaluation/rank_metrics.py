"""Metrics of an order: areas under curves and rank correlation. They are no sums over examples, so their state is the examples themselves.

All of them take weights `[m n]`, many weightings of the same n examples at once, so that a bootstrap is a few passes over arrays and no loop over resamples.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import numpy as np

from ftjax.errors import DataError
from ftjax.evaluation.metric import Metric, ratio

FEW = 48
"""Up to so many positives each is compared with every example, which is a product of matrices; above, examples are sorted and summed up."""


@dataclasses.dataclass(frozen=True)
class RankMetric(Metric):
    """A metric of columns; state `[n, 1 + columns]`, a row per example with its weight first."""

    @abc.abstractmethod
    def columns(self, records: Any) -> np.ndarray:
        """What is known of each example, float64 `[n, columns]`."""

    @abc.abstractmethod
    def compute_many(self, columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The metric under each of many weightings, `[n, columns]` and `[m, n]` -> `[m]`."""

    def get_state(self, records: Any) -> np.ndarray:
        """Weights and columns of `records`."""
        records.check()
        rows = records.drop_padding()
        return np.column_stack([rows.weight.astype(np.float64), self.columns(rows)])

    def merge(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """The rows of both."""
        return np.concatenate([one, other])

    def compute(self, state: np.ndarray) -> float:
        """The metric of a state."""
        if not len(state):
            raise DataError(f"{self.name} needs at least one example; there is none")
        return float(self.compute_many(state[:, 1:], state[:, :1].T)[0])


def mean_auroc(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over columns of the area under the ROC curve, `[m]`; a column without positives or without negatives is left out, 0.5 where all are.

    Args:
      truth: bool `[n, columns]`.
      scores: float `[n, columns]`.
      weights: `[m, n]`.
    """
    return _mean_of_defined([auroc(truth[:, column], scores[:, column], weights) for column in range(truth.shape[1])], 0.5)


def mean_average_precision(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over columns of the average precision, `[m]`; a column without positives is left out, 0 where all are. Arguments as `mean_auroc`."""
    return _mean_of_defined([average_precision(truth[:, column], scores[:, column], weights) for column in range(truth.shape[1])], 0.0)


def auroc(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """P(a positive scores above a negative), ties counted half, under each weighting: `[n]`, `[n]` and `[m, n]` -> `[m]`; NaN where one of them is missing."""
    positives, negatives = np.flatnonzero(truth), np.flatnonzero(~truth)
    ours, theirs = weights[:, positives], weights[:, negatives]
    if len(positives) <= FEW:
        above = np.sign(scores[positives][:, None] - scores[negatives][None, :]) / 2 + 0.5
        wins = np.einsum("mp,mp->m", theirs @ above.T, ours)
    else:
        order, starts = _ties(scores)
        of_positives, of_negatives = (np.add.reduceat(np.where(side, weights, 0.0)[:, order], starts, axis=1) for side in (truth, ~truth))
        wins = (of_positives * (np.cumsum(of_negatives, axis=1) - of_negatives / 2)).sum(axis=1)
    return ratio(wins, ours.sum(axis=1) * theirs.sum(axis=1), np.nan)


def average_precision(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`sum_k (R_k - R_(k-1)) P_k` over the distinct thresholds, as scikit-learn's, under each weighting; NaN without a positive. Arguments as `auroc`."""
    order, starts = _ties(-scores)
    sorted_weights = weights[:, order]
    found = np.add.reduceat(sorted_weights * truth[order], starts, axis=1)
    precision = ratio(np.cumsum(found, axis=1), np.cumsum(np.add.reduceat(sorted_weights, starts, axis=1), axis=1), 0.0)
    return ratio((found * precision).sum(axis=1), found.sum(axis=1), np.nan)


def spearman(one: np.ndarray, other: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Correlation of ranks, tied values sharing the mean of theirs, under each weighting: `[n]`, `[n]` and `[m, n]` -> `[m]`; 0 where one side is constant."""
    return pearson(_ranks(one, weights), _ranks(other, weights), weights)


def pearson(one: np.ndarray, other: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted correlation of `[m, n]` (or `[n]`) with `[m, n]` under weights `[m, n]`; 0 where one side is constant."""
    total = weights.sum(axis=1, keepdims=True)
    first, second = (side - (weights * side).sum(axis=1, keepdims=True) / total for side in (one, other))
    spread = np.sqrt((weights * first**2).sum(axis=1) * (weights * second**2).sum(axis=1))
    return np.clip(ratio((weights * first * second).sum(axis=1), spread, 0.0), -1.0, 1.0)


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mid-ranks `[m, n]` of `values [n]` where example i is there `weights[:, i]` times."""
    order, starts = _ties(values)
    groups = np.add.reduceat(weights[:, order], starts, axis=1)
    of_group = np.cumsum(groups, axis=1) - groups / 2
    group = np.empty(len(values), np.int64)
    group[order] = np.repeat(np.arange(len(starts)), np.diff([*starts, len(values)]))
    return of_group[:, group]


def _ties(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order of `values`, ascending, and where in it a new value begins."""
    order = np.argsort(values, kind="stable")
    return order, np.concatenate([[0], np.flatnonzero(np.diff(values[order]) != 0) + 1])


def _mean_of_defined(values: list[np.ndarray], otherwise: float) -> np.ndarray:
    """Mean over the list of what is not NaN, `[m]`."""
    stacked = np.stack(values)
    return ratio(np.nansum(stacked, axis=0), np.sum(~np.isnan(stacked), axis=0), otherwise)
