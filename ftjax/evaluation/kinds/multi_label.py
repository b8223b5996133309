"""Measures of multi-label classification: F1 over labels and over examples, whole answers, areas under curves.

A label is said where its probability is above 1/2. A row whose outputs are not all finite is wrong in every label.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Bool, Float, Float32
from scipy import sparse

from ftjax.errors import DataError
from ftjax.evaluation.linear import choose, one_against_rest
from ftjax.evaluation.measures import Baseline, Measures
from ftjax.evaluation.metric import Mean, Metric, Proportion, SumMetric, by_class, ratio
from ftjax.evaluation.rank_metrics import (
    RankMetric,
    Resampler,
    area_resampler,
    auroc_slope,
    average_precision_slope,
    mean_auroc,
    mean_average_precision,
)
from ftjax.evaluation.table import RecordTable

if TYPE_CHECKING:
    from ftjax.data import Split

SURE = 87.0
"""The logit by which a row without finite outputs misses each of its labels: finite, and as wrong as float32 can say."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MultiLabelRecords(RecordTable):
    """Per example: which labels are true (1; 0 not; -1 unknown), and every label's logit."""

    label: Float32[np.ndarray, "n classes"]
    score: Float32[np.ndarray, "n classes"]
    finite: Bool[np.ndarray, " n"]

    kind: ClassVar[str] = "multi_label"

    @property
    def said(self) -> np.ndarray:
        """Bool `[n classes]`: the probability is above 1/2."""
        return self.score > 0

    @property
    def correct(self) -> np.ndarray:
        """Bool `[n]`: every label is right."""
        return np.all(self.said == (self.label > 0.5), axis=1)

    @property
    def losses(self) -> np.ndarray:
        """Float `[n]`: mean over labels of the binary cross-entropy."""
        return np.logaddexp(0.0, np.where(self.label > 0.5, -1.0, 1.0) * self.score.astype(np.float64)).mean(axis=1)

    def check(self) -> None:
        """Refuse examples whose labels are not known."""
        unknown = np.flatnonzero((self.weight > 0) & np.any(self.label < 0, axis=1))
        if len(unknown):
            raise DataError(f"{len(unknown)} examples cannot be measured: example {self.id[unknown[0]]} has no labels")


@dataclasses.dataclass(frozen=True)
class LabelCounts(SumMetric):
    """Metrics of (support, said, right) of every label."""

    lowest: ClassVar[float | None] = 0.0

    def contributions(self, records: MultiLabelRecords) -> sparse.csr_array:
        """Three numbers for each label, and a 1 that counts the example."""
        true, said = records.label > 0.5, records.said
        counts = np.stack([true, said, true & said], axis=2).reshape(len(records), -1)
        return sparse.csr_array(np.column_stack([np.ones(len(records)), counts]))

    def label_counts(self, states: np.ndarray) -> np.ndarray:
        """`[3, m, classes]`."""
        return by_class(states[:, 1:])


@dataclasses.dataclass(frozen=True)
class MicroF1(LabelCounts):
    """F1 of all (example, label) pairs together: `2 right / (support + said)`."""

    name: ClassVar[str] = "micro_f1"
    higher_is_better: ClassVar[bool] = True

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """From the sums over labels."""
        support, said, right = self.label_counts(states).sum(axis=2)
        return ratio(2 * right, support + said, 0.0)


@dataclasses.dataclass(frozen=True)
class LabelMacroF1(LabelCounts):
    """Mean F1 over the labels that are true or said anywhere."""

    name: ClassVar[str] = "macro_f1"
    higher_is_better: ClassVar[bool] = True
    rule: ClassVar[str] = "bias_corrected"

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """Mean over present labels."""
        support, said, right = self.label_counts(states)
        return ratio(ratio(2 * right, support + said, 0.0).sum(axis=1), (support + said > 0).sum(axis=1), 0.0)


@dataclasses.dataclass(frozen=True)
class SubsetAccuracy(Proportion):
    """Share of examples whose labels are all right."""

    name: ClassVar[str] = "subset_accuracy"
    higher_is_better: ClassVar[bool] = True

    def per_example(self, records: MultiLabelRecords) -> np.ndarray:
        """1 where all are right."""
        return records.correct


