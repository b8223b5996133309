"""What a task is measured by: its records on the device, their joining on the host, metrics with intervals, and predictions as people read them.

`measures_of(task, top_k)` is the one place that knows which measures belong to which task; training, `after`, baselines and the commands only see `Measures`.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Array

from ftjax.errors import ConfigError, did_you_mean
from ftjax.evaluation.intervals import Interval, paired_difference
from ftjax.evaluation.intervals import intervals as class_intervals
from ftjax.evaluation.metrics import Metric, all_metrics, compute_all
from ftjax.evaluation.prediction import prediction_rows
from ftjax.evaluation.records import Records, records
from ftjax.tasks import Classification

if TYPE_CHECKING:
    from ftjax.data import Split

Parts = Sequence[Mapping[str, np.ndarray]]
"""Of each batch, in any order: what `Measures.records` gave, as NumPy arrays, and the model's outputs as `logits` where they were asked for."""


class Measures(abc.ABC):
    """How predictions of one kind of task are recorded, measured and shown."""

    main: ClassVar[str]
    """The metric that chooses checkpoints where `evaluation.metric` is left open."""
    metrics: tuple[Metric, ...]
    """In the order of tables."""

    @abc.abstractmethod
    def records(self, outputs: Array, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Each example's numbers, with its `id` and `weight`; pure and jittable."""

    @abc.abstractmethod
    def gather(self, parts: Parts, split: Split) -> Records:
        """The records of all examples without padding, sorted by id.

        Raises:
          DataError: no part, or an example that came twice.
        """

    @abc.abstractmethod
    def compute_all(self, records: Records) -> dict[str, float]:
        """Every metric by name."""

    @abc.abstractmethod
    def intervals(self, records: Records, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0) -> dict[str, Interval]:
        """Every metric with its interval."""

    @abc.abstractmethod
    def rows(self, records: Records, split: Split, *, probabilities: bool = False) -> list[dict[str, Any]]:
        """Predictions as dicts, one per example in the order of the records, which were made with the outputs kept."""

    def metric(self, name: str) -> Metric:
        """The metric called `name`.

        Raises:
          ConfigError: this task has none of that name.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise ConfigError(f"unknown metric {name!r}: {did_you_mean(name, [metric.name for metric in self.metrics])}")

    def difference(self, one: Records, other: Records, metric: Metric | str, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0) -> Interval:
        """`metric(one) - metric(other)` on the same examples, with its interval."""
        chosen = self.metric(metric) if isinstance(metric, str) else metric
        return paired_difference(one, other, chosen, resamples=resamples, confidence=confidence, seed=seed)


@dataclasses.dataclass(frozen=True)
class ClassificationMeasures(Measures):
    """One label of several."""

    classes: tuple[str, ...]
    top_k: int

    main: ClassVar[str] = "accuracy"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy first."""
        return all_metrics(self.top_k)

    def records(self, outputs: Array, batch: Mapping[str, Array]) -> dict[str, Array]:
        """As `evaluation.records`."""
        return records(outputs, batch)

    def gather(self, parts: Parts, split: Split) -> Records:
        """Sorted by id."""
        joined = Records.concatenate([Records(**part) for part in parts]).drop_padding()
        return joined.take(np.argsort(joined.id, kind="stable"))

    def compute_all(self, records: Records) -> dict[str, float]:
        """Every metric by name."""
        return compute_all(records, len(self.classes), self.top_k)

    def intervals(self, records: Records, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0) -> dict[str, Interval]:
        """Every metric with its interval."""
        return class_intervals(records, len(self.classes), self.top_k, resamples=resamples, confidence=confidence, seed=seed)

    def rows(self, records: Records, split: Split, *, probabilities: bool = False) -> list[dict[str, Any]]:
        """`{"id", "label", "probability"}`, and every class's on request."""
        if records.logits is None:
            raise ValueError("predictions need records with logits")
        return prediction_rows(records.logits, [split.ids[row] for row in records.id], self.classes, probabilities=probabilities)


def measures_of(task: Any, top_k: int = 5) -> Measures:
    """The measures of a task.

    Raises:
      ConfigError: `top_k` is below 1.
    """
    if isinstance(task, Classification):
        return ClassificationMeasures(task.classes, top_k)
    raise TypeError(f"{type(task).__name__} has no measures")
