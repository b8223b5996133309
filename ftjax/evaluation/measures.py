"""What a task is measured by: its records on the device, their joining on the host, metrics with intervals, baselines, and predictions as people read them.

Training, `after`, baselines and the commands only see `Measures`; `kinds.measures_of(task, top_k)` knows which measures belong to which task.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ftjax.errors import ConfigError, did_you_mean
from ftjax.evaluation.intervals import Interval, metric_intervals, paired_difference
from ftjax.evaluation.metric import Metric, measurable
from ftjax.evaluation.select import worst
from ftjax.evaluation.table import RecordTable

if TYPE_CHECKING:
    from ftjax.data import Split

Parts = Sequence[Mapping[str, np.ndarray]]
"""Of each batch, in any order: what `Measures.records` gave, as NumPy arrays, and the model's outputs as `logits` where they were asked for."""


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A baseline on the test examples."""

    records: Any
    why: str
    """What it is, in a few words."""
    warnings: tuple[str, ...] = ()


class Measures(abc.ABC):
    """How predictions of one kind of task are recorded, measured and shown."""

    table: ClassVar[type[RecordTable]]
    """The kind of records."""
    majority_name: ClassVar[str] = "the majority class"
    """What the verdict calls the baseline that does not look at its input."""
    probes: ClassVar[bool] = False
    """Whether there is a linear probe, so whether features are worth computing."""

    @property
    @abc.abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """In the order of tables; the first one is the main one."""

    @property
    def main(self) -> str:
        """The metric that chooses checkpoints where `evaluation.metric` is left open."""
        return self.metrics[0].name

    @abc.abstractmethod
    def records(self, outputs: Any, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Each example's numbers, with its `id` and `weight`; pure and jittable."""

    @abc.abstractmethod
    def rows(self, records: Any, split: Split, *, probabilities: bool = False) -> list[dict[str, Any]]:
        """Predictions as dicts, one per example in the order of the records, which were made with the outputs kept; `id` first."""

    def gather(self, parts: Parts, split: Split) -> Any:
        """The records of all examples without padding, sorted by id.

        Args:
          parts: of all batches.
          split: where they come from; asked for what is no number, such as the texts of answers.

        Raises:
          DataError: no part, or an example that came twice.
        """
        return self.table.concatenate([self.table(**part) for part in parts]).drop_padding().by_id()

    def metric(self, name: str) -> Metric:
        """The metric called `name`.

        Raises:
          ConfigError: this task has none of that name.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise ConfigError(f"unknown metric {name!r}: {did_you_mean(name, [metric.name for metric in self.metrics])}")

    def compute_all(self, records: Any) -> dict[str, float]:
        """Every metric by name; those that need logits (`Metric.needs_logits`) only where the records have them.

        Raises:
          DataError: no example, or one that cannot be measured.
        """
        records.check()
        return {metric.name: metric(records) for metric in measurable(self.metrics, records)}

    def intervals(self, records: Any, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0) -> dict[str, Interval]:
        """Every metric with its interval, `{name: {"value", "low", "high"}}`; see `metric_intervals`."""
        return metric_intervals(records, self.metrics, resamples=resamples, confidence=confidence, seed=seed)

    def difference(self, one: Any, other: Any, metric: Metric | str, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0) -> Interval:
        """`metric(one) - metric(other)` on the same examples, with its interval; see `paired_difference`."""
        chosen = self.metric(metric) if isinstance(metric, str) else metric
        return paired_difference(one, other, chosen, resamples=resamples, confidence=confidence, seed=seed)

    def tables(self, records: Any) -> dict[str, Any]:
        """What test.json shows beside examples: a confusion matrix, counts per label or per type of entity."""
        return {}

    def errors(self, records: Any, split: Split, count: int) -> list[dict[str, Any]]:
        """The worst answers, for people: `{"id", "label", "prediction", ...}`; what the split shows of the row is not in it."""
        return [self.describe(records, int(row), split) for row in worst(records, count)]

    @abc.abstractmethod
    def describe(self, records: Any, row: int, split: Split) -> dict[str, Any]:
        """One record as people read it: `{"id", "row", "label", "prediction", ...}`; `row` is the row of the split, for `split.show`."""

    def majority(self, train: Split, test: Split) -> Baseline | None:
        """What answers without looking at the input would reach; None: nothing that makes sense."""
        return None

    def neighbours(self, train: Split, test: Split) -> Baseline | None:
        """What the nearest neighbours of the training data would reach, without a model; None: this task has none."""
        return None

    def probe(self, features: Mapping[str, np.ndarray], splits: Mapping[str, Split], seed: int = 0) -> Baseline | None:
        """A linear model on frozen features `[rows width]` of each split; None: this task has none."""
        return None

    def of_outputs(self, outputs: np.ndarray, split: Split) -> Any:
        """The records of outputs `[rows ...]` that are already on the host, for every row of a split."""
        rows = np.arange(len(split))
        batch = {"id": jnp.asarray(rows, jnp.int32), "label": jnp.asarray(split.labels), "weight": jnp.ones(len(rows), jnp.float32)}
        found = self.records(jnp.asarray(outputs, jnp.float32), batch)
        return self.gather([{name: np.asarray(values) for name, values in found.items()}], split)