@dataclasses.dataclass(frozen=True)
class LabelRanking(RankMetric):
    """Metrics of the order of examples by each label's score."""

    classes: int
    higher_is_better: ClassVar[bool] = True
    lowest: ClassVar[float | None] = 0.0

    def columns(self, records: MultiLabelRecords) -> np.ndarray:
        """Every label, then every score."""
        return np.column_stack([records.label, records.score]).astype(np.float64)

    def sides(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Truth and scores, `[n classes]` each."""
        return columns[:, : self.classes] > 0.5, columns[:, self.classes :]

    def trials(self, records: MultiLabelRecords) -> int:
        """The examples of the rarest label that has any."""
        support = (records.label > 0.5).sum(axis=0)
        return int(support[support > 0].min(initial=len(records)))


@dataclasses.dataclass(frozen=True)
class LabelMacroAUROC(LabelRanking):
    """Mean over labels of the area under the ROC curve; a label that all examples have, or none, is left out."""

    name: ClassVar[str] = "macro_auroc"

    def compute_many(self, columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Mean area."""
        return mean_auroc(*self.sides(columns), weights)

    def resampler(self, columns: np.ndarray) -> Resampler:
        """To first order where there are many."""
        return area_resampler(mean_auroc, auroc_slope, *self.sides(columns))


@dataclasses.dataclass(frozen=True)
class MeanAveragePrecision(LabelRanking):
    """Mean over labels of the average precision; a label that no example has is left out."""

    name: ClassVar[str] = "mean_average_precision"

    def compute_many(self, columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Mean of the labels'."""
        return mean_average_precision(*self.sides(columns), weights)

    def resampler(self, columns: np.ndarray) -> Resampler:
        """To first order where there are many."""
        return area_resampler(mean_average_precision, average_precision_slope, *self.sides(columns))


@dataclasses.dataclass(frozen=True)
class LabelLogLoss(Mean):
    """Mean binary cross-entropy, in nats."""

    name: ClassVar[str] = "log_loss"
    higher_is_better: ClassVar[bool] = False

    def per_example(self, records: MultiLabelRecords) -> np.ndarray:
        """Mean over labels."""
        return records.losses


@dataclasses.dataclass(frozen=True)
class MultiLabelMeasures(Measures):
    """Any number of labels per example."""

    classes: tuple[str, ...]

    table: ClassVar[type[RecordTable]] = MultiLabelRecords
    majority_name: ClassVar[str] = "the labels' frequencies"
    probes: ClassVar[bool] = True

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Micro F1 first."""
        count = len(self.classes)
        return (MicroF1(), LabelMacroF1(), SubsetAccuracy(), LabelMacroAUROC(count), MeanAveragePrecision(count), LabelLogLoss())

    def records(self, outputs: Float[Array, "batch classes"], batch: Mapping[str, Array]) -> dict[str, Array]:
        """Labels and logits; see `MultiLabelRecords`."""
        outputs = outputs.astype(jnp.float32)
        finite = jnp.all(jnp.isfinite(outputs), axis=1)
        label = batch["label"].astype(jnp.float32)
        label = label if label.ndim == 2 else jnp.full(outputs.shape, -1.0, jnp.float32)
        score = jnp.where(finite[:, None], outputs, jnp.where(label > 0.5, -SURE, SURE))
        return {"id": batch["id"].astype(jnp.int32), "weight": batch["weight"].astype(jnp.float32), "label": label, "score": score, "finite": finite}

    def rows(self, records: MultiLabelRecords, split: Split, *, probabilities: bool = False) -> list[dict[str, Any]]:
        """`{"id", "label": [names], "probability": [theirs]}`, the likeliest first, and every label's on request; None where outputs are not finite."""
        shares = scipy.special.expit(records.score.astype(np.float64))
        rows = []
        for index, known, share, said in zip(records.id, records.finite, shares, records.said):
            chosen = [int(label) for label in np.argsort(-share, kind="stable") if said[label]]
            answer = {"label": [self.classes[label] for label in chosen], "probability": [float(share[label]) for label in chosen]}
            row = {"id": split.ids[index]} | (answer if known else dict.fromkeys(answer))
            rows.append(row | ({"probabilities": dict(zip(self.classes, share.tolist())) if known else None} if probabilities else {}))
        return rows

    def tables(self, records: MultiLabelRecords) -> dict[str, Any]:
        """Counts of every label."""
        true, said = records.label > 0.5, records.said
        counts = {"support": true.sum(axis=0), "predicted": said.sum(axis=0), "right": (true & said).sum(axis=0)}
        return {"labels": [{"name": name} | {key: int(values[place]) for key, values in counts.items()} for place, name in enumerate(self.classes)]}

    def describe(self, records: MultiLabelRecords, row: int, split: Split) -> dict[str, Any]:
        """The labels that are true and those that were said."""
        index = int(records.id[row])
        label, prediction = ([name for name, held in zip(self.classes, side[row]) if held] for side in (records.label > 0.5, records.said))
        shares = scipy.special.expit(np.abs(records.score[row].astype(np.float64)))
        wrong = records.said[row] != (records.label[row] > 0.5)
        return {"id": split.ids[index], "row": index, "label": label, "prediction": prediction, "confidence": float(shares[wrong].max(initial=0.5))}

    def majority(self, train: Split, test: Split) -> Baseline:
        """Every label with its frequency in training, one example added to each side."""
        share = (np.sum(train.labels > 0.5, axis=0) + 1) / (len(train) + 2)
        outputs = np.broadcast_to(scipy.special.logit(share), (len(test), len(self.classes)))
        return Baseline(self.of_outputs(outputs, test), "every label by its frequency in training, whatever the input")

    def probe(self, features: Mapping[str, np.ndarray], splits: Mapping[str, Split], seed: int = 0) -> Baseline:
        """A logistic regression for each label, one penalty for all."""
        found = choose(one_against_rest(features, splits["train"].labels, seed), lambda outputs: self._score(outputs, splits["validation"]))
        why = f"a logistic regression for each label on the features of the model before training, l2 {found.l2:g} chosen on validation"
        return Baseline(self.of_outputs(found.test, splits["test"]), why)

    def _score(self, outputs: np.ndarray, split: Split) -> float:
        return self.metric(self.main)(self.of_outputs(outputs, split))
