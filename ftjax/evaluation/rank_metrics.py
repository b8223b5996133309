"""Metrics of an order: areas under curves and rank correlation. They are no sums over examples, so their state is the examples themselves.

All of them take weights `[m n]`, many weightings of the same n examples at once, so that a bootstrap is a few passes over arrays and no loop over resamples.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ftjax.errors import DataError
from ftjax.evaluation.metric import Metric, ratio

FEW = 48
"""Up to so many positives each is compared with every example, which is a product of matrices; above, examples are sorted and summed up."""

CELLS = 10_000
"""Examples times columns above which resamples of areas are taken to first order: exactly they would take seconds to minutes, and with so many the ends of the
two intervals differed by at most 5 % of their width."""

Resampler = Callable[[np.ndarray], np.ndarray]
"""The metric under many weightings, `[m, n]` -> `[m]`."""


@dataclasses.dataclass(frozen=True)
class RankMetric(Metric):
    """A metric of columns; state `[n, 1 + columns]`, a row per example with its weight first."""

    @abc.abstractmethod
    def columns(self, records: Any) -> np.ndarray:
        """What is known of each example, float64 `[n, columns]`."""

    @abc.abstractmethod
    def compute_many(self, columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The metric under each of many weightings, `[n, columns]` and `[m, n]` -> `[m]`."""

    def resampler(self, columns: np.ndarray) -> Resampler:
        """`compute_many` of these columns; where that is slow, close to it."""
        return functools.partial(self.compute_many, columns)

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


def area_resampler(area: Callable[..., np.ndarray], slope: Callable[..., np.ndarray], truth: np.ndarray, scores: np.ndarray) -> Resampler:
    """The mean area over columns under many weightings; of more than `CELLS` cells its tangent at equal weights, kept in 0..1.

    An area f does not change when all weights are scaled, so f(w) is about `f(1) + n * sum_i w_i f'_i / sum_i w_i`: the infinitesimal jackknife (Efron 1982).

    Args:
      area: `mean_auroc` or `mean_average_precision`.
      slope: the derivative of one column's area with respect to the weights, `auroc_slope` or `average_precision_slope`.
      truth: bool `[n, columns]`.
      scores: float `[n, columns]`.
    """
    if truth.size <= CELLS:
        return functools.partial(area, truth, scores)
    value = area(truth, scores, np.ones((1, len(truth))))
    slopes = [slope(truth[:, column], scores[:, column]) for column in range(truth.shape[1]) if 0 < truth[:, column].sum() < len(truth)]
    tangent = np.mean(slopes, axis=0) * len(truth) if slopes else np.zeros(len(truth))
    return lambda weights: np.clip(value + weights @ tangent / weights.sum(axis=1), 0.0, 1.0)


def auroc_slope(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Derivative of `auroc` with respect to the weights where all are 1: each example's share of pairs won, less the area, over the size of its side."""
    order, starts = _ties(scores)
    positives, negatives = (np.add.reduceat(side[order].astype(float), starts) for side in (truth, ~truth))
    below, above = np.cumsum(negatives) - negatives / 2, positives.sum() - np.cumsum(positives) + positives / 2
    sizes = np.diff([*starts, len(scores)])
    won = np.empty((2, len(scores)))
    won[:, order] = np.repeat([above / positives.sum(), below / negatives.sum()], sizes, axis=1)
    area = float(won[1][truth].mean())
    return np.where(truth, (won[1] - area) / positives.sum(), (won[0] - area) / negatives.sum())


def average_precision_slope(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Derivative of `average_precision` with respect to the weights where all are 1.

    With P positives, TP_g and N_g positives and examples down to threshold g, and p_g positives at it, AP = sum_g p_g TP_g / (N_g P), so that
    d/dw_j = [j positive] (TP_g(j) / N_g(j) - AP) / P + 1/P sum_(g at or below j) p_g ([j positive] / N_g - TP_g / N_g^2).
    """
    order, starts = _ties(-scores)
    found = np.add.reduceat(truth[order].astype(float), starts)
    sizes = np.diff([*starts, len(scores)])
    hits, seen, total = np.cumsum(found), np.cumsum(sizes), found.sum()
    value = float((found * hits / seen).sum() / total)
    later = [np.cumsum(terms[::-1])[::-1] for terms in (found / seen, found * hits / seen**2)]
    positive, negative = (hits / seen - value + later[0] - later[1]) / total, -later[1] / total
    slope = np.empty(len(scores))
    slope[order] = np.where(truth[order], np.repeat(positive, sizes), np.repeat(negative, sizes))
    return slope


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
