"""Measures of classification: one label of several."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Array

from ftjax.evaluation.baselines import linear_probe, majority
from ftjax.evaluation.intervals import Interval
from ftjax.evaluation.measures import Baseline, Measures
from ftjax.evaluation.metric import Metric
from ftjax.evaluation.metrics import MacroAUROC, all_metrics
from ftjax.evaluation.prediction import prediction_rows
from ftjax.evaluation.records import Records, check_labels, records
from ftjax.evaluation.select import worst_errors
from ftjax.evaluation.table import RecordTable
from ftjax.evaluation.tables import confusion_matrix

if TYPE_CHECKING:
    from ftjax.data import Split


@dataclasses.dataclass(frozen=True)
class ClassificationMeasures(Measures):
    """One label of several."""

    classes: tuple[str, ...]
    top_k: int = 5

    table: ClassVar[type[RecordTable]] = Records
    probes: ClassVar[bool] = True

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy first."""
        return (*all_metrics(self.top_k), MacroAUROC())

    def records(self, outputs: Array, batch: Mapping[str, Array]) -> dict[str, Array]:
        """As `evaluation.records`."""
        return records(outputs, batch)

    def compute_all(self, records: Records) -> dict[str, float]:
        """Every metric; labels that the model has no class for are refused."""
        check_labels(records, len(self.classes))
        return super().compute_all(records)

    def intervals(self, records: Records, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0) -> dict[str, Interval]:
        """Every metric with its interval; labels that the model has no class for are refused."""
        check_labels(records, len(self.classes))
        return super().intervals(records, resamples=resamples, confidence=confidence, seed=seed)

    def rows(self, records: Records, split: Split, *, probabilities: bool = False) -> list[dict[str, Any]]:
        """`{"id", "label", "probability"}`, and every class's on request."""
        if records.logits is None:
            raise ValueError("predictions need records with logits")
        return prediction_rows(records.logits, [split.ids[row] for row in records.id], self.classes, probabilities=probabilities)

    def tables(self, records: Records) -> dict[str, Any]:
        """The confusion matrix, label by prediction."""
        return {"confusion": confusion_matrix(records, len(self.classes)).tolist()}

    def errors(self, records: Records, split: Split, count: int) -> list[dict[str, Any]]:
        """The surest mistakes."""
        return [self.describe(records, int(row), split) for row in worst_errors(records, count)]

    def describe(self, records: Records, row: int, split: Split) -> dict[str, Any]:
        """Names of label and prediction, and the confidence."""
        index, label, prediction = (int(values[row]) for values in (records.id, records.label, records.prediction))
        answer = {"label": self.classes[label] if label >= 0 else None, "prediction": self.classes[prediction] if prediction >= 0 else None}
        return {"id": split.ids[index], "row": index} | answer | {"confidence": float(records.confidence[row])}

    def majority(self, train: Split, test: Split) -> Baseline:
        """Always the most frequent training class."""
        return Baseline(majority(train.labels, test.labels, len(self.classes)), "always the most frequent training class")

    def probe(self, features: Mapping[str, np.ndarray], splits: Mapping[str, Split], seed: int = 0) -> Baseline:
        """Multinomial logistic regression on frozen features."""
        train, validation, test = (splits[name].labels for name in ("train", "validation", "test"))
        found = linear_probe(features["train"], train, features["validation"], validation, features["test"], len(self.classes), seed)
        why = f"logistic regression on the features of the model before training, l2 {found.l2:g} chosen on validation"
        stopped = ", ".join(f"{l2:g}" for l2 in found.unconverged)
        warnings = (f"the linear probe stopped before it converged at l2 {stopped}",) if stopped else ()
        return Baseline(Records.from_logits(found.logits, test), why, warnings)
