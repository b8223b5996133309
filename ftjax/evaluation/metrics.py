"""Metrics as frozen dataclasses: `get_state(records)` -> `merge` -> `compute`, in a notebook as in a run.

A state is a vector of weighted sums over examples: `state = weights @ contributions(records)`. Sums add, so states of shards merge exactly, padding (weight 0)
changes nothing, and the bootstrap is one matrix product of resampling counts with the same contributions (`intervals.py`).
Classes that appear neither as a label nor as a prediction count in no average, as in scikit-learn.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar

import numpy as np
from scipy import sparse

from ftjax.errors import ConfigError, DataError, did_you_mean
from ftjax.evaluation.records import Records, check_top_k


@dataclasses.dataclass(frozen=True)
class Metric(abc.ABC):
    """A number of a set of examples, through sums that can be merged."""

    name: ClassVar[str]
    higher_is_better: ClassVar[bool]

    @abc.abstractmethod
    def contributions(self, records: Records) -> sparse.csr_array:
        """What each example adds to the state at weight 1: `[n, state]`."""

    @abc.abstractmethod
    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """The metric of each of many states, `[m, state]` -> `[m]`."""

    def get_state(self, records: Records) -> np.ndarray:
        """The weighted sums of `records`, float64 `[state]`.

        Raises:
          DataError: an example has no label.
        """
        check_labels(records)
        rows = records.drop_padding()
        return rows.weight.astype(np.float64) @ self.contributions(rows)

    def merge(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """The state of both sets of examples together."""
        size = max(len(one), len(other))
        # States grow by whole classes at the end, so a shorter one has not seen the last classes.
        return np.pad(one, (0, size - len(one))) + np.pad(other, (0, size - len(other)))

    def compute(self, state: np.ndarray) -> float:
        """The metric of a state.

        Raises:
          DataError: the state holds no example.
        """
        if not np.any(state):
            raise DataError(f"{self.name} needs at least one example; there is none")
        return float(self.compute_many(state[None, :])[0])

    def __call__(self, records: Records) -> float:
        """`compute(get_state(records))`."""
        return self.compute(self.get_state(records))


@dataclasses.dataclass(frozen=True)
class Mean(Metric):
    """The weighted mean of one number per example; state (weight, weighted sum)."""

    @abc.abstractmethod
    def per_example(self, records: Records) -> np.ndarray:
        """The number that is averaged, `[n]`."""

    def contributions(self, records: Records) -> sparse.csr_array:
        """(1, the number)."""
        values = self.per_example(records).astype(np.float64)
        return _rows(np.broadcast_to([0, 1], (len(records), 2)), np.stack([np.ones(len(records)), values], axis=1), 2)

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """Sum over weight."""
        return states[:, 1] / states[:, 0]


class Proportion(Mean):
    """The share of examples for which something holds: 0 or 1 for each, so that intervals for proportions apply."""


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
class ClassCounts(Metric):
    """Metrics of per-class sums; state (support, predicted, right) of class 0, then of class 1, and so on."""

    def contributions(self, records: Records) -> sparse.csr_array:
        """One to the label's support, one to the prediction's count, one to `right` where they agree."""
        rows = len(records)
        classes = int(max(records.label.max(), records.prediction.max())) + 1 if rows else 0
        predicted = np.where(records.bad, 0, records.prediction)
        columns = np.stack([3 * records.label, 3 * predicted + 1, 3 * records.label + 2], axis=1)
        return _rows(columns, np.stack([np.ones(rows), ~records.bad, records.correct], axis=1), 3 * classes)


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

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """Mean over present classes of F1."""
        support, predicted, right = by_class(states)
        return _mean_of_present(ratio(2 * right, support + predicted, 0.0), support + predicted > 0)


@dataclasses.dataclass(frozen=True)
class ExpectedCalibrationError(Metric):
    """`sum_b |right_b - confidence_b| / n` over equal-width bins `(b/bins, (b+1)/bins]` of the confidence (Guo et al. 2017, arXiv:1706.04599).

    The estimate is biased upwards, the more so the fewer examples a bin holds. State (weight, confidence, right) per bin.
    """

    bins: int = 15
    name: ClassVar[str] = "ece"
    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise ConfigError(f"expected calibration error over {self.bins} bins; allowed: 1 or more")

    def contributions(self, records: Records) -> sparse.csr_array:
        """(1, confidence, right) to the bin of the confidence."""
        confidence = records.confidence.astype(np.float64)
        first = 3 * np.clip(np.ceil(confidence * self.bins).astype(np.int64) - 1, 0, self.bins - 1)
        values = np.stack([np.ones(len(records)), confidence, records.correct], axis=1)
        return _rows(np.stack([first, first + 1, first + 2], axis=1), values, 3 * self.bins)

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """Gaps of the bins, weighted by their share of the examples."""
        weight, confidence, right = by_class(states)
        return np.abs(right - confidence).sum(axis=1) / weight.sum(axis=1)


def all_metrics(top_k: int = 5) -> tuple[Metric, ...]:
    """Every metric, in the order of tables."""
    return (Accuracy(), TopKAccuracy(top_k), BalancedAccuracy(), MacroF1(), LogLoss(), ExpectedCalibrationError())


NAMES: dict[str, bool] = {metric.name: metric.higher_is_better for metric in all_metrics()}
"""Every metric's name, and whether higher is better."""


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


def check_labels(records: Records, num_classes: int | None = None) -> None:
    """Refuse examples without a label, or with one that the model has no class for; padding is not looked at.

    Raises:
      DataError: naming the first such example.
    """
    limit = np.iinfo(np.int32).max if num_classes is None else num_classes
    wrong = np.flatnonzero((records.weight > 0) & ((records.label < 0) | (records.label >= limit)))
    if len(wrong):
        allowed = "0 or more" if num_classes is None else f"0 to {num_classes - 1}"
        first = wrong[0]
        raise DataError(f"{len(wrong)} examples cannot be measured: label {records.label[first]} of example {records.id[first]}; allowed: {allowed}")


def _rows(columns: np.ndarray, values: np.ndarray, size: int) -> sparse.csr_array:
    """`[n, k]` columns and values as a sparse `[n, size]`."""
    count, each = columns.shape
    return sparse.csr_array((values.astype(np.float64).ravel(), columns.ravel(), np.arange(0, count * each + 1, each)), shape=(count, size))


def by_class(states: np.ndarray) -> np.ndarray:
    """`[m, 3 classes]` -> `[3, m, classes]`."""
    return np.moveaxis(states.reshape(len(states), -1, 3), -1, 0)


def ratio(numerator: np.ndarray, denominator: np.ndarray, otherwise: float) -> np.ndarray:
    """Numerator over denominator, `otherwise` where that is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), otherwise), where=denominator > 0)


def _mean_of_present(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Mean over the present classes, `[m classes]` -> `[m]`; absent ones have the value 0."""
    return values.sum(axis=1) / present.sum(axis=1)
