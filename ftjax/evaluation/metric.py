"""What a metric is: `get_state(records)` -> `merge` -> `compute`, in a notebook as in a run.

The state of most metrics is a vector of weighted sums over examples: `state = weights @ contributions(records)`. Sums add, so states of shards merge exactly,
padding (weight 0) changes nothing, and the bootstrap is one matrix product of resampling counts with the same contributions (`intervals.py`).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from ftjax.errors import DataError
from ftjax.evaluation.table import RecordTable


@dataclasses.dataclass(frozen=True)
class Metric(abc.ABC):
    """A number of a set of examples, through states that can be merged."""

    name: ClassVar[str]
    higher_is_better: ClassVar[bool]
    rule: ClassVar[str] = "percentile"
    """How its interval is made (`intervals.py`): "percentile", "bias_corrected", "wilson" or "gap"."""
    lowest: ClassVar[float | None] = None
    """Where its range ends, below 1; None: it has none. A bootstrap says nothing about a value at an end of the range."""
    needs_logits: ClassVar[bool] = False
    """Whether it reads the records' logits, which are kept on request only."""

    @abc.abstractmethod
    def get_state(self, records: Any) -> np.ndarray:
        """What is known of `records`, padding left out.

        Raises:
          DataError: an example cannot be measured.
        """

    @abc.abstractmethod
    def merge(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """The state of both sets of examples together."""

    @abc.abstractmethod
    def compute(self, state: np.ndarray) -> float:
        """The metric of a state.

        Raises:
          DataError: the state holds no example.
        """

    def trials(self, records: Any) -> int:
        """How many independent chances to be wrong a perfect value rests on."""
        return len(records)

    def __call__(self, records: Any) -> float:
        """`compute(get_state(records))`."""
        return self.compute(self.get_state(records))


@dataclasses.dataclass(frozen=True)
class SumMetric(Metric):
    """A metric whose state is a vector of weighted sums over examples."""

    @abc.abstractmethod
    def contributions(self, records: Any) -> sparse.csr_array:
        """What each example adds to the state at weight 1: `[n, state]`."""

    @abc.abstractmethod
    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """The metric of each of many states, `[m, state]` -> `[m]`."""

    def get_state(self, records: Any) -> np.ndarray:
        """The weighted sums of `records`, float64 `[state]`."""
        records.check()
        rows = records.drop_padding()
        return rows.weight.astype(np.float64) @ self.contributions(rows)

    def merge(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Their sum."""
        size = max(len(one), len(other))
        # States grow by whole classes at the end, so a shorter one has not seen the last classes.
        return np.pad(one, (0, size - len(one))) + np.pad(other, (0, size - len(other)))

    def compute(self, state: np.ndarray) -> float:
        """The metric of a state."""
        if not np.any(state):
            raise DataError(f"{self.name} needs at least one example; there is none")
        return float(self.compute_many(state[None, :])[0])


@dataclasses.dataclass(frozen=True)
class Ratio(SumMetric):
    """A weighted sum over another; state (denominator, numerator). 0 where the denominator is."""

    @abc.abstractmethod
    def per_example(self, records: Any) -> tuple[np.ndarray, np.ndarray]:
        """Denominators and numerators, `[n]` each."""

    def contributions(self, records: Any) -> sparse.csr_array:
        """(denominator, numerator)."""
        return sparse_rows(np.broadcast_to([0, 1], (len(records), 2)), np.stack(self.per_example(records), axis=1), 2)

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """Numerator over denominator."""
        return ratio(states[:, 1], states[:, 0], 0.0)


@dataclasses.dataclass(frozen=True)
class Mean(SumMetric):
    """The weighted mean of one number per example; state (weight, weighted sum)."""

    @abc.abstractmethod
    def per_example(self, records: Any) -> np.ndarray:
        """The number that is averaged, `[n]`."""

    def contributions(self, records: Any) -> sparse.csr_array:
        """(1, the number)."""
        values = self.per_example(records).astype(np.float64)
        return sparse_rows(np.broadcast_to([0, 1], (len(records), 2)), np.stack([np.ones(len(records)), values], axis=1), 2)

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """Sum over weight."""
        return states[:, 1] / states[:, 0]


class Proportion(Mean):
    """The share of examples for which something holds: 0 or 1 for each, so that intervals for proportions apply."""

    rule: ClassVar[str] = "wilson"
    lowest: ClassVar[float | None] = 0.0


def measurable(metrics: Sequence[Metric], records: RecordTable) -> tuple[Metric, ...]:
    """Those that these records can answer: without logits, the ones that need none."""
    return tuple(metric for metric in metrics if not metric.needs_logits or records.logits is not None)


def sparse_rows(columns: np.ndarray, values: np.ndarray, size: int) -> sparse.csr_array:
    """`[n, k]` columns and values as a sparse `[n, size]`."""
    count, each = columns.shape
    return sparse.csr_array((values.astype(np.float64).ravel(), columns.ravel(), np.arange(0, count * each + 1, each)), shape=(count, size))


def by_class(states: np.ndarray) -> np.ndarray:
    """`[m, 3 classes]` -> `[3, m, classes]`."""
    return np.moveaxis(states.reshape(len(states), -1, 3), -1, 0)


def ratio(numerator: np.ndarray, denominator: np.ndarray, otherwise: float) -> np.ndarray:
    """Numerator over denominator, `otherwise` where that is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), otherwise), where=denominator > 0)
