"""Metrics of classification, as frozen dataclasses, and the table of all of them.

Classes that appear neither as a label nor as a prediction count in no average, as in scikit-learn.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import scipy.special
from scipy import sparse

from ftjax.errors import ConfigError, did_you_mean
from ftjax.evaluation.metric import Mean, Metric, Proportion, SumMetric, by_class, ratio, sparse_rows
from ftjax.evaluation.rank_metrics import RankMetric, Resampler, area_resampler, auroc_slope, mean_auroc
from ftjax.evaluation.records import Records, check_labels, check_top_k


@dataclasses.dataclass(frozen=True)
class Accuracy(Proportion):
    """Share of examples whose prediction is the label."""

    name: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True

    def per_example(self, records: Records) -> np.ndarray:
        """1 where right."""
        return records.correct


@dataclasses.dataclass(frozen=True)
class TopKAccuracy(Proportion):
    """Share of examples whose label is among the `k` highest scores; ties count against the label. With `k >= classes` every finite row is a hit."""

    k: int = 5
    name: ClassVar[str] = "top_k_accuracy"
    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_top_k(self.k)

    def per_example(self, records: Records) -> np.ndarray:
        """1 where the label is among the first k."""
        return (records.label_rank < self.k) & ~records.bad


@dataclasses.dataclass(frozen=True)
class LogLoss(Mean):
    """Mean of `-log p(label)` in nats, from the log softmax itself: not clipped, where scikit-learn clips the probability at 2.2e-16."""

    name: ClassVar[str] = "log_loss"
    higher_is_better: ClassVar[bool] = False

    def per_example(self, records: Records) -> np.ndarray:
        """-log p(label)."""
        return -records.label_log_probability


@dataclasses.dataclass(frozen=True)
class ClassCounts(SumMetric):
    """Metrics of per-class sums; state (support, predicted, right) of class 0, then of class 1, and so on."""

    lowest: ClassVar[float | None] = 0.0

    def contributions(self, records: Records) -> sparse.csr_array:
        """One to the label's support, one to the prediction's count, one to `right` where they agree."""
        rows = len(records)
        classes = int(max(records.label.max(), records.prediction.max())) + 1 if rows else 0
        predicted = np.where(records.bad, 0, records.prediction)
        columns = np.stack([3 * records.label, 3 * predicted + 1, 3 * records.label + 2], axis=1)
        return sparse_rows(columns, np.stack([np.ones(rows), ~records.bad, records.correct], axis=1), 3 * classes)


@dataclasses.dataclass(frozen=True)
class BalancedAccuracy(ClassCounts):
    """Mean recall over the classes that have examples (not corrected for chance)."""

    name: ClassVar[str] = "balanced_accuracy"
    higher_is_better: ClassVar[bool] = True

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """Mean over classes of right / support."""
        support, _, right = by_class(states)
        return _mean_of_present(ratio(right, support, 0.0), support > 0)


@dataclasses.dataclass(frozen=True)
class MacroF1(ClassCounts):
    """Mean F1 over the classes that appear as a label or as a prediction, `F1 = 2 right / (support + predicted)`: 0 for a class that is never right."""

    name: ClassVar[str] = "macro_f1"
    higher_is_better: ClassVar[bool] = True
    rule: ClassVar[str] = "bias_corrected"

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """Mean over present classes of F1."""
        support, predicted, right = by_class(states)
        return _mean_of_present(ratio(2 * right, support + predicted, 0.0), support + predicted > 0)


@dataclasses.dataclass(frozen=True)
class MatthewsCorrelation(ClassCounts):
    """Correlation of labels and predictions, 1 for all right and 0 for chance (Gorodkin 2004, doi:10.1016/j.compbiolchem.2004.09.006).

    With s examples, c of them right, t_k of label k and p_k of prediction k: `(c s - sum t p) / sqrt((s^2 - sum p^2) (s^2 - sum t^2))`, 0 where that is 0/0.
    """

    name: ClassVar[str] = "mcc"
    higher_is_better: ClassVar[bool] = True
    lowest: ClassVar[float | None] = -1.0

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """From the margins and the diagonal of the confusion matrix."""
        support, predicted, right = by_class(states)
        total = support.sum(axis=1)
        # Rows without a prediction are a class of their own among the predictions.
        missing = total - predicted.sum(axis=1)
        covariance = right.sum(axis=1) * total - (support * predicted).sum(axis=1)
        spread = (total**2 - (predicted**2).sum(axis=1) - missing**2) * (total**2 - (support**2).sum(axis=1))
        return ratio(covariance, np.sqrt(np.maximum(spread, 0.0)), 0.0)


@dataclasses.dataclass(frozen=True)
class ExpectedCalibrationError(SumMetric):
    """`sum_b |right_b - confidence_b| / n` over equal-width bins `(b/bins, (b+1)/bins]` of the confidence (Guo et al. 2017, arXiv:1706.04599).

    The estimate is biased upwards, the more so the fewer examples a bin holds. State (weight, confidence, right) per bin.
    """

    bins: int = 15
    name: ClassVar[str] = "ece"
    higher_is_better: ClassVar[bool] = False
    rule: ClassVar[str] = "gap"

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise ConfigError(f"expected calibration error over {self.bins} bins; allowed: 1 or more")

    def contributions(self, records: Records) -> sparse.csr_array:
        """(1, confidence, right) to the bin of the confidence."""
        confidence = records.confidence.astype(np.float64)
        first = 3 * np.clip(np.ceil(confidence * self.bins).astype(np.int64) - 1, 0, self.bins - 1)
        values = np.stack([np.ones(len(records)), confidence, records.correct], axis=1)
        return sparse_rows(np.stack([first, first + 1, first + 2], axis=1), values, 3 * self.bins)

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """Gaps of the bins, weighted by their share of the examples."""
        weight, confidence, right = by_class(states)
        return np.abs(right - confidence).sum(axis=1) / weight.sum(axis=1)


@dataclasses.dataclass(frozen=True)
class MacroAUROC(RankMetric):
    """Mean over the classes of the area under the ROC curve of one class against the rest, by its softmax probability (scikit-learn's "ovr", "macro").

    A class that all examples have, or none, is left out. A row whose logits are not finite ranks its own class last and every other one first.
    """

    name: ClassVar[str] = "macro_auroc"
    higher_is_better: ClassVar[bool] = True
    lowest: ClassVar[float | None] = 0.0
    needs_logits: ClassVar[bool] = True

    def columns(self, records: Records) -> np.ndarray:
        """The label, then every class's probability."""
        if records.logits is None:
            raise ValueError("macro_auroc needs records with logits")
        own = np.arange(records.logits.shape[1]) == records.label[:, None]
        shares = scipy.special.softmax(np.where(records.bad[:, None], 0.0, records.logits).astype(np.float64), axis=1)
        return np.column_stack([records.label, np.where(records.bad[:, None], np.where(own, -1.0, 2.0), shares)])

    def compute_many(self, columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Mean area."""
        return mean_auroc(*_one_against_rest(columns), weights)

    def resampler(self, columns: np.ndarray) -> Resampler:
        """To first order where there are many."""
        return area_resampler(mean_auroc, auroc_slope, *_one_against_rest(columns))

    def trials(self, records: Records) -> int:
        """The examples of the rarest class that has any."""
        return int(np.unique(records.label, return_counts=True)[1].min())


def _one_against_rest(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Truth and scores of each class; of two classes both have the same area, so one is enough."""
    truth = columns[:, :1] == np.arange(columns.shape[1] - 1)
    first = 1 if truth.shape[1] == 2 else 0
    return truth[:, first:], columns[:, 1 + first :]


def all_metrics(top_k: int = 5) -> tuple[Metric, ...]:
    """Every metric that records without logits can answer, in the order of tables."""
    return (Accuracy(), TopKAccuracy(top_k), BalancedAccuracy(), MacroF1(), LogLoss(), ExpectedCalibrationError(), MatthewsCorrelation())


NAMES: dict[str, bool] = {metric.name: metric.higher_is_better for metric in all_metrics()}
"""The names of `all_metrics`, and whether higher is better."""


def metric_named(name: str, top_k: int = 5) -> Metric:
    """The metric called `name`.

    Raises:
      ConfigError: there is none.
    """
    for metric in all_metrics(top_k):
        if metric.name == name:
            return metric
    raise ConfigError(f"unknown metric {name!r}: {did_you_mean(name, NAMES)}")


def compute_all(records: Records, num_classes: int, top_k: int) -> dict[str, float]:
    """Every metric of `records` by name.

    Raises:
      DataError: no example, or a label outside `0..num_classes-1`.
    """
    check_labels(records, num_classes)
    return {metric.name: metric(records) for metric in all_metrics(top_k)}


def _mean_of_present(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Mean over the present classes, `[m classes]` -> `[m]`; absent ones have the value 0."""
    return values.sum(axis=1) / present.sum(axis=1)
